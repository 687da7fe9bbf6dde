package sim

import (
	"slices"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/pipeline"
	"github.com/codepr/narwhal/runner"
)

// nodeAttempt is an attempt as the node's process knows it.
type nodeAttempt struct {
	ref       fsm.AttemptRef
	work      link.Work
	state     runner.State
	container *container // nil until it is started
	preparing bool
}

func (a *nodeAttempt) alive() bool { return a.state < runner.Ended }

func (a *nodeAttempt) exclusive() bool {
	return a.work.Spec != nil && a.work.Spec.OnNodeLoss == pipeline.NodeLossFail
}

type grave struct {
	ref   fsm.AttemptRef
	state runner.State
}

// nodeRunner is the memory of a node's process: the model of package runner
// around the real Reconcile and Settle.
type nodeRunner struct {
	m        *member
	attempts []*nodeAttempt
	graves   []grave
	wanted   *link.Wanted
	works    map[fsm.AttemptRef]*link.Work

	stream  *stream
	backoff time.Duration
	out     []link.Report
	lastID  uint64
	seq     uint64
	sent    map[uint64]time.Time // when each beat was sent, by the lease's clock
	beatAt  time.Duration        // when the last one was
	until   time.Time            // of the lease
	stepped bool                 // a step waits for the disk
	again   bool
}

// newRunner takes over what the ledger says.
func newRunner(m *member) *nodeRunner {
	r := &nodeRunner{m: m, backoff: 50 * time.Millisecond, sent: make(map[uint64]time.Time)}
	for _, c := range m.disk.closed {
		r.graves = append(r.graves, grave{c.ref, c.state})
	}
	for _, e := range m.disk.entries {
		a := &nodeAttempt{ref: e.ref, work: e.work, state: runner.Alive}
		r.attempts = append(r.attempts, a)
		if e.outcome != nil {
			a.state = runner.Ended
			r.report(link.Report{Ref: e.ref, Outcome: e.outcome})
		}
	}
	return r
}

func (r *nodeRunner) begin() {
	r.until = r.clock().Add(lease)
	for _, a := range slices.Clone(r.attempts) {
		if a.alive() {
			r.resume(a)
		}
	}
	r.watchLease()
	r.dial()
}

// clock is the one that the lease goes by.
func (r *nodeRunner) clock() time.Time {
	if r.m.w.opt.Bugs.FenceByWallClock {
		return r.m.wall()
	}
	return r.m.mono()
}

func (r *nodeRunner) find(ref fsm.AttemptRef) *nodeAttempt {
	for _, a := range r.attempts {
		if a.ref == ref {
			return a
		}
	}
	return nil
}

// step does what Reconcile asks for: first the disk, then the start.
func (r *nodeRunner) step() {
	if r.wanted == nil {
		return
	}
	if r.stepped {
		r.again = true
		return
	}
	var starts, refused []*nodeAttempt
	var disowned []fsm.AttemptRef
	want := *r.wanted
	if r.m.w.opt.Bugs.StaleWishesTrusted {
		want.Index = 1 << 60
	}
	for _, act := range runner.Reconcile(r.have(), want) {
		switch a := r.find(act.Ref); act.Verb {
		case "start":
			a = &nodeAttempt{ref: act.Ref, work: *r.workOf(act.Ref), state: runner.Alive, preparing: true}
			if a.exclusive() && r.until.Before(r.clock()) {
				continue // decided again when the lease is renewed
			}
			r.attempts = append(r.attempts, a)
			starts = append(starts, a)
		case "cancel":
			r.halt(a, runner.Canceling)
		case "abort":
			r.m.w.logf("%s aborts %s, wish of index %d", r.m.id, a.ref, want.Index)
			if !r.m.w.opt.Bugs.SupersededRunsOn {
				r.halt(a, runner.Aborting)
			}
		case "refuse":
			a = &nodeAttempt{ref: act.Ref, state: runner.Ended}
			if w := r.workOf(act.Ref); w != nil {
				a.work = *w
			}
			r.attempts = append(r.attempts, a)
			refused = append(refused, a)
		case "disown":
			disowned = append(disowned, act.Ref)
		case "resync":
			if r.stream != nil && !r.m.w.opt.Bugs.NoResync {
				r.stream.closeNode()
			}
			return
		}
	}
	r.enter(starts, refused, disowned)
}

