package executor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/supervise"
)

// Sweep kills what earlier processes of this node left running. What this one
// runs is kept, and nothing else can be: keep has no say.
func (p *Process) Sweep(ctx context.Context, _ func(fsm.AttemptRef) bool) error {
	recorded, err := p.recorded(ctx)
	if err != nil {
		return err
	}
	if p.Limits() {
		if err := p.cgroups.sweep(groupName(p.cfg.Node), p.has); err != nil {
			return err
		}
	}
	killed, err := supervise.KillAll(func(proc supervise.Proc) bool {
		if p.left(proc.Environ()) {
			return true
		}
		for dir, match := range recorded {
			if match(proc) && !p.running(dir) {
				return true
			}
		}
		return false
	})
	if killed > 0 {
		p.log.Info("killed processes that an earlier narwhal left", "count", killed)
	}
	return err
}

// has reports whether the attempt runs here.
func (p *Process) has(ref fsm.AttemptRef) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.runs[ref] != nil
}

// running reports whether the attempt of the folder named dir runs here.
func (p *Process) running(dir string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for ref := range p.runs {
		if dir == fmt.Sprintf("%s-%d", ref.Job, ref.N) {
			return true
		}
	}
	return false
}

// left reports whether the environment is that of an attempt of this node that
// doesn't run.
func (p *Process) left(environ []string) bool {
	got := make(map[string]string, len(identity))
	for _, entry := range environ {
		key, value, _ := strings.Cut(entry, "=")
		got[key] = value
	}
	if p.cfg.Node == "" || got["NARWHAL_NODE_ID"] != string(p.cfg.Node) {
		return false
	}
	ref, err := parseRef(got["NARWHAL_JOB"], got["NARWHAL_ATTEMPT"], got["NARWHAL_FENCE_TOKEN"])
	return err == nil && !p.has(ref)
}

// recorded matches, by attempt's folder, the sessions that journals without an end
// name: also those of processes that threw their environment away.
func (p *Process) recorded(ctx context.Context) (map[string]func(supervise.Proc) bool, error) {
	if p.cfg.Attempts == "" {
		return nil, nil
	}
	dirs, err := os.ReadDir(p.cfg.Attempts)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("sweep: %w", err)
	}
	matches := make(map[string]func(supervise.Proc) bool)
	for _, dir := range dirs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		records, err := supervise.ReadJournal(filepath.Join(p.cfg.Attempts, dir.Name(), supervise.JournalFile))
		if err != nil {
			return nil, fmt.Errorf("sweep: %w", err)
		}
		if len(records) > 0 && !supervise.Has(records, supervise.RecordEnd) {
			matches[dir.Name()] = supervise.Recorded(records)
		}
	}
	return matches, nil
}
