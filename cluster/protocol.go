package cluster

import (
	"cmp"
	"fmt"
)

// reaches says why two nodes can't talk to each other; nil where they can. Nodes that
// announce no protocol have 0.
func (o Offer) reaches(theirs Offer) error {
	name := cmp.Or(theirs.Name, "the other node")
	switch {
	case o.Protocol < theirs.Oldest:
		return fmt.Errorf("%w: this node speaks protocol %d (narwhal %s), and %s none before %d (narwhal %s): start this node with a newer narwhal",
			ErrProtocol, o.Protocol, o.Version, name, theirs.Oldest, theirs.Version)
	case theirs.Protocol < o.Oldest:
		return fmt.Errorf("%w: %s speaks protocol %d (narwhal %s), and this node none before %d (narwhal %s): upgrade the cluster to a version in between first",
			ErrProtocol, name, theirs.Protocol, theirs.Version, o.Oldest, o.Version)
	}
	return nil
}

// apart ends a node that has met nobody since its start but nodes that it can't talk to.
// One that has, or leads, refuses such a newcomer and goes on.
func (c *Cluster) apart(err error) {
	if c.met.Load() || c.board.logView().Leads {
		return
	}
	select {
	case c.end <- err:
	default:
	}
}
