package sim

import (
	"slices"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/runner"
)

// run is an attempt's life from after it is on the disk.
func (r *nodeRunner) run(a *nodeAttempt) {
	w := r.m.w
	a.preparing = true
	if a.work.Kind == fsm.KindPlan {
		r.report(link.Report{Ref: a.ref, Started: true})
		r.m.after(w.between(10*time.Millisecond, 900*time.Millisecond), func() {
			a.preparing = false
			r.finish(a, w.planOutcome(a.work.Commit))
		})
		return
	}
	r.m.after(w.between(5*time.Millisecond, 600*time.Millisecond), func() {
		a.preparing = false
		switch {
		case a.state != runner.Alive: // stopped before its steps ran
			r.finish(a, fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseNodeLost})
		case w.chance(0.03):
			r.finish(a, fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseCheckout, Message: "no such host"})
		case w.chance(0.05):
			r.finish(a, fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseImagePull, Message: "registry answers 503"})
		default:
			a.container = r.m.startContainer(a.ref)
			r.report(link.Report{Ref: a.ref, Started: true})
			r.m.point("a container has started")
		}
	})
}

func (m *member) startContainer(ref fsm.AttemptRef) *container {
	w := m.w
	c := &container{m: m, ref: ref}
	if w.hangs(ref) {
		m.disk.containers = append(m.disk.containers, c)
		w.check.started(c)
		return c
	}
	m.disk.containers = append(m.disk.containers, c)
	w.check.started(c)
	o := w.jobOutcome()
	d := w.between(50*time.Millisecond, 4*time.Second)
	if w.chance(0.4) {
		d = w.between(5*time.Second, 50*time.Second)
	}
	if w.patient && w.chance(0.7) {
		d = w.between(20*time.Second, 90*time.Second)
	}
	w.after(d, func() {
		// One that nobody looks after does not end by itself: so it is seen.
		if m.disk.find(ref) != nil {
			c.exit(o)
		}
	})
	return c
}

// exited is called when a container of the machine has ended.
func (r *nodeRunner) exited(c *container) {
	if a := r.find(c.ref); a != nil && a.alive() && a.container == c {
		r.m.after(r.m.w.between(100*time.Microsecond, 3*time.Millisecond), func() { r.finish(a, c.outcome) })
	}
}

// finish puts the outcome on the disk, then tells it.
func (r *nodeRunner) finish(a *nodeAttempt, o fsm.Outcome) {
	if !a.alive() {
		return
	}
	result, report := runner.Settle(a.state, o)
	if !report {
		r.drop(a)
		return
	}
	if r.m.w.opt.Bugs.ReportBeforeDisk {
		r.m.w.check.truth[a.ref] = result
		r.m.disk.remove(r.m.disk.container(a.ref))
		r.report(link.Report{Ref: a.ref, Outcome: &result})
		a.state = runner.Ended
		return
	}
	if r.m.point("an attempt has ended, before it is on the disk") {
		return
	}
	r.m.after(r.m.w.between(200*time.Microsecond, 5*time.Millisecond), func() {
		if !a.alive() {
			return
		}
		if a.state == runner.Aborting {
			r.drop(a)
			return
		}
		r.m.disk.end(a.ref, result)
		r.m.disk.synced()
		r.m.w.check.truth[a.ref] = result
		if !r.m.w.opt.Bugs.NothingAdopted {
			r.m.disk.remove(r.m.disk.container(a.ref))
		}
		a.state = runner.Ended
		if r.m.point("an outcome is on the disk, before it is told") {
			return
		}
		r.report(link.Report{Ref: a.ref, Outcome: &result})
		r.step()
	})
}

// drop ends an attempt that has been superseded.
func (r *nodeRunner) drop(a *nodeAttempt) {
	r.out = slices.DeleteFunc(r.out, func(p link.Report) bool { return p.Ref == a.ref })
	r.m.disk.remove(r.m.disk.container(a.ref))
	a.state = runner.Dropped
	r.bury(a, runner.Dropped)
	r.step()
}

// resume adopts an attempt of an earlier start, or finds that it is gone.
func (r *nodeRunner) resume(a *nodeAttempt) {
	w := r.m.w
	if a.work.Kind == fsm.KindPlan {
		r.run(a) // a plan only reads
		return
	}
	a.preparing = true
	r.m.after(w.between(time.Millisecond, 400*time.Millisecond), func() {
		a.preparing = false
		r.adopt(a)
	})
}

func (r *nodeRunner) adopt(a *nodeAttempt) {
	c := r.m.disk.container(a.ref)
	gone := fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseNodeLost, Message: "it could not be adopted"}
	bugs := &r.m.w.opt.Bugs
	switch {
	case bugs.NothingAdopted:
		r.finish(a, gone)
	case bugs.StartedAgainAfterRestart && (c == nil || c.exited):
		r.run(a)
	case c == nil:
		r.finish(a, gone)
	case c.exited:
		a.container = c
		r.finish(a, c.outcome)
	case a.state == runner.Alive:
		a.container = c
		r.report(link.Report{Ref: a.ref, Started: true})
	default: // asked to stop while it was looked for
		a.container = c
		r.stop(a)
	}
}
