package runner

import (
	"context"
	"slices"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
)

// loop decides again whenever something has changed. What it starts lives in
// outer.
func (r *Runner) loop(ctx, outer context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.kick:
		}
		if err := r.step(outer); err != nil {
			return err
		}
	}
}

// step does what reconcile asks for: all that is new goes to the disk with one
// fsync, and only then is anything started or told.
func (r *Runner) step(outer context.Context) error {
	var todo round
	r.mu.Lock()
	if r.wanted != nil && !r.quitting {
		works := map[fsm.AttemptRef]*link.Work{}
		for _, a := range r.wanted.Attempts {
			works[a.Ref] = a.Work
		}
		for _, act := range reconcile(r.have(), *r.wanted) {
			r.take(outer, &todo, act, works[act.ref])
		}
	}
	r.pass()
	r.mu.Unlock()
	if len(todo.records) > 0 {
		if err := r.ledger.append(todo.records...); err != nil {
			return err
		}
	}
	for _, report := range todo.reports {
		r.out.put(report)
	}
	for _, a := range todo.starts {
		r.live.Go(func() { r.runAttempt(a, false) })
	}
	return nil
}

// round collects what one decision brings.
type round struct {
	records []record
	reports []link.Report
	starts  []*attempt
}

// take enters one action. From here on the attempt is among those of a hello.
func (r *Runner) take(outer context.Context, todo *round, act action, work *link.Work) {
	a := r.attempts[act.ref]
	switch act.verb {
	case start:
		a = newAttempt(act.ref, *work)
		if a.exclusive() && r.lease.left(time.Now()) <= 0 {
			return // decided again when the lease is renewed
		}
		a.bind(outer)
		r.attempts[act.ref] = a
		todo.records = append(todo.records, record{Accepted: &accepted{Ref: a.ref, Work: a.work, Boot: r.cfg.Boot}})
		todo.starts = append(todo.starts, a)
	case cancel:
		a.halt(canceling, r.cfg.Grace)
	case abort:
		r.log.Info("attempt superseded, stopping it", "attempt", act.ref.String())
		a.halt(aborting, r.cfg.Grace)
	case refuse:
		a = newAttempt(act.ref, link.Work{})
		if work != nil {
			a.work = *work
		}
		a.state = ended
		close(a.done)
		r.attempts[act.ref] = a
		o := fsm.Outcome{Status: fsm.Canceled, Cause: fsm.CauseCanceled, Message: "canceled before it was started"}
		todo.records = append(todo.records, record{Accepted: &accepted{Ref: a.ref, Work: a.work}},
			record{Ended: &outcome{Ref: a.ref, Outcome: o}})
		todo.reports = append(todo.reports, link.Report{Ref: a.ref, Outcome: &o})
	case disown:
		r.dig(act.ref)
		todo.reports = append(todo.reports, link.Report{Ref: act.ref, Outcome: &fsm.Outcome{Status: fsm.Errored,
			Cause: fsm.CauseNodeLost, Message: "the node was told to stop it, and threw its result away"}})
	case resync:
		r.log.Warn("asked to run an attempt that was not described", "attempt", act.ref.String())
		select {
		case r.resync <- struct{}{}:
		default:
		}
	}
}

// have is what reconcile needs to know: all that is here, and what has been
// here of the jobs that are wanted.
func (r *Runner) have() map[fsm.AttemptRef]state {
	have := make(map[fsm.AttemptRef]state, len(r.attempts))
	for _, a := range r.wanted.Attempts {
		for _, g := range r.graves[a.Ref.Job] {
			have[g.ref] = g.state
		}
	}
	for ref, a := range r.attempts {
		have[ref] = a.state
	}
	return have
}

// bury moves an attempt to those that are only known to have been.
func (r *Runner) bury(ref fsm.AttemptRef, s state) {
	delete(r.attempts, ref)
	r.graves[ref.Job] = append(r.graves[ref.Job], grave{ref, s})
	r.buried = append(r.buried, ref.Job)
	if len(r.buried) > maxClosed {
		oldest := r.buried[0]
		r.buried = r.buried[1:]
		if r.graves[oldest] = r.graves[oldest][1:]; len(r.graves[oldest]) == 0 {
			delete(r.graves, oldest)
		}
	}
}

// dig marks a dropped attempt as told.
func (r *Runner) dig(ref fsm.AttemptRef) {
	graves := r.graves[ref.Job]
	if i := slices.IndexFunc(graves, func(g grave) bool { return g.ref == ref }); i >= 0 {
		graves[i].state = closed
	}
}

func sortedRefs(attempts map[fsm.AttemptRef]*attempt) []fsm.AttemptRef {
	have := make(map[fsm.AttemptRef]state, len(attempts))
	for ref, a := range attempts {
		have[ref] = a.state
	}
	return sorted(have)
}
