package cluster

import (
	"cmp"
	"slices"
	"time"
)

// server is a node in the log's configuration.
type server struct {
	ID    string
	Voter bool
}

// candidate is what the leader knows of a member, besides the configuration.
type candidate struct {
	ID       string
	State    State
	GoneFor  time.Duration // since it was seen alive
	Role     Role
	Leaving  bool
	Zone     string
	Started  time.Time
	Ready    bool // caught up, and for long enough
	CaughtUp bool
	Avoid    bool // did not answer a moment ago
	InLog    bool // believes to be in the configuration
}

func (c candidate) alive() bool    { return c.State == Alive }
func (c candidate) unwanted() bool { return c.Leaving || c.State == Left || c.Role == RoleNoVoter }

// electorate is all that decide looks at.
type electorate struct {
	Self           string
	Servers        []server
	Members        []candidate
	MaxVoters      int
	DeadVoterAfter time.Duration
}

// changeKind is what is done to the configuration.
type changeKind string

const (
	changeNone     changeKind = "none"
	changeAdd      changeKind = "add"      // as non-voter: an unreachable voter would cost the majority
	changePromote  changeKind = "promote"  // a non-voter
	changeRemove   changeKind = "remove"   // from the configuration
	changeTransfer changeKind = "transfer" // leadership, away from this node
)

// change is at most one step; the next one is decided on what has become of it.
type change struct {
	Kind   changeKind
	ID     string
	Reason string
}

// voterTarget is how many voters n nodes should have: two would be worse than
// one, since either's death would stop the log.
func voterTarget(n, most int) int {
	switch {
	case n <= 2:
		return 1
	case n <= 6:
		return min(3, most)
	}
	return min(5, most)
}

// tally is the electorate, sorted out.
type tally struct {
	electorate
	by        map[string]candidate
	voters    []candidate
	nonvoters []candidate
	outside   []candidate
	kept      int // voters that are to stay
	gone      []candidate
	target    int
}

func count(e electorate) *tally {
	t := &tally{electorate: e, by: map[string]candidate{}}
	for _, m := range e.Members {
		t.by[m.ID] = m
	}
	in := map[string]bool{}
	for _, s := range e.Servers {
		in[s.ID] = true
		m, ok := t.by[s.ID]
		if !ok { // never seen by this node: gossip will tell, or it is long dead
			m = candidate{ID: s.ID, State: Dead, GoneFor: e.DeadVoterAfter}
		}
		if s.Voter {
			t.voters = append(t.voters, m)
		} else {
			t.nonvoters = append(t.nonvoters, m)
		}
	}
	n := 0
	for _, m := range t.voters {
		if m.unwanted() {
			continue
		}
		n++
		if !m.alive() && m.GoneFor >= e.DeadVoterAfter {
			t.gone = append(t.gone, m)
		} else {
			t.kept++
		}
	}
	for _, m := range e.Members {
		if in[m.ID] {
			continue
		}
		t.outside = append(t.outside, m)
	}
	for _, m := range slices.Concat(t.nonvoters, t.outside) {
		if m.alive() && !m.unwanted() && !m.Avoid {
			n++
		}
	}
	t.target = voterTarget(n, e.MaxVoters)
	return t
}

// decide is the leader's whole policy for who votes. In order: what left goes;
// the dead are replaced once a replacement is ready; the voters grow to their
// target, in pairs; an even number that cannot grow shrinks; what is not needed
// goes.
func decide(e electorate) change {
	t := count(e)
	for _, step := range []func(*tally) change{dismiss, replace, promote, add, shrink, tidy} {
		if c := step(t); c.Kind != changeNone {
			return c
		}
	}
	return change{Kind: changeNone}
}

var none = change{Kind: changeNone}

// dismiss takes out who is leaving or shall not vote. The leader itself goes
// last: it hands over once there is another voter.
func dismiss(t *tally) change {
	for _, m := range t.nonvoters {
		if m.unwanted() && !(m.Role == RoleNoVoter && m.alive() && !m.CaughtUp && !m.Leaving) {
			return change{changeRemove, m.ID, "it is leaving or never votes"}
		}
	}
	for _, m := range t.voters {
		if m.unwanted() && m.ID != t.Self && t.survivesWithout(m.ID) {
			return change{changeRemove, m.ID, "it is leaving or never votes"}
		}
	}
	if self := t.by[t.Self]; self.unwanted() && t.aliveVoters("") > 1 && t.kept > 0 {
		return change{changeTransfer, t.Self, "this node is leaving or never votes"}
	}
	return none
}

