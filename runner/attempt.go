package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
)

var (
	errStopped = errors.New("stopped")
	errLeft    = errors.New("left for the next start of narwhal")
)

// attempt is one that this node has, until it is closed.
type attempt struct {
	ref   fsm.AttemptRef
	work  link.Work
	stops chan time.Duration // graces; the executor's run is stopped with each
	asks  chan struct{}      // holds a token when there may be new decisions
	done  chan struct{}      // closed when nothing more is written to its log
	begun bool               // an earlier start of this node has started its process, or may have

	// life ends when this process lets go of the attempt without ending it;
	// prep, inside it, when the attempt is stopped before its steps run.
	life, prep context.Context // an attempt's life is no call's
	leave      context.CancelCauseFunc
	unprep     context.CancelCauseFunc

	// Under Runner.mu.
	state   state
	started bool // the executor has it, or may have it

	decisions []fsm.StepDecision
}

func newAttempt(ref fsm.AttemptRef, work link.Work) *attempt {
	return &attempt{ref: ref, work: work, state: running, stops: make(chan time.Duration, 4), asks: make(chan struct{}, 1), done: make(chan struct{})}
}

// bind gives the attempt its life, inside ctx.
func (a *attempt) bind(ctx context.Context) {
	a.life, a.leave = context.WithCancelCause(ctx)
	a.prep, a.unprep = context.WithCancelCause(a.life)
}

// halt moves the attempt on to a state in which it is being stopped, under
// Runner.mu.
func (a *attempt) halt(to state, grace time.Duration) {
	if !a.state.alive() || a.state >= to {
		return
	}
	a.state = to
	select {
	case a.stops <- grace:
	default: // there are not as many states as there is room
	}
	if !a.started {
		a.unprep(errStopped)
	}
}

// adopt goes on with what an earlier start of this node has left.
func (r *Runner) adopt(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.attempts {
		if a.state.alive() {
			a.bind(ctx)
			// Until it is known to be gone, it is there: it can be left again,
			// but not just be forgotten.
			a.started = a.work.Kind == fsm.KindRun
			r.live.Go(func() { r.runAttempt(a, true) })
		}
	}
}

// runAttempt is an attempt's life, from after it is on the disk.
func (r *Runner) runAttempt(a *attempt, adopted bool) {
	defer a.leave(nil)
	if !adopted {
		defer r.prepare(a)()
	}
	words := r.words(a)
	o, left := r.perform(a, words, adopted)
	if left != nil {
		words.close()
		close(a.done)
		return
	}
	err := r.finish(a, o, words)
	close(a.done)
	if err != nil {
		r.fail(err)
		return
	}
	r.clear(a.ref)
	token(r.freed)
	if o.Cause == fsm.CauseNodeLost { // the executor may have lost sight of it
		token(r.litter)
	}
}

// prepare has the executor make ready what it can before the attempt's folder is made.
func (r *Runner) prepare(a *attempt) (release func()) {
	p, ok := r.cfg.Executor.(preparer)
	if !ok || a.work.Kind != fsm.KindRun || a.work.Spec == nil {
		return func() {}
	}
	return p.Prepare(r.task(a))
}

// perform does the work. Its error is errLeft, where there is no outcome yet.
func (r *Runner) perform(a *attempt, words *words, adopted bool) (fsm.Outcome, error) {
	var o fsm.Outcome
	var err error
	switch {
	case a.work.Kind == fsm.KindPlan:
		// A plan only reads, so that after a restart it is simply made again.
		o, err = r.plan(a, words)
	case a.work.Spec == nil:
		return fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseConfig, Message: "the leader gave no steps to run"}, nil
	case adopted:
		o, err = r.resume(a, words)
	default:
		o, err = r.runJob(a, words)
	}
	// What passed or failed did so whatever became of this process; an error may
	// be no more than our own going away.
	if errors.Is(context.Cause(a.life), errLeft) && (err != nil || o.Status == fsm.Errored) {
		return fsm.Outcome{}, errLeft
	}
	if err != nil {
		return errored(err, fsm.CauseNodeLost), nil
	}
	return o, nil
}

// runJob checks the commit out and has the executor run the steps.
func (r *Runner) runJob(a *attempt, words *words) (fsm.Outcome, error) {
	t := r.task(a)
	words.say("node %s (%s), attempt %s, %s", r.cfg.Node.Name, r.cfg.Node.ID, a.ref, r.place(a.work))
	if err := r.give(&t); err != nil {
		return errored(err, fsm.CauseConfig), nil
	}
	began := time.Now()
	if err := r.checkout(a, t); err != nil {
		return errored(err, fsm.CauseCheckout), nil
	}
	if !a.work.Spec.Clone.Skip {
		words.say("checked out %s in %d ms", a.work.Commit.SHA, time.Since(began).Milliseconds())
	}
	if err := r.keep.bring(a.prep, &t, words.say); err != nil {
		return errored(err, fsm.CauseNodeLost), nil
	}
	run, err := r.cfg.Executor.Start(a.prep, t)
	if err != nil {
		return errored(err, fsm.CauseNodeLost), nil
	}
	r.mu.Lock()
	a.started = true
	if a.state == running {
		r.out.put(link.Report{Ref: a.ref, Started: true})
	}
	r.mu.Unlock()
	if err := r.ledger.note(record{Started: &a.ref}); err != nil {
		return fsm.Outcome{}, err
	}
	return r.wait(a, t, run, words)
}

