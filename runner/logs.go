package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog"
)

// Logs are the logs of the attempts that have run on this node, those that run
// now and those that are kept.
type Logs struct{ r *Runner }

// Logs gives access to them, from any goroutine.
func (r *Runner) Logs() Logs { return Logs{r} }

// Path is the log's file, ErrNoLog where this node has none.
func (l Logs) Path(job fsm.JobID, n int) (string, error) {
	path := filepath.Join(l.r.dir(fsm.AttemptRef{Job: job, N: n}), logFile)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("log of %s, attempt %d: %w", job, n, ErrNoLog)
	}
	return path, nil
}

// Open reads from a byte offset to what the log's end is now.
func (l Logs) Open(job fsm.JobID, n int, offset int64) (*joblog.Reader, error) {
	path, err := l.Path(job, n)
	if err != nil {
		return nil, err
	}
	return joblog.Open(path, offset)
}

// Follow gives the lines from a byte offset on, and then each as it is written,
// until the attempt has ended or ctx does.
func (l Logs) Follow(ctx context.Context, job fsm.JobID, n int, offset int64) (iter.Seq2[joblog.Line, error], error) {
	path, err := l.Path(job, n)
	if err != nil {
		return nil, err
	}
	return joblog.Follow(ctx, path, offset, l.Done(job, n)), nil
}

// Done is closed when nothing more is written to the attempt's log here.
func (l Logs) Done(job fsm.JobID, n int) <-chan struct{} {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	for ref, a := range l.r.attempts {
		if ref.Job == job && ref.N == n {
			return a.done
		}
	}
	over := make(chan struct{})
	close(over)
	return over
}

const tidyEvery = 10 * time.Minute

// tidy removes what attempts have left in their folders besides their logs, which a
// crash has kept them from doing, and the logs that are beyond the budget. It never
// touches what is alive, nor a log that is not acknowledged.
func (r *Runner) tidy(ctx context.Context) error {
	ticker := time.NewTicker(tidyEvery)
	defer ticker.Stop()
	for {
		r.tidyOnce(ctx, time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (r *Runner) tidyOnce(ctx context.Context, now time.Time) {
	root := filepath.Join(r.cfg.Dir, "attempts")
	entries, err := os.ReadDir(root)
	if err != nil {
		r.log.Warn("look for old logs", "error", err)
		return
	}
	for _, e := range entries {
		if ctx.Err() != nil {
			return
		}
		if r.holds(e.Name(), state.alive) {
			continue
		}
		dir := filepath.Join(root, e.Name())
		r.clearFolder(dir)
		if _, err := os.Stat(filepath.Join(dir, logFile)); errors.Is(err, fs.ErrNotExist) && !r.holds(e.Name(), func(state) bool { return true }) {
			r.remove(dir) // its log is sealed
		}
	}
	kept, err := r.keptLogs(ctx)
	if err != nil {
		r.log.Warn("look for old logs", "error", err)
	}
	for _, name := range expired(kept, now.Add(-r.cfg.LogAge), r.cfg.LogBytes, r.cfg.LogCount) {
		r.remove(filepath.Join(root, name))
	}
}

// keptLogs are the folders of attempts that are closed, which none becomes again.
func (r *Runner) keptLogs(ctx context.Context) (kept []keptLog, err error) {
	root := filepath.Join(r.cfg.Dir, "attempts")
	entries, err := os.ReadDir(root)
	for _, e := range entries {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		info, err := e.Info()
		if err != nil || r.holds(e.Name(), func(state) bool { return true }) {
			continue
		}
		kept = append(kept, keptLog{name: e.Name(), bytes: dirSize(filepath.Join(root, e.Name())), at: info.ModTime()})
	}
	return kept, err
}

func (r *Runner) remove(path string) {
	if err := removeTree(path, r.trash()); err != nil {
		r.log.Warn("remove leftovers", "path", path, "error", err)
	}
}

// holds reports whether the folder is that of an attempt which isn't closed, and in
// a state that counts.
func (r *Runner) holds(name string, counts func(state) bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for ref, a := range r.attempts {
		if filepath.Base(r.dir(ref)) == name && counts(a.state) {
			return true
		}
	}
	return false
}

type keptLog struct {
	name  string
	bytes int64
	at    time.Time // last written to its folder
}

// expired names the folders to remove: all before oldest, then the oldest ones
// until the rest is within both budgets.
func expired(kept []keptLog, oldest time.Time, bytes int64, count int) []string {
	slices.SortFunc(kept, func(a, b keptLog) int { // newest first
		return cmp.Or(b.at.Compare(a.at), strings.Compare(b.name, a.name))
	})
	var out []string
	var sum int64
	for i, k := range kept {
		sum += k.bytes
		if i >= count || sum > bytes || k.at.Before(oldest) {
			out = append(out, k.name)
		}
	}
	return out
}

// dirSize is what a folder takes of the disk. A job can make its log as long as it
// likes at no cost, with a hole: that is not to take others' logs away.
func dirSize(dir string) int64 {
	var n int64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // it is being removed
		}
		if info, err := d.Info(); err == nil {
			size := info.Size()
			if stat, ok := info.Sys().(*syscall.Stat_t); ok {
				size = min(size, stat.Blocks*512)
			}
			n += size
		}
		return nil
	})
	return n
}