// replace removes a dead voter when another node is ready to take its place.
// Removing comes first: with the newcomer's help it would take one death more to
// lose the majority, but without it one less.
func replace(t *tally) change {
	if len(t.gone) > 0 && len(t.ready()) > 0 && t.survivesWithout(t.gone[0].ID) {
		return change{changeRemove, t.gone[0].ID, "it is dead and another node is ready"}
	}
	return none
}

// promote makes voters, two at a time from an odd number, so that their number
// is even only between two steps.
func promote(t *tally) change {
	need, ready := t.target-t.kept, t.ready()
	if need <= 0 || len(ready) == 0 || len(t.gone) > 0 {
		return none
	}
	if t.kept%2 == 0 || len(ready) >= min(need, 2) {
		return change{changePromote, ready[0].ID, "it has caught up"}
	}
	return none
}

// add brings in as many non-voters as voters are missing.
func add(t *tally) change {
	coming := 0
	for _, m := range t.nonvoters {
		if m.alive() && !m.unwanted() && !m.Avoid {
			coming++
		}
	}
	if t.target-t.kept <= coming {
		return none
	}
	var able []candidate
	for _, m := range t.outside {
		if m.alive() && !m.unwanted() && !m.Avoid {
			able = append(able, m)
		}
	}
	if len(able) == 0 {
		return none
	}
	t.rank(able)
	return change{changeAdd, able[0].ID, "voters are missing"}
}

// shrink leaves an even number of healthy voters that has no prospect of
// growing: two voters stop when either dies.
func shrink(t *tally) change {
	if len(t.voters)%2 != 0 || len(t.voters) <= t.target || t.aliveVoters("") != len(t.voters) {
		return none
	}
	others := slices.DeleteFunc(slices.Clone(t.voters), func(m candidate) bool { return m.ID == t.Self })
	t.rank(others)
	return change{changeRemove, others[len(others)-1].ID, "an even number of voters stands no more deaths than one less"}
}

// tidy takes out non-voters that are not needed once they know of it, and has a
// node that was removed behind its back told so.
func tidy(t *tally) change {
	spare := len(t.nonvoters) - max(0, t.target-t.kept)
	for _, m := range t.nonvoters {
		if !m.alive() && m.GoneFor >= t.DeadVoterAfter || spare > 0 && m.CaughtUp {
			return change{changeRemove, m.ID, "it is not needed"}
		}
	}
	for _, m := range t.outside {
		if m.InLog && m.alive() && !m.Leaving && !m.Avoid {
			return change{changeAdd, m.ID, "it does not know that it was removed"}
		}
	}
	return none
}

// ready are the non-voters that can be promoted, the best first.
func (t *tally) ready() []candidate {
	var out []candidate
	for _, m := range t.nonvoters {
		if m.alive() && m.Ready && !m.unwanted() {
			out = append(out, m)
		}
	}
	t.rank(out)
	return out
}

func (t *tally) aliveVoters(but string) int {
	n := 0
	for _, m := range t.voters {
		if m.alive() && m.ID != but {
			n++
		}
	}
	return n
}

// survivesWithout reports whether the voters that are alive are a majority of
// those that remain.
func (t *tally) survivesWithout(id string) bool {
	rest := len(t.voters) - 1
	return rest > 0 && t.aliveVoters(id) >= rest/2+1
}

// rank sorts the best voters first: witnesses, then zones without a voter, then
// the longest up.
func (t *tally) rank(list []candidate) {
	zones := map[string]bool{}
	for _, m := range t.voters {
		zones[m.Zone] = true
	}
	score := func(m candidate) int {
		s := 0
		if m.Role != RoleVoterOnly {
			s += 2
		}
		if m.Zone == "" || zones[m.Zone] {
			s++
		}
		return s
	}
	slices.SortFunc(list, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(score(a), score(b)), a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
	})
}
