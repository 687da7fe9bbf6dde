package runner

import (
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
)

// What follows lets internal/sim drive this package's decisions, which are pure,
// with disks, clocks and processes of its own.

// State is where an attempt stands on a node.
type State = state

// The states that a model has to set itself.
const (
	Alive     = running
	Canceling = canceling
	Fencing   = fencing
	Aborting  = aborting
	Ended     = ended
	Closed    = closed
	Dropped   = dropped
)

// Act is one thing that Reconcile asks for: "start", "cancel", "abort",
// "refuse", "disown" or "resync".
type Act struct {
	Verb string
	Ref  fsm.AttemptRef
}

// Reconcile compares what a node has with what the leader wants of it.
func Reconcile(have map[fsm.AttemptRef]State, want link.Wanted) []Act {
	actions := reconcile(have, want)
	out := make([]Act, len(actions))
	for i, a := range actions {
		out[i] = Act{Verb: string(a.verb), Ref: a.ref}
	}
	return out
}

// Settle is what an attempt in state s reports when what ran has ended as o;
// report is false where it has been superseded.
func Settle(s State, o fsm.Outcome) (result fsm.Outcome, report bool) { return settle(s, o) }