// workOf is what the newest wish says of an attempt.
func (r *nodeRunner) workOf(ref fsm.AttemptRef) *link.Work {
	for _, a := range r.wanted.Attempts {
		if a.Ref == ref {
			return a.Work
		}
	}
	return nil
}

// enter puts what is new on the disk, and only then lets it begin.
func (r *nodeRunner) enter(starts, refused []*nodeAttempt, disowned []fsm.AttemptRef) {
	canceled := fsm.Outcome{Status: fsm.Canceled, Cause: fsm.CauseCanceled, Message: "canceled before it was started"}
	gone := fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseNodeLost, Message: "its result was thrown away"}
	for _, ref := range disowned {
		for i := range r.graves {
			if r.graves[i].ref == ref {
				r.graves[i].state = runner.Closed
			}
		}
		r.report(link.Report{Ref: ref, Outcome: &gone})
	}
	if len(starts)+len(refused) == 0 {
		return
	}
	r.stepped = true
	if r.m.w.opt.Bugs.StartBeforeLedger {
		for _, a := range starts {
			r.run(a)
		}
	}
	late := 5 * time.Millisecond
	if r.m.w.opt.Bugs.StartBeforeLedger {
		late = 2 * time.Second
	}
	r.m.after(r.m.w.between(200*time.Microsecond, late), func() {
		r.m.disk.synced()
		for _, a := range append(slices.Clone(starts), refused...) {
			r.m.disk.entries = append(r.m.disk.entries, &entry{ref: a.ref, work: a.work})
		}
		for _, a := range refused {
			r.m.disk.end(a.ref, canceled)
			r.m.w.check.truth[a.ref] = canceled
			r.report(link.Report{Ref: a.ref, Outcome: &canceled})
		}
		if len(starts) > 0 && r.m.point("attempts are on the disk, before they start") {
			return
		}
		if !r.m.w.opt.Bugs.StartBeforeLedger {
			for _, a := range starts {
				r.run(a)
			}
		}
		r.stepped = false
		if r.again {
			r.again = false
			r.step()
		}
	})
}

func (r *nodeRunner) have() map[fsm.AttemptRef]runner.State {
	have := make(map[fsm.AttemptRef]runner.State)
	if !r.m.w.opt.Bugs.ClosedForgotten {
		for _, g := range r.graves {
			have[g.ref] = g.state
		}
	}
	for _, a := range r.attempts {
		have[a.ref] = a.state
	}
	return have
}

func (r *nodeRunner) bury(a *nodeAttempt, s runner.State) {
	r.attempts = slices.DeleteFunc(r.attempts, func(o *nodeAttempt) bool { return o == a })
	r.graves = append(r.graves, grave{a.ref, s})
	r.m.disk.close(a.ref, s)
}

// halt moves an attempt on to a state in which it is being stopped. One that is
// prepared, or looked for after a restart, sees it when that is done.
func (r *nodeRunner) halt(a *nodeAttempt, to runner.State) {
	if !a.alive() || a.state >= to {
		return
	}
	a.state = to
	if !a.preparing {
		r.stop(a)
	}
}

// stop stops an attempt's container, within the grace that its state leaves.
func (r *nodeRunner) stop(a *nodeAttempt) {
	c := a.container
	if c == nil {
		return
	}
	took := grace
	if a.state == runner.Fencing {
		took = fenceGrace
	}
	if r.m.w.chance(0.4) { // the others ignore TERM
		took = r.m.w.between(0, took)
	}
	r.m.after(took, func() { c.exit(fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseFailure, Message: "killed"}) })
}

// watchLease stops what must not outlive the lease.
func (r *nodeRunner) watchLease() {
	left := r.until.Sub(r.clock())
	if left > 0 {
		r.m.after(min(left, lease)+time.Microsecond, r.watchLease)
		return
	}
	if !r.m.w.opt.Bugs.NoSelfFence {
		for _, a := range r.attempts {
			if a.exclusive() && a.alive() && a.state < runner.Fencing {
				r.m.w.result.Expired++
				r.m.w.check.fenced[a.ref] = true
				r.m.w.logf("%s fences %s", r.m.id, a.ref)
				r.halt(a, runner.Fencing)
			}
		}
	}
	r.m.after(100*time.Millisecond, r.watchLease)
}
