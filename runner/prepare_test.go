package runner

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
)

// ready is an executor that brings the attempt's folder.
type ready struct {
	*machine
	t                  *testing.T
	prepared, released atomic.Int32
}

func (r *ready) Prepare(t executor.Task) func() {
	r.prepared.Add(1)
	if err := os.Mkdir(t.Dir, 0o755); err != nil {
		r.t.Errorf("the folder is not its own to bring: %v", err)
	}
	if err := os.WriteFile(filepath.Join(t.Dir, "brought"), nil, 0o600); err != nil {
		r.t.Error(err)
	}
	return func() { r.released.Add(1) }
}

func TestPreparesBeforeTheFolderIsMade(t *testing.T) {
	n := newNode(t)
	r := &ready{machine: n.m, t: t}
	n.adjust = func(c *Config) { c.Executor = r }
	n.start()
	a := ref(1, 1, 7)
	n.leader.want(job(a))
	run := n.m.awaitRun(t, a)
	if _, err := os.Stat(filepath.Join(run.task.Dir, "brought")); err != nil {
		t.Error(err)
	}
	n.m.exit(a, passed())
	n.leader.awaitOutcome(t, a)
	n.settled()
	n.end()
	if p, q := r.prepared.Load(), r.released.Load(); p != 1 || q != 1 {
		t.Errorf("prepared %d times, released %d times", p, q)
	}
}

func TestReleasesWhatIsNotStarted(t *testing.T) {
	n := newNode(t)
	r := &ready{machine: n.m, t: t}
	n.adjust = func(c *Config) { c.Executor = r }
	n.files.ensure = func(context.Context) error { return errors.New("no such repository") }
	n.start()
	a := ref(1, 1, 7)
	n.leader.want(job(a))
	if o := n.leader.awaitOutcome(t, a); o.Status != fsm.Errored || o.Cause != fsm.CauseCheckout {
		t.Errorf("outcome is %+v", o)
	}
	n.settled()
	n.end()
	if p, q := r.prepared.Load(), r.released.Load(); p != 1 || q != 1 {
		t.Errorf("prepared %d times, released %d times", p, q)
	}
}
