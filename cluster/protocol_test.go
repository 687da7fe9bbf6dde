package cluster

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// speaking is an offer of a version.
func speaking(name string, protocol, oldest uint32) Offer {
	return Offer{Name: name, Version: "v" + name, Protocol: protocol, Oldest: oldest}
}

// TestVersionsTooFarApart has neither a node that is too old nor one that is too new let
// in, and both told why. One in between is.
func TestVersionsTooFarApart(t *testing.T) {
	cfg := real(t, "a")
	cfg.Offer = speaking("a", 3, 2)
	a := start(t, cfg)
	for _, c := range []struct {
		offer Offer
		want  string
	}{
		{speaking("old", 1, 0), "this node speaks protocol 1 (narwhal vold), and a none before 2 (narwhal va): start this node with a newer narwhal"},
		{Offer{Name: "oldest"}, "this node speaks protocol 0"},
		{speaking("new", 5, 4), "a speaks protocol 3 (narwhal va), and this node none before 4 (narwhal vnew): upgrade the cluster to a version in between first"},
	} {
		cfg := real(t, c.offer.Name, a)
		cfg.Offer = c.offer
		n := open(t, cfg)
		err := n.Join(t.Context())
		if !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s is told %v, want %q", c.offer.Name, err, c.want)
		}
		n.Close()
	}
	// The two could not talk to each other: each has a cluster of its own.
	for _, offer := range []Offer{speaking("before", 2, 1), speaking("after", 4, 3)} {
		cfg := real(t, "of "+offer.Name)
		cfg.Offer = speaking("a", 3, 2)
		a := start(t, cfg)
		cfg = real(t, offer.Name, a)
		cfg.Offer = offer
		n := start(t, cfg)
		a.until(offer.Name+" is there", time.Minute, func(s Snapshot) bool {
			for _, m := range s.Members {
				if m.ID == n.nodeID && m.State == Alive && m.Offer.Protocol == offer.Protocol && m.Offer.Oldest == offer.Oldest {
					return true
				}
			}
			return false
		})
	}
}

// TestVirtualUpgradeTooFar restarts a node as a version that can't talk to the others':
// it ends and says why, and they go on.
func TestVirtualUpgradeTooFar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memory(t)
		nodes := virtualNodes(t, network, 3)
		leader := leaderOf(t, time.Minute, nodes...)
		n := without(nodes, leader)[0]
		if err := n.stop(); err != nil {
			t.Fatal(err)
		}
		cfg := n.cfg
		cfg.Offer = speaking("far", 9, 8)
		again := start(t, cfg)
		var err error
		select {
		case err = <-again.done:
		case <-time.After(time.Hour):
			t.Fatal("it goes on")
		}
		if !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), "upgrade the cluster to a version in between first") {
			t.Errorf("it ended with %v", err)
		}
		again.done <- nil
		leader.mustApply("one")
		time.Sleep(time.Minute)
		leader.mustApply("two")
		if got := terms(nodes); len(got) != 1 {
			t.Errorf("the others had the terms %v, want one", got)
		}
	})
}
