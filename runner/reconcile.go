package runner

import (
	"cmp"
	"slices"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
)

// state is where an attempt stands on this node.
//
//	running ──▶ canceling ─┬▶ ended ──▶ closed, or dropped
//	   │  └───▶ fencing ───┘    ▲
//	   │  └───▶ leaving ────────┤
//	   │  └─────────────────────┘
//	   └──────▶ aborting ─────────────▶ dropped
//
// A state only ever moves on to a later one of the list.
type state int

const (
	running   state = iota + 1 // on the disk; prepared, run, or adopted
	canceling                  // being stopped, is to report Canceled
	fencing                    // being stopped, the lease has run out: is to report node_lost
	leaving                    // being stopped with this process: is to report node_lost
	aborting                   // being stopped, superseded: reports nothing
	ended                      // its outcome is on the disk and waits for the leader's word
	closed                     // a leader has taken its outcome
	dropped                    // superseded and gone: no outcome was told, or it was refused as stale
)

// String is for logs and scripts.
func (s state) String() string {
	names := []string{"unknown", "running", "canceling", "fencing", "leaving", "aborting", "ended", "closed", "dropped"}
	return names[s]
}

// alive reports whether something of the attempt may run.
func (s state) alive() bool { return s >= running && s <= aborting }

// verb is what reconcile asks for.
type verb string

const (
	start  verb = "start"  // put it on the disk and run it
	cancel verb = "cancel" // stop it and report
	abort  verb = "abort"  // superseded: stop it, discard its result, keep its log
	refuse verb = "refuse" // report its end without ever starting it: it is canceled
	disown verb = "disown" // report node_lost: it was here and is gone
	resync verb = "resync" // what to run is not known: dial again, to be told everything
)

type action struct {
	verb verb
	ref  fsm.AttemptRef
}

// reconcile compares what this node has with what the leader wants of it. It is
// pure, and may be called at any time with the newest of both: what it asks for
// changes have, so that it asks once.
//
//   - Of one job at most one attempt is alive: a newer one is started only when
//     the older is gone, and never an older one than this node has seen.
//   - No attempt is started twice, since what is closed stays known.
//   - A wish older than an attempt's assignment doesn't supersede it: a leader
//     that has been deposed may not know yet.
func reconcile(have map[fsm.AttemptRef]state, want link.Wanted) []action {
	var actions []action
	wanted := make(map[fsm.AttemptRef]bool, len(want.Attempts))
	for _, a := range want.Attempts {
		wanted[a.Ref] = true
	}
	for _, ref := range sorted(have) {
		s := have[ref]
		if !wanted[ref] && s.alive() && s != aborting && ref.Token.Index <= want.Index {
			actions = append(actions, action{abort, ref})
		}
	}
	newest, busy := jobs(have)
	for _, a := range want.Attempts {
		if v := decide(have[a.Ref], a, newest[a.Ref.Job], busy[a.Ref.Job]); v != "" {
			actions = append(actions, action{v, a.Ref})
			busy[a.Ref.Job] = busy[a.Ref.Job] || v == start
		}
	}
	return actions
}

// decide is for one wanted attempt in state s, 0 where this node doesn't have it.
func decide(s state, a link.Assignment, newest fsm.Token, busy bool) verb {
	switch {
	case s == running && a.Cancel:
		return cancel
	case s == dropped:
		return disown
	case s != 0:
		return ""
	case less(a.Ref.Token, newest):
		return "" // the wish is older than what this node has seen
	case a.Cancel:
		return refuse
	case busy:
		return "" // asked again when the older attempt is gone
	case a.Work == nil:
		return resync
	default:
		return start
	}
}

// jobs gives each job's newest token that is known here, and whether something
// of it may run.
func jobs(have map[fsm.AttemptRef]state) (newest map[fsm.JobID]fsm.Token, busy map[fsm.JobID]bool) {
	newest, busy = map[fsm.JobID]fsm.Token{}, map[fsm.JobID]bool{}
	for ref, s := range have {
		if less(newest[ref.Job], ref.Token) {
			newest[ref.Job] = ref.Token
		}
		if s.alive() {
			busy[ref.Job] = true
		}
	}
	return newest, busy
}

func less(a, b fsm.Token) bool {
	return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Index, b.Index)) < 0
}

func sorted(have map[fsm.AttemptRef]state) []fsm.AttemptRef {
	refs := make([]fsm.AttemptRef, 0, len(have))
	for ref := range have {
		refs = append(refs, ref)
	}
	slices.SortFunc(refs, func(a, b fsm.AttemptRef) int {
		return cmp.Or(cmp.Compare(a.Job.Build, b.Job.Build), cmp.Compare(a.Job.Seq, b.Job.Seq), cmp.Compare(a.N, b.N))
	})
	return refs
}

// settle is what an attempt in state s reports when what ran has ended as o;
// report is false where it has been superseded.
func settle(s state, o fsm.Outcome) (result fsm.Outcome, report bool) {
	switch s {
	case aborting:
		return fsm.Outcome{}, false
	case canceling:
		if o.Status == fsm.Passed {
			return o, true // it was quicker
		}
		o.Status, o.Cause, o.Message = fsm.Canceled, fsm.CauseCanceled, "stopped on request"
	case leaving:
		if o.Status == fsm.Passed {
			return o, true
		}
		o.Status, o.Cause, o.Message = fsm.Errored, fsm.CauseNodeLost, "stopped: narwhal was shut down on this node"
	case fencing:
		o.Status, o.Cause, o.Plan, o.Packed = fsm.Errored, fsm.CauseNodeLost, nil, nil
		o.Message = "fenced: the node could not reach the leader for as long as its lease, and stopped the job itself"
	}
	return o, true
}
