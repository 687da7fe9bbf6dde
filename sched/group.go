package sched

import (
	"fmt"
	"strings"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// queues are the concurrency groups in one round, with who holds a place and who
// is to get one.
type queues map[string]*fsm.Slots

// admit reports whether it is a job's turn in its group. It is asked about the
// oldest job first: one that has no room yet keeps its turn, so that a younger
// commit is not deployed before an older one. Only a job that no node can ever
// take holds nobody up.
func (q queues) admit(s *fsm.State, j *fsm.Job) bool {
	c, ok := j.Group()
	if !ok {
		return true
	}
	slots := q[c.Group]
	if slots == nil {
		taken := s.Slots(c.Group)
		slots = &taken
		q[c.Group] = slots
	}
	if !slots.Admits(j) || !possible(s, j) {
		return false
	}
	slots.Add(j)
	return true
}

// possible reports whether some node could take the job when empty.
func possible(s *fsm.State, j *fsm.Job) bool {
	for n := range s.Nodes() {
		if n.Matches(j.Spec.Labels) && within(j.Request(), n.Capacity) {
			return true
		}
	}
	return false
}

// groupReason says what a queued job waits for whose turn in its group has not
// come.
func groupReason(s *fsm.State, now time.Time, j *fsm.Job) (fsm.Reason, bool) {
	c, ok := j.Group()
	if !ok || !possible(s, j) {
		return fsm.Reason{}, false
	}
	lines := make(queues)
	for o := range s.Queued() {
		if o.NotBefore.After(now) {
			continue
		}
		oc, grouped := o.Group()
		if !grouped || oc.Group != c.Group {
			continue
		}
		if admitted := lines.admit(s, o); o.ID == j.ID {
			if admitted {
				return fsm.Reason{}, false
			}
			break
		}
	}
	taken := s.Slots(c.Group)
	message := fmt.Sprintf("it waits for its turn in group %s: %d of %d run, %s", c.Group, len(taken.Holders), c.Limit, some3(taken.Holders))
	if older := lines[c.Group].Holders[len(taken.Holders):]; len(older) > 0 {
		message = fmt.Sprintf("it waits for its turn in group %s: %d of %d run, before it comes %s", c.Group, len(taken.Holders), c.Limit, some3(older))
	}
	return fsm.Reason{Code: fsm.ReasonGroup, Message: message}, true
}

// some3 names the first three jobs.
func some3(ids []fsm.JobID) string {
	var names []string
	for i, id := range ids {
		if i == 3 {
			names = append(names, "…")
			break
		}
		names = append(names, id.String())
	}
	return strings.Join(names, " ")
}
