package main

import (
	"cmp"
	"slices"

	"github.com/codepr/narwhal/cluster"
	"github.com/codepr/narwhal/fsm"
)

// nearest has the holders of a blob asked in the order of byDistance, as gossip has it.
func nearest(c *cluster.Cluster) func([]fsm.NodeID) []fsm.NodeID {
	return func(holders []fsm.NodeID) []fsm.NodeID {
		snap, _ := c.Watch()
		return byDistance(holders, snap.Members, c.Self().Offer.Zone)
	}
}

// byDistance sorts holders: live nodes of the zone, other live nodes, a bucket, and at
// last nodes that are not there, which it takes time to find out.
func byDistance(holders []fsm.NodeID, members []cluster.Member, zone string) []fsm.NodeID {
	distance := func(id fsm.NodeID) int {
		if id.IsBucket() {
			return 2
		}
		at := slices.IndexFunc(members, func(m cluster.Member) bool { return m.ID == string(id) })
		switch {
		case at < 0 || members[at].State != cluster.Alive:
			return 3
		case members[at].Offer.Zone == zone:
			return 0
		default:
			return 1
		}
	}
	sorted := slices.Clone(holders)
	slices.SortStableFunc(sorted, func(a, b fsm.NodeID) int { return cmp.Compare(distance(a), distance(b)) })
	return sorted
}
