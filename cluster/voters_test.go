package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// parseElectorate reads "a:vL b:v- c:n…": a node's ID, "v" for voter, "n" for
// non-voter, "." for neither, and flags: "+" alive, "d" dead for long, "s" gone a
// moment ago, "r" ready, "l" leaving, "w" witness, "x" never votes, "z" in zone z, "i" thinks
// it is in the log, "a" does not answer. The first node is the leader. IDs sort
// by age.
func parseElectorate(text string) electorate {
	e := electorate{MaxVoters: 5, DeadVoterAfter: time.Minute}
	for i, field := range strings.Fields(text) {
		id, flags, _ := strings.Cut(field, ":")
		m := candidate{ID: id, State: Alive, Started: time.Unix(int64(i), 0)}
		for _, f := range flags {
			switch f {
			case 'v', 'n':
				e.Servers = append(e.Servers, server{ID: id, Voter: f == 'v'})
			case 'd':
				m.State, m.GoneFor = Dead, time.Hour
			case 's':
				m.State, m.GoneFor = Stopped, time.Second
			case 'r':
				m.Ready, m.CaughtUp = true, true
			case 'c':
				m.CaughtUp = true
			case 'l':
				m.Leaving = true
			case 'w':
				m.Role = RoleVoterOnly
			case 'x':
				m.Role = RoleNoVoter
			case 'z':
				m.Zone = "z"
			case 'i':
				m.InLog = true
			case 'a':
				m.Avoid = true
			}
		}
		e.Members = append(e.Members, m)
		if i == 0 {
			e.Self = id
		}
	}
	return e
}

func TestDecide(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"alone", "a:v+", "none"},
		{"two nodes keep one voter", "a:v+ b:.+", "none"},
		{"the third brings two non-voters", "a:v+ b:.+ c:.+", "add b"},
		{"the second of them", "a:v+ b:n+ c:.+", "add c"},
		{"not before both are ready", "a:v+ b:nr c:n+", "none"},
		{"both are", "a:v+ b:nr c:nr", "promote b"},
		{"never stays at two", "a:v+ b:v+ c:nr", "promote c"},
		{"the third got lost on the way", "a:v+ b:v+ c:nd", "remove b"},
		{"the third does not answer", "a:v+ b:v+ c:.a", "remove b"},
		{"three of six", "a:v+ b:v+ c:v+ d:.+ e:.+ f:.+", "none"},
		{"the seventh", "a:v+ b:v+ c:v+ d:.+ e:.+ f:.+ g:.+", "add d"},
		{"three to five in a pair", "a:v+ b:v+ c:v+ d:nr e:n+ f:.+ g:.+", "none"},
		{"four to five", "a:v+ b:v+ c:v+ d:v+ e:nr f:.+ g:.+", "promote e"},
		{"five stay when a node goes", "a:v+ b:v+ c:v+ d:v+ e:v+ f:.d g:.+", "none"},
		{"an unreachable node is never added", "a:v+ b:.d c:.a d:.+", "none"},
		{"a witness first", "a:v+ b:.+ c:.w", "add c"},
		{"another zone first", "a:vz b:.z c:.", "add b"},
		{"zones", "a:v b:. c:.z", "add c"},
		{"never votes", "a:v+ b:.x c:.+", "none"},
		{"never votes and is left out", "a:v+ b:.x c:.+ d:.+", "add c"},
		{"was made one that never votes", "a:v+ b:v+ c:vx", "remove c"},
		{"a voter gone a moment ago", "a:v+ b:v+ c:vs d:.+", "none"},
		{"a dead voter with no other", "a:v+ b:v+ c:vd", "none"},
		{"a dead voter and a spare", "a:v+ b:v+ c:vd d:.+", "add d"},
		{"the spare is coming", "a:v+ b:v+ c:vd d:n+", "none"},
		{"the spare is ready", "a:v+ b:v+ c:vd d:nr", "remove c"},
		{"and takes its place", "a:v+ b:v+ d:nr", "promote d"},
		{"two of five dead, one spare", "a:v+ b:v+ c:v+ d:vd e:vd f:nr", "remove d"},
		{"a voter leaves", "a:v+ b:v+ c:vl", "remove c"},
		{"two are left of three", "a:v+ b:v+", "remove b"},
		{"the leader leaves and hands over", "a:vl b:v+ c:v+", "transfer a"},
		{"the only voter leaves: another comes", "a:vl b:.+", "add b"},
		{"is made voter", "a:vl b:nr", "promote b"},
		{"and takes over", "a:vl b:v+", "transfer a"},
		{"and dismisses it", "b:v+ a:vl", "remove a"},
		{"a leaver that never heard of it", "a:v+ b:nl", "remove b"},
		{"not needed any more", "a:v+ b:v+ c:v+ d:nr", "remove d"},
		{"not needed, but would not know", "a:v+ b:v+ c:v+ d:n+", "none"},
		{"dead and not needed", "a:v+ b:v+ c:v+ d:nd", "remove d"},
		{"thinks it is in the log", "a:v+ b:v+ c:v+ d:.i", "add d"},
		{"four healthy of six nodes", "a:v+ b:v+ c:v+ d:v+ e:.+ f:.+", "remove d"},
	} {
		got := decide(parseElectorate(tc.in))
		text := strings.TrimSpace(string(got.Kind) + " " + got.ID)
		if text != tc.want {
			t.Errorf("%s: %q: got %q (%s), want %q", tc.name, tc.in, text, got.Reason, tc.want)
		}
	}
}