func (r *Runner) checkout(a *attempt, t executor.Task) error {
	if err := os.MkdirAll(t.Workspace, 0o755); err != nil { // a container's user reads it; the folder above is closed
		return fmt.Errorf("make workspace: %w", err)
	}
	if a.work.Spec.Clone.Skip {
		return nil
	}
	if err := r.cfg.Checkout.Ensure(a.prep, a.work.Commit); err != nil {
		return err
	}
	return r.cfg.Checkout.Checkout(a.prep, a.work.Commit, a.work.Spec.Clone, t.Workspace)
}

// resume adopts a job of an earlier start, starts it where that had not come to it,
// or finds that it is gone.
func (r *Runner) resume(a *attempt, words *words) (fsm.Outcome, error) {
	t := r.task(a)
	if err := r.give(&t); err != nil { // only what has not begun, and its test reports, need them
		r.log.Warn("open secrets of adopted attempt", "attempt", a.ref.String(), "error", err)
	}
	for deadline := time.Now().Add(r.cfg.Adopt); ; {
		run, err := r.cfg.Executor.Adopt(a.life, t)
		if err == nil {
			r.mu.Lock()
			if a.state == running {
				r.out.put(link.Report{Ref: a.ref, Started: true})
			}
			r.mu.Unlock()
			words.say("narwhal was restarted on this node (start %d) and goes on with the job", r.cfg.Node.Incarnation)
			return r.wait(a, t, run, words)
		}
		if errors.Is(err, executor.ErrGone) && r.untouched(a, t) {
			return r.startAnew(a, words)
		}
		if errors.Is(err, executor.ErrGone) || a.life.Err() != nil || time.Now().After(deadline) {
			return fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseNodeLost,
				Message: fmt.Sprintf("narwhal was restarted on this node while the job ran, and it could not be adopted: %v", err)}, nil
		}
		r.log.Warn("adopt attempt, trying again", "attempt", a.ref.String(), "error", err)
		pause(a.life, time.Second)
	}
}

// untouched reports whether no step of the attempt can ever have run.
func (r *Runner) untouched(a *attempt, t executor.Task) bool {
	if a.begun || a.life.Err() != nil {
		return false
	}
	began, err := t.Began()
	return err == nil && !began
}

// startAnew runs a job that an earlier start of this node had prepared at most.
func (r *Runner) startAnew(a *attempt, words *words) (fsm.Outcome, error) {
	r.mu.Lock()
	a.started = false
	if a.state != running { // it was stopped while it might have been there
		a.unprep(errStopped)
	}
	r.mu.Unlock()
	words.say("narwhal was restarted on this node (start %d) before the job began", r.cfg.Node.Incarnation)
	if err := removeTree(r.workspace(a.ref), r.trash()); err != nil {
		return fsm.Outcome{}, fmt.Errorf("clear workspace: %w", err)
	}
	return r.runJob(a, words)
}

// wait follows the job to its end, stops it when asked to, and takes what it left.
func (r *Runner) wait(a *attempt, t executor.Task, run executor.Run, words *words) (fsm.Outcome, error) {
	ctx, cancel := context.WithCancel(a.life)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case grace := <-a.stops:
				wg.Go(func() { r.stop(ctx, a, run, grace) })
			}
		}
	})
	if asksPeople(a.work.Spec) {
		wg.Go(func() { r.ask(ctx, a, t, run) })
	}
	o, err := run.Wait(a.life)
	if err != nil {
		return fsm.Outcome{}, fmt.Errorf("lost sight of the job: %w", err)
	}
	return r.keep.collect(a.life, t, o, words.say)
}

// stop asks until the executor has done it, or the job is over.
func (r *Runner) stop(ctx context.Context, a *attempt, run executor.Run, grace time.Duration) {
	for ctx.Err() == nil {
		err := run.Stop(ctx, grace)
		if err == nil || ctx.Err() != nil {
			return
		}
		r.log.Warn("stop attempt, trying again", "attempt", a.ref.String(), "error", err)
		pause(ctx, time.Second)
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// finish puts the outcome on the disk and then into the outbox; of what has
// been superseded it only records that it is gone.
func (r *Runner) finish(a *attempt, o fsm.Outcome, words *words) error {
	r.mu.Lock()
	result, report := settle(a.state, fit(o))
	r.mu.Unlock()
	if report {
		words.say("%s", verdict(result))
	} else {
		words.say("superseded: the job runs elsewhere, this result does not count")
	}
	result.LogBytes = words.close()
	r.cfg.Copies.Over(a.ref, words.path)
	if report {
		if err := r.ledger.append(record{Ended: &outcome{Ref: a.ref, Outcome: result}}); err != nil {
			return err
		}
	}
	r.mu.Lock()
	if report && a.state != aborting {
		a.state = ended
		r.out.put(link.Report{Ref: a.ref, Outcome: &result})
	} else {
		r.out.drop(a.ref)
		r.bury(a.ref, dropped)
		if err := r.ledger.note(record{Closed: &closing{Ref: a.ref, Dropped: true}}); err != nil {
			r.mu.Unlock()
			return err
		}
	}
	r.mu.Unlock()
	r.nudge()
	return nil
}

func verdict(o fsm.Outcome) string {
	text := string(o.Status)
	if o.Cause != "" {
		text += " (" + string(o.Cause) + ")"
	}
	if o.Message != "" {
		text += ": " + o.Message
	}
	return text
}
