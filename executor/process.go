package executor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/supervise"
)

// ProcessConfig is the operator's.
type ProcessConfig struct {
	Node fsm.NodeID
	// Attempts is the folder of the attempts' folders, in which Sweep reads what
	// an earlier narwhal started.
	Attempts string
	// Env is all that steps get to see of this machine's environment, as
	// KEY=VALUE. Empty gives a usual PATH, and / as HOME.
	Env []string
	// Nice is how much lower than narwhal's own the steps' priority is; 5 where 0.
	Nice int
	// OOMScore is the steps' oom_score_adj, from 1 to 1000; 500 where 0.
	OOMScore int
	Grace    time.Duration // between TERM and KILL; 10 s where 0
	LogLimit int64         // of a job in bytes; 64 MiB where 0
}

// Process runs steps as plain processes of this machine, in the workspace, as
// narwhal's own user. There is no isolation: neither the memory nor the processor
// time that a job asked for is enforced, and nothing is installed. What a job
// leaves behind is killed, unless it has left its session, given up its output and
// changed its environment, all three: that one gets away.
type Process struct {
	cfg ProcessConfig
	log *slog.Logger

	jobs sync.WaitGroup
	mu   sync.Mutex
	runs map[fsm.AttemptRef]*processRun
	shut bool
}

var _ Executor = (*Process)(nil)

// NewProcess makes one. Close ends what it has started.
func NewProcess(cfg ProcessConfig, log *slog.Logger) *Process {
	if len(cfg.Env) == 0 {
		cfg.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/"}
	}
	if cfg.Nice == 0 {
		cfg.Nice = 5
	}
	if cfg.OOMScore == 0 {
		cfg.OOMScore = 500
	}
	if cfg.Grace == 0 {
		cfg.Grace = supervise.DefaultGrace
	}
	log.Warn("jobs run as processes of this machine: there is no isolation, and limits of memory and CPU are not enforced")
	return &Process{cfg: cfg, log: log, runs: make(map[fsm.AttemptRef]*processRun)}
}

// Name is "process".
func (p *Process) Name() string { return "process" }

// Start runs the attempt within this process.
func (p *Process) Start(ctx context.Context, t Task) (Run, error) {
	if err := errors.Join(t.check(), ctx.Err()); err != nil {
		return nil, err
	}
	spec := task(t, t.Workspace, p.cfg.Env, p.cfg.Grace, p.cfg.LogLimit)
	spec.Nice, spec.OOMScore = p.cfg.Nice, p.cfg.OOMScore
	spec.Where = fmt.Sprintf("node %s", t.Node)
	life, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	r := &processRun{cancel: cancel, done: make(chan struct{}), now: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shut || p.runs[t.Ref] != nil {
		cancel(nil)
		return nil, fmt.Errorf("start attempt %s: it runs already, or this executor is closed", t.Ref)
	}
	p.runs[t.Ref] = r
	p.jobs.Go(func() {
		defer cancel(nil)
		r.outcome, r.err = supervise.Run(life, spec, t.log(), t.journal())
		p.mu.Lock()
		delete(p.runs, t.Ref)
		p.mu.Unlock()
		close(r.done)
	})
	return r, nil
}

// Adopt finds nothing: an attempt ends with the narwhal that runs it. Its processes
// don't, if that was killed, so they are ended before anyone hears that it is gone,
// and runs it elsewhere.
func (p *Process) Adopt(ctx context.Context, t Task) (Run, error) {
	if err := p.Sweep(ctx, nil); err != nil {
		return nil, fmt.Errorf("adopt attempt %s: %w", t.Ref, err)
	}
	return nil, fmt.Errorf("adopt attempt %s: %w: processes don't outlive the narwhal that runs them", t.Ref, ErrGone)
}

// Close stops every attempt and waits for their ends.
func (p *Process) Close() error {
	p.mu.Lock()
	p.shut = true
	for _, r := range p.runs {
		r.cancel(&supervise.Stop{Grace: p.cfg.Grace, Now: r.now})
	}
	p.mu.Unlock()
	p.jobs.Wait()
	return nil
}

// Sweep kills what earlier processes of this node left running. What this one
// runs is kept, and nothing else can be: keep has no say.
func (p *Process) Sweep(ctx context.Context, _ func(fsm.AttemptRef) bool) error {
	recorded, err := p.recorded(ctx)
	if err != nil {
		return err
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
	p.mu.Lock()
	defer p.mu.Unlock()
	return err == nil && p.runs[ref] == nil
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

type processRun struct {
	cancel context.CancelCauseFunc
	now    chan struct{}
	once   sync.Once
	done   chan struct{}

	outcome fsm.Outcome // with err, once done is closed
	err     error
}

func (r *processRun) Wait(ctx context.Context) (fsm.Outcome, error) {
	select {
	case <-r.done:
		return r.outcome, r.err
	case <-ctx.Done():
		return fsm.Outcome{}, ctx.Err()
	}
}

func (r *processRun) Stop(ctx context.Context, grace time.Duration) error {
	r.cancel(&supervise.Stop{Grace: grace, Now: r.now})
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-timer.C:
		r.once.Do(func() { close(r.now) })
	case <-r.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
