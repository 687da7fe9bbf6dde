package cluster

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// virtual is a node's configuration on a network in memory, with the times that
// a user gets.
func virtual(t *testing.T, network *Memory, ip string, join ...*node) Config {
	cfg := Config{
		DataDir: filepath.Join(t.TempDir(), ip), Bind: ":9898", Network: network.Host(ip), Offer: Offer{Name: ip},
		DeadVoterAfter: 30 * time.Second,
	}
	for _, n := range join {
		cfg.Join, cfg.Token = append(cfg.Join, hostOf(n.Addr())+":9898"), n.Token()
	}
	return cfg
}

// memory is a network for one test. What memberlist has begun when its node ends
// runs on for a probe's time, so the test outlives it: virtual time stands still
// once the test has returned.
func memory(t *testing.T) *Memory {
	t.Cleanup(func() { time.Sleep(time.Minute) })
	return NewMemory()
}

func virtualNodes(t *testing.T, network *Memory, count int) []*node {
	nodes := []*node{start(t, virtual(t, network, "10.0.0.1"))}
	for i := 2; i <= count; i++ {
		nodes = append(nodes, start(t, virtual(t, network, fmt.Sprintf("10.0.0.%d", i), nodes[0])))
	}
	nodes[0].untilVoters(voterTarget(count, 5), time.Minute)
	return nodes
}

func without(nodes []*node, gone ...*node) []*node {
	return slices.DeleteFunc(slices.Clone(nodes), func(n *node) bool { return slices.Contains(gone, n) })
}

// terms are those in which the nodes led, one count a term.
func terms(nodes []*node) map[uint64]int {
	out := map[uint64]int{}
	for _, n := range nodes {
		n.scopes.mu.Lock()
		for _, term := range n.scopes.terms {
			out[term]++
		}
		n.scopes.mu.Unlock()
	}
	return out
}

func TestVirtualFiveNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memory(t)
		nodes := virtualNodes(t, network, 5)
		first := leaderOf(t, time.Minute, nodes...)
		first.mustApply("one")

		time.Sleep(10 * time.Minute)
		if got := terms(nodes); len(got) != 1 {
			t.Errorf("ten idle minutes: terms %v, want one", got)
		}

		// Its machine dies.
		network.Cut(func(from, _ string) bool { return from == hostOf(first.Addr()) })
		died := time.Now()
		rest := without(nodes, first)
		for _, n := range rest {
			n.until("another leader", time.Minute, func(s Snapshot) bool { return s.HasLeader && s.Leader.ID != first.nodeID })
		}
		if took := time.Since(died); took > 10*time.Second {
			t.Errorf("a new leader after %s", took)
		}
		second := leaderOf(t, time.Minute, rest...)
		second.mustApply("two")
		if _, _, err := first.Apply(t.Context(), []byte("lost")); err == nil {
			t.Error("the old leader applied an entry without a majority")
		}
		second.until("a spare in the dead one's place", 2*time.Minute, func(Snapshot) bool {
			v := second.voters()
			return len(v) == 3 && !slices.Contains(v, first.nodeID)
		})

		// It comes back, with an old log, and finds out that it is no voter now.
		network.Cut(nil)
		first.until("the new leader", time.Minute, func(s Snapshot) bool { return s.HasLeader && s.Leader.ID == second.nodeID })
		first.until("that it was removed", time.Minute, func(Snapshot) bool { return !first.HasLog() })
		second.mustApply("three")
		for term, n := range terms(nodes) {
			if n > 1 {
				t.Errorf("term %d had %d leaders", term, n)
			}
		}
	})
}

// TestVirtualSuccession ends the leader's process: another leads before Raft's timeout
// could have run out, and without an election to spare.
func TestVirtualSuccession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memory(t)
		nodes := virtualNodes(t, network, 5)
		first := leaderOf(t, time.Minute, nodes...)
		first.mustApply("one")
		time.Sleep(time.Second) // for the others to have heard of it
		term := first.raft.Load().CurrentTerm()

		network.Crash(hostOf(first.Addr()))
		died := time.Now()
		rest := without(nodes, first)
		second := leaderOf2(t, rest, first.nodeID)
		if took := time.Since(died); took >= first.Cluster.cfg.HeartbeatTimeout {
			t.Errorf("a new leader after %s: as late as by Raft's timeout of %s", took, first.Cluster.cfg.HeartbeatTimeout)
		}
		if got := second.raft.Load().CurrentTerm(); got != term+1 {
			t.Errorf("it leads in term %d, the dead one led in %d", got, term)
		}
		second.mustApply("two")
	})
}

