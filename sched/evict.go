package sched

import (
	"time"

	"github.com/codepr/narwhal/fsm"
)

// Evictions lists the attempts that still lie on a node that was to be empty by now,
// and when the next node is to be; zero where none is. The deadline is one of the
// calendar, kept in the state: it outlives leaders, and a clock that is wrong by an hour
// moves jobs an hour early or late.
func Evictions(s *fsm.State, now time.Time) (move []fsm.MoveAttempt, next time.Time) {
	for n := range s.Nodes() {
		if !n.Drained || n.DrainUntil.IsZero() || n.Placed == 0 {
			continue
		}
		if n.DrainUntil.After(now) {
			next = earliest(next, n.DrainUntil)
			continue
		}
		for j := range s.Placed(n.ID) {
			if a, _ := j.Current(); a.Moved == "" && j.CanceledBy == "" {
				move = append(move, fsm.MoveAttempt{Ref: j.Ref(a)})
			}
		}
	}
	return move, next
}
