package sched

import (
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
)

// Announce is what a hello has to say to the log: nothing where the state knows
// the node as it is.
func Announce(s *fsm.State, hello *link.Hello) []fsm.Command {
	old, ok := s.Node(hello.Node.ID)
	if ok && old.SameOffer(&hello.Node) {
		return nil
	}
	return []fsm.Command{{UpsertNode: &fsm.UpsertNode{Node: hello.Node}}}
}

// Forgotten lists the attempts that an earlier start of the node was given and
// that this one knows nothing of. A node writes an attempt to its disk before it
// begins it, so what is not there never began. It is asked once the hello has
// been announced: from then on nothing is given to the earlier start.
func Forgotten(s *fsm.State, hello *link.Hello) []fsm.Command {
	knows := refs(hello)
	var out []fsm.Command
	for j := range s.Placed(hello.Node.ID) {
		a, _ := j.Current()
		ref := j.Ref(a)
		if a.Incarnation == hello.Node.Incarnation || knows[ref] {
			continue
		}
		out = append(out, fsm.Command{LoseAttempt: &fsm.LoseAttempt{
			Ref: ref, NeverStarted: true, Message: "its node was restarted before it began",
		}})
	}
	return out
}

// Wanted is the full set of attempts that a node should be running: those that
// were given to this start of it, and those of earlier starts that it kept.
func Wanted(s *fsm.State, hello *link.Hello, knows map[fsm.AttemptRef]bool) []link.Assignment {
	var out []link.Assignment
	for j := range s.Placed(hello.Node.ID) {
		a, _ := j.Current()
		ref := j.Ref(a)
		if a.Incarnation != hello.Node.Incarnation && !knows[ref] {
			continue
		}
		out = append(out, link.Assignment{Ref: ref, Cancel: j.CanceledBy != "" || a.Moved != "", Decisions: a.Decisions})
	}
	return out
}

// SameWish compares what is wanted of two attempts. Decisions are only ever added.
func SameWish(a, b link.Assignment) bool {
	return a.Ref == b.Ref && a.Cancel == b.Cancel && len(a.Decisions) == len(b.Decisions)
}

func refs(hello *link.Hello) map[fsm.AttemptRef]bool {
	m := make(map[fsm.AttemptRef]bool, len(hello.Runs))
	for _, r := range hello.Runs {
		m[r] = true
	}
	return m
}
