package drill

import (
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
)

// fault is what a round did to the cluster.
type fault struct {
	victim    fsm.NodeID
	takesJobs bool      // what ran on the victim goes with it
	term      uint64    // the last one that the victim led, 0 where it did not
	at        time.Time // by the leader's clock
}

// term is Raft's when the builds were accepted: the load comes before the fault.
func term(builds []history) uint64 {
	newest := uint64(0)
	for _, b := range builds {
		for _, m := range b.moments {
			if m.What == fsm.TurnAccepted.String() {
				newest = max(newest, m.Term)
			}
		}
	}
	return newest
}

// dispatched is when a leader of a later term first placed a job, by that leader's clock.
func dispatched(builds []history, after uint64) (first time.Time, ok bool) {
	for _, b := range builds {
		for _, m := range b.moments {
			if m.What == fsm.TurnAssigned.String() && m.Term > after && (!ok || m.At.Before(first)) {
				first, ok = m.At, true
			}
		}
	}
	return first, ok
}

// judge counts what went wrong with a build of the round.
func (r *Round) judge(b history, f fault) {
	r.Builds++
	if b.Status != fsm.Passed {
		r.Lost++
	}
	for _, j := range b.Jobs {
		passed := 0
		for _, a := range j.Attempts {
			if a.Status == fsm.Passed {
				passed++
			}
			elsewhere := a.Node != f.victim || !f.takesJobs
			if a.Status != fsm.Passed && elsewhere && f.hit(b, j.ID, a.N) {
				r.Disturbed++
			}
		}
		r.Doubled += max(0, passed-1)
	}
}

// hit reports whether an attempt had started before the fault, and ended after it.
func (f fault) hit(b history, job fsm.JobID, n int) bool {
	started, ended := false, false
	for _, m := range b.moments {
		if m.Job == nil || *m.Job != job || m.Attempt != n {
			continue
		}
		switch m.What {
		case fsm.TurnStarted.String():
			started = f.follows(m)
		case fsm.TurnFinished.String(), fsm.TurnLost.String(), fsm.TurnReturned.String(), fsm.TurnExpired.String():
			ended = f.follows(m)
		}
	}
	return started && !ended
}

// follows reports whether the fault follows a moment: by terms where there was an
// election, else by the leader's clock.
func (f fault) follows(m api.Moment) bool {
	if f.term > 0 {
		return m.Term <= f.term
	}
	return m.At.Before(f.at)
}

// rerun is a job that was lost with its node, by the leader's clock.
type rerun struct{ lost, started time.Time }

// reruns are the jobs of a build that were lost with a node and started elsewhere.
func reruns(b history, node fsm.NodeID) (all []rerun) {
	for _, j := range b.Jobs {
		for i, a := range j.Attempts {
			if a.Node == node && a.Cause == fsm.CauseNodeLost && i+1 < len(j.Attempts) && !j.Attempts[i+1].StartedAt.IsZero() {
				all = append(all, rerun{lost: a.EndedAt, started: j.Attempts[i+1].StartedAt})
			}
		}
	}
	return all
}