// TestVirtualVerifyLeader has a leader that has not applied yet what was committed before
// it led: it does not vouch for its state until it has.
func TestVirtualVerifyLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memory(t)
		nodes := virtualNodes(t, network, 3)
		first := leaderOf(t, time.Minute, nodes...)
		rest := without(nodes, first)
		gate := make(chan struct{})
		for _, n := range rest {
			n.journal.mu.Lock()
			n.journal.gate = gate
			n.journal.mu.Unlock()
		}
		first.mustApply("accepted")
		time.Sleep(time.Second) // for the others to hear that it is committed
		network.Crash(hostOf(first.Addr()))
		second := leaderOf2(t, rest, first.nodeID)

		verified := make(chan error, 1)
		var wg sync.WaitGroup
		wg.Go(func() { verified <- second.VerifyLeader(t.Context()) })
		time.Sleep(time.Second)
		select {
		case err := <-verified:
			t.Errorf("it vouches for a state that lacks what was accepted: %v", err)
			verified <- err
		default:
		}
		close(gate)
		wg.Wait()
		if err := <-verified; err != nil || !slices.Equal(second.journal.all(), []string{"accepted"}) {
			t.Errorf("%v, with the entries %q", err, second.journal.all())
		}
		first.mustNotVerify(t)
	})
}

func (n *node) mustNotVerify(t *testing.T) {
	t.Helper()
	if err := n.VerifyLeader(t.Context()); err == nil {
		t.Errorf("%s vouches for its state, and does not lead", n.nodeID)
	}
}

// TestVirtualHangUp closes the connections of a leader that lives on: it goes on to lead.
func TestVirtualHangUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memory(t)
		nodes := virtualNodes(t, network, 3)
		leader := leaderOf(t, time.Minute, nodes...)
		for range 10 {
			network.HangUp(hostOf(leader.Addr()))
			leader.mustApply("on")
			time.Sleep(time.Second)
		}
		if got := terms(nodes); len(got) != 1 {
			t.Errorf("terms %v, want one", got)
		}
	})
}

// TestVirtualSevenNodes loses two of five voters at once, the leader among them.
func TestVirtualSevenNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memory(t)
		nodes := virtualNodes(t, network, 7)
		leader := leaderOf(t, time.Minute, nodes...)
		dead := []*node{leader}
		for _, n := range without(nodes, leader) {
			if len(dead) < 2 && slices.Contains(leader.voters(), n.nodeID) {
				dead = append(dead, n)
			}
		}
		leader.mustApply("one")
		cut := []string{hostOf(dead[0].Addr()), hostOf(dead[1].Addr())}
		network.Cut(func(from, _ string) bool { return slices.Contains(cut, from) })
		rest := without(nodes, dead...)
		next := leaderOf2(t, rest, leader.nodeID)
		next.mustApply("two")
		next.until("healthy voters only", 5*time.Minute, func(Snapshot) bool {
			v := next.voters()
			return len(v) == 3 && !slices.Contains(v, dead[0].nodeID) && !slices.Contains(v, dead[1].nodeID)
		})
		for _, n := range rest {
			n.until("the leader", time.Minute, func(s Snapshot) bool { return s.HasLeader && s.Leader.ID == next.nodeID })
		}
	})
}

func TestVirtualNewAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memory(t)
		nodes := virtualNodes(t, network, 3)
		leader := leaderOf(t, time.Minute, nodes...)
		gone := without(nodes, leader)[0]
		if err := gone.stop(); err != nil {
			t.Fatal(err)
		}
		leader.mustApply("while it was away")
		cfg := gone.cfg
		cfg.Network, cfg.Join = network.Host("10.0.7.7"), nil // it finds the others by what it has on disk
		back := start(t, cfg)
		back.until("what it missed", time.Minute, func(Snapshot) bool { return len(back.journal.all()) == 1 })
		leader.until("the new address", time.Minute, func(Snapshot) bool {
			m, ok := leader.board.member(back.nodeID)
			return ok && m.State == Alive && m.Addr == "10.0.7.7:9898"
		})
		if got := terms(append(nodes, back)); len(got) != 1 {
			t.Errorf("a new address caused elections: %v", got)
		}
	})
}

func TestVirtualPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memory(t)
		nodes := virtualNodes(t, network, 5)
		old := leaderOf(t, time.Minute, nodes...)
		var voters []*node
		for _, n := range nodes {
			if n != old && slices.Contains(old.voters(), n.nodeID) {
				voters = append(voters, n)
			}
		}
		spare := without(nodes, append(voters, old)...)[0]
		// The old leader is with a node that has no log on one side, the majority on
		// the other, for longer than gossip remembers the dead.
		minority := []string{hostOf(old.Addr()), hostOf(spare.Addr())}
		network.Cut(func(from, to string) bool { return slices.Contains(minority, from) != slices.Contains(minority, to) })
		next := leaderOf2(t, voters, old.nodeID)
		next.mustApply("of the majority")
		if _, _, err := old.Apply(t.Context(), []byte("of the minority")); !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrUncertain) {
			t.Errorf("apply in the minority: %v", err)
		}
		time.Sleep(5 * time.Minute)
		network.Cut(nil)
		for _, n := range nodes {
			n.until("all five again", 2*time.Minute, func(s Snapshot) bool {
				alive := 0
				for _, m := range s.Members {
					if m.State == Alive {
						alive++
					}
				}
				return alive == 5 && s.HasLeader
			})
		}
		leader := leaderOf(t, time.Minute, nodes...)
		leader.mustApply("healed")
		leader.until("three voters", 2*time.Minute, func(Snapshot) bool { return len(leader.voters()) == 3 })
		for _, n := range nodes {
			if slices.Contains(n.journal.all(), "of the minority") {
				t.Errorf("%s applied what had no majority", n.nodeID)
			}
		}
		for term, n := range terms(nodes) {
			if n > 1 {
				t.Errorf("term %d had %d leaders", term, n)
			}
		}
	})
}

func leaderOf2(t *testing.T, nodes []*node, not string) *node {
	t.Helper()
	for _, n := range nodes {
		n.until("another leader", time.Minute, func(s Snapshot) bool { return s.HasLeader && s.Leader.ID != not })
	}
	return leaderOf(t, time.Minute, nodes...)
}

func TestVirtualTwoClustersStayApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memory(t)
		a := start(t, virtual(t, network, "10.0.0.1"))
		x := start(t, virtual(t, network, "10.0.1.1"))
		leaderOf(t, time.Minute, a).mustApply("a")
		leaderOf(t, time.Minute, x).mustApply("x")
		// Both are told of each other while they run, as an operator's mistake would.
		for range 3 {
			if n, err := a.gossip.list.Join([]string{"10.0.1.1:9898"}); n != 0 || err == nil || !strings.Contains(err.Error(), "another cluster") {
				t.Errorf("gossip with another cluster: %d, %v", n, err)
			}
			if n, _ := x.gossip.list.Join([]string{"10.0.0.1:9898"}); n != 0 {
				t.Error("gossip with another cluster")
			}
		}
		time.Sleep(5 * time.Minute)
		for _, n := range []*node{a, x} {
			if len(n.Members()) != 1 || len(n.journal.all()) != 1 || len(n.voters()) != 1 {
				t.Errorf("%s: %s, %q", n.nodeID, describe(first(n.Watch())), n.journal.all())
			}
			n.mustApply("on")
		}
	})
}

func first(s Snapshot, _ <-chan struct{}) Snapshot { return s }

func TestVirtualJoinersNeverFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memory(t)
		secret := token{secret: make([]byte, secretSize)}.String()
		results := make(chan error, 2)
		var wg sync.WaitGroup
		defer wg.Wait()
		for _, pair := range [][2]string{{"10.0.0.1", "10.0.0.2"}, {"10.0.0.2", "10.0.0.1"}} {
			cfg := virtual(t, network, pair[0])
			cfg.Join, cfg.Token = []string{pair[1] + ":9898"}, secret
			n := open(t, cfg)
			defer n.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			wg.Go(func() { results <- n.Join(ctx) })
		}
		for range 2 {
			if err := <-results; err == nil || errors.Is(err, ErrForeign) {
				t.Errorf("two empty nodes that join each other: %v, want them to wait", err)
			}
		}
	})
}

func TestVirtualLostMajority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memory(t)
		nodes := virtualNodes(t, network, 3)
		leader := leaderOf(t, time.Minute, nodes...)
		rest := without(nodes, leader)
		for _, n := range rest {
			if err := n.stop(); err != nil {
				t.Fatal(err)
			}
		}
		leader.until("no leader", time.Minute, func(s Snapshot) bool { return !s.HasLeader })
		time.Sleep(time.Hour)
		if s := leader.Stats(); !strings.Contains(s.Tolerance, "no majority") {
			t.Errorf("tolerance: %q", s.Tolerance)
		}
		back := start(t, rest[0].cfg)
		leaderOf(t, time.Minute, leader, back).mustApply("on")
	})
}

func TestVirtualLeaderWorkFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memory(t)
		nodes := virtualNodes(t, network, 3)
		old := leaderOf(t, time.Minute, nodes...)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		ended := make(chan error, 1)
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() {
			ended <- old.WhileLeader(ctx, func(context.Context, uint64) error { return errors.New("disk full") })
		})
		leaderOf2(t, nodes, old.nodeID)
		cancel()
		if err := <-ended; err == nil {
			t.Error("WhileLeader returned without an error")
		}
	})
}