// TestDecideNeverLosesTheMajority plays clusters whose nodes come, go and die.
// Whatever happens, a change never leaves fewer voters alive than a majority,
// and once nothing happens the voters come to rest at a healthy odd number.
func TestDecideNeverLosesTheMajority(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 9).Draw(t, "nodes")
		e := electorate{Self: "n0", MaxVoters: 5, DeadVoterAfter: time.Minute, Servers: []server{{ID: "n0", Voter: true}}}
		for i := range n {
			e.Members = append(e.Members, candidate{ID: fmt.Sprintf("n%d", i), State: Alive, Started: time.Unix(int64(i), 0),
				Role: rapid.SampledFrom([]Role{RoleAny, RoleAny, RoleAny, RoleVoterOnly, RoleNoVoter}).Draw(t, "role")})
		}
		e.Members[0].Role = RoleAny
		for range rapid.IntRange(0, 30).Draw(t, "events") {
			i := rapid.IntRange(0, n-1).Draw(t, "node")
			before := e.Members[i]
			switch rapid.SampledFrom([]string{"die", "live", "leave", "step", "step", "step"}).Draw(t, "event") {
			case "die":
				if i > 0 && !before.Leaving {
					e.Members[i].State, e.Members[i].GoneFor = Dead, time.Hour
				}
			case "live":
				e.Members[i].State, e.Members[i].GoneFor = Alive, 0
			case "leave":
				e.Members[i].Leaving = i > 0
			}
			if alive, voters := majority(e); alive < voters/2+1 {
				e.Members[i] = before // the leader would have stepped down
			}
			settle(e)
			e = step(t, e)
		}
		for i := 0; ; i++ {
			settle(e)
			next := step(t, e)
			if len(next.Servers) == len(e.Servers) && decide(e).Kind == changeNone {
				break
			}
			if e = next; i > 40 {
				t.Fatalf("does not come to rest: %+v", e)
			}
		}
		alive, voters := majority(e)
		if c := count(e); alive == voters && voters%2 == 0 {
			t.Fatalf("rests at %d voters of target %d: %+v", voters, c.target, e)
		}
		if c := count(e); c.kept < c.target && len(c.gone) == 0 && alive == voters {
			t.Fatalf("rests at %d of %d voters: %+v", c.kept, c.target, e)
		}
	})
}

func majority(e electorate) (alive, voters int) {
	c := count(e)
	return c.aliveVoters(""), len(c.voters)
}

// settle has every non-voter that is alive catch up, and know where it is.
func settle(e electorate) {
	for i := range e.Members {
		m := &e.Members[i]
		m.Ready, m.CaughtUp = false, false
		for _, s := range e.Servers {
			if s.ID == m.ID && !s.Voter && m.alive() {
				m.Ready, m.CaughtUp = true, true
			}
		}
	}
}

func step(t *rapid.T, e electorate) electorate {
	c := decide(e)
	next := e
	next.Servers = nil
	for _, s := range e.Servers {
		switch {
		case s.ID != c.ID:
		case c.Kind == changeRemove:
			continue
		case c.Kind == changePromote:
			s.Voter = true
		}
		next.Servers = append(next.Servers, s)
	}
	if c.Kind == changeAdd {
		next.Servers = append(next.Servers, server{ID: c.ID})
	}
	if alive, voters := majority(next); alive < voters/2+1 {
		t.Fatalf("%v leaves %d of %d voters alive: %+v", c, alive, voters, e)
	}
	return next
}
