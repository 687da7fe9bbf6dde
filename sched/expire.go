package sched

import (
	"fmt"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// How much longer than its timeout a job may take before the leader says that it is
// over: its node, which ends it, is given the time to, and to keep what it leaves.
const (
	timeoutSlack = time.Minute
	keepingSlack = 15 * time.Minute
)

// planTime is how long a plan may take, which has no timeout of its own: its node
// bounds each of the few fetches that it is made of to minutes.
const planTime = 2 * time.Hour

// timeout is how long an attempt of the job may run; 0 is any time.
func timeout(j *fsm.Job) time.Duration {
	if j.Spec == nil {
		return planTime
	}
	return j.Spec.Timeout
}

func slack(j *fsm.Job) time.Duration {
	if j.Spec == nil {
		return 0
	}
	if len(j.Spec.Cache) > 0 || j.Spec.Artifacts != nil {
		return keepingSlack
	}
	return timeoutSlack
}

// Stopwatch measures how long attempts run. Like leases it is the leader's memory
// and starts afresh with every leader: a clock that steps, or a machine that slept,
// must not end every job of the cluster.
//
// It is pure: the time is an argument. It is not for concurrent use.
type Stopwatch struct {
	since map[fsm.AttemptRef]time.Time // when this leader first saw it run
}

// NewStopwatch has seen nothing yet.
func NewStopwatch() *Stopwatch { return &Stopwatch{} }

// Overdue lists the attempts that run beyond their job's timeout though their
// node has not ended them, and when the next one will be; zero where none will.
func (w *Stopwatch) Overdue(s *fsm.State, now time.Time) (expire []fsm.ExpireAttempt, next time.Time) {
	since := make(map[fsm.AttemptRef]time.Time, len(w.since))
	for j := range s.AllPlaced() {
		a, _ := j.Current()
		limit := timeout(j)
		if limit <= 0 || a.StartedAt.IsZero() {
			continue
		}
		ref := j.Ref(a)
		began, ok := w.since[ref]
		if !ok {
			began = now
		}
		since[ref] = began
		over := began.Add(limit + slack(j))
		if over.After(now) {
			next = earliest(next, over)
			continue
		}
		expire = append(expire, fsm.ExpireAttempt{Ref: ref,
			Message: fmt.Sprintf("its time of %s was up, and its node has not ended it", limit)})
	}
	w.since = since
	return expire, next
}
