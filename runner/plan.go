package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/pipeline"
)

// fileNames are where a repository keeps its file, the first that is there.
func fileNames() []string { return []string{"narwhal.yml", ".narwhal.yml"} }

const (
	// maxPlan keeps a plan, in bytes, well inside one entry of the replicated log,
	// which takes 256 KiB.
	maxPlan = pipeline.MaxPacked
	// maxPlain is the most bytes that travel as they are: packing takes time, and
	// nodes of older versions can't unpack.
	maxPlain = 64 << 10
)

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
	p, err := r.planOf(a, name, data)
	switch {
	case errors.Is(err, errChanged):
		return errored(err, fsm.CauseCheckout), nil
	case err != nil:
		return errored(err, fsm.CauseConfig), nil
	}
	o, err := planned(name, p)
	if err != nil {
		return errored(err, fsm.CauseConfig), nil
	}
	if a.work.Commit.Untold() {
		message, author, err := r.cfg.Checkout.Describe(a.prep, a.work.Commit)
		if err != nil {
			return errored(err, fsm.CauseCheckout), nil
		}
		o.Text = &fsm.CommitText{Message: message, Author: author}
	}
	words.say("%s: %d jobs", name, len(p.Jobs))
	return o, nil
}

// planned is the outcome that brings a plan.
func planned(name string, p pipeline.Pipeline) (fsm.Outcome, error) {
	written, err := p.Written()
	if err != nil {
		return fsm.Outcome{}, err
	}
	if len(written) <= maxPlain {
		return fsm.Outcome{Status: fsm.Passed, Plan: &p}, nil
	}
	packed, err := p.Pack()
	if err != nil {
		return fsm.Outcome{}, err
	}
	if len(written) > pipeline.MaxWritten || len(packed) > maxPlan { // by what the operator adds
		return fsm.Outcome{}, fmt.Errorf("%s: its jobs have %d bytes written out and %d packed: at most %d and %d are allowed",
			name, len(written), len(packed), pipeline.MaxWritten, maxPlan)
	}
	return fsm.Outcome{Status: fsm.Passed, Packed: packed}, nil
}

// errChanged is returned when git can't say what a commit changes.
var errChanged = errors.New("look for what the commit changes")

// planOf makes the build's jobs of the commit's file.
func (r *Runner) planOf(a *attempt, name string, data []byte) (pipeline.Pipeline, error) {
	var none pipeline.Pipeline
	file, err := pipeline.Read(name, data, pipeline.Options{DefaultImage: r.cfg.DefaultImage})
	if err != nil {
		return none, err
	}
	facts := factsOf(a)
	if file.WantsPaths {
		if facts.Changed, facts.ChangedKnown, err = r.cfg.Checkout.Changed(a.prep, a.work.Commit); err != nil {
			return none, fmt.Errorf("%w: %w", errChanged, err)
		}
	}
	p, err := file.Plan(facts)
	if err != nil {
		return none, err
	}
	if r.cfg.Adjust != nil {
		if err := r.cfg.Adjust(&p); err != nil {
			return none, err
		}
	}
	return p, nil
}

// factsOf gives what is known of the attempt's commit, but for what it changes.
func factsOf(a *attempt) pipeline.Facts {
	c := a.work.Commit
	facts := pipeline.Facts{
		Repo: c.Repo, Commit: c.SHA, Ref: c.Ref, Branch: c.Branch(), Tag: c.Tag(), Base: c.Base,
		Event: string(c.Event), Build: strconv.FormatUint(uint64(a.ref.Job.Build), 10), Inputs: a.work.Inputs,
	}
	if c.PullRequest != 0 {
		facts.PullRequest = strconv.Itoa(c.PullRequest)
	}
	return facts
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
