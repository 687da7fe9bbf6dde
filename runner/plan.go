package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/pipeline"
)

// fileNames are where a repository keeps its file, the first that is there.
func fileNames() []string { return []string{"narwhal.yml", ".narwhal.yml"} }

// maxPlan keeps a plan, in bytes, well inside one entry of the replicated log,
// which takes 256 KiB.
const maxPlan = 192 << 10

// plan reads the commit's file and makes the build's jobs of it.
func (r *Runner) plan(a *attempt, words *words) (fsm.Outcome, error) {
	select {
	case r.plans <- struct{}{}:
		defer func() { <-r.plans }()
	case <-a.prep.Done():
		return errored(errStopped, fsm.CauseNodeLost), nil
	}
	r.mu.Lock()
	if a.state == running {
		r.out.put(link.Report{Ref: a.ref, Started: true})
	}
	r.mu.Unlock()
	words.say("node %s (%s), attempt %s, planning %s", r.cfg.Node.Name, r.cfg.Node.ID, a.ref, a.work.Commit.SHA)
	began := time.Now()
	if err := r.cfg.Checkout.Ensure(a.prep, a.work.Commit); err != nil {
		return errored(err, fsm.CauseCheckout), nil
	}
	words.say("commit is here after %d ms", time.Since(began).Milliseconds())
	name, data, err := r.readFile(a)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errored(err, fsm.CauseConfig), nil
	case err != nil:
		return errored(err, fsm.CauseCheckout), nil
	}
	p, err := pipeline.Parse(name, data, pipeline.Options{DefaultImage: r.cfg.DefaultImage})
	if err != nil {
		return fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseConfig, Message: err.Error()}, nil
	}
	if encoded, err := cbor.Marshal(p); err != nil || len(encoded) > maxPlan {
		return fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseConfig,
			Message: fmt.Sprintf("%s: written out it has %d bytes, the most is %d", name, len(encoded), maxPlan)}, nil
	}
	words.say("%s: %d jobs", name, len(p.Jobs))
	return fsm.Outcome{Status: fsm.Passed, Plan: &p}, nil
}

func (r *Runner) readFile(a *attempt) (name string, data []byte, err error) {
	names := fileNames()
	for _, name := range names {
		data, err := r.cfg.Checkout.ReadFile(a.prep, a.work.Commit, name)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return name, data, err
		}
	}
	return "", nil, fmt.Errorf("commit %s has neither %s nor %s at its root: %w", a.work.Commit.SHA, names[0], names[1], fs.ErrNotExist)
}
