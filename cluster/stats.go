package cluster

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/raft"
)

// Stats is how the log stands at one node.
type Stats struct {
	NodeID      string        `cbor:"1,keyasint" json:"node_id"`
	Generation  uint64        `cbor:"2,keyasint" json:"generation"`
	HasLog      bool          `cbor:"3,keyasint" json:"has_log"` // it is in the log's configuration
	State       string        `cbor:"4,keyasint" json:"state"`   // "leader", "follower", "candidate"; "none" without the log
	Term        uint64        `cbor:"5,keyasint" json:"term"`
	LastIndex   uint64        `cbor:"6,keyasint" json:"last_index"`
	CommitIndex uint64        `cbor:"7,keyasint" json:"commit_index"`
	Applied     uint64        `cbor:"8,keyasint" json:"applied_index"`
	LastContact time.Duration `cbor:"9,keyasint" json:"last_contact"` // with the leader, 0 on it, -1 for never
	Servers     []ServerStats `cbor:"10,keyasint" json:"servers"`     // empty without the log
	Tolerance   string        `cbor:"11,keyasint" json:"tolerance"`   // how many deaths the log stands, in words
}

// ServerStats is a node in the log's configuration.
type ServerStats struct {
	ID    string `cbor:"1,keyasint" json:"id"`
	Name  string `cbor:"2,keyasint" json:"name"`
	Addr  string `cbor:"3,keyasint" json:"addr"`
	Voter bool   `cbor:"4,keyasint" json:"voter"`
	State State  `cbor:"5,keyasint" json:"state"` // by gossip
}

// Stats is how the log stands here.
func (c *Cluster) Stats() Stats {
	id := c.Identity()
	s := Stats{NodeID: id.NodeID, Generation: id.Generation, State: "none", LastContact: -1}
	r := c.raft.Load()
	if r == nil {
		return s
	}
	s.Term, s.LastIndex, s.CommitIndex, s.Applied = r.CurrentTerm(), r.LastIndex(), r.CommitIndex(), r.AppliedIndex()
	s.HasLog = c.HasLog()
	state := r.State()
	if last := r.LastContact(); state == raft.Leader {
		s.LastContact = 0
	} else if !last.IsZero() {
		s.LastContact = time.Since(last)
	}
	if !s.HasLog {
		return s
	}
	s.State = map[raft.RaftState]string{raft.Leader: "leader", raft.Follower: "follower", raft.Candidate: "candidate", raft.Shutdown: "none"}[state]
	voters, alive := 0, 0
	for _, server := range r.GetConfiguration().Configuration().Servers {
		x := ServerStats{ID: string(server.ID), Addr: string(server.Address), Voter: server.Suffrage == raft.Voter, State: Dead}
		if m, ok := c.board.member(x.ID); ok {
			x.Name, x.Addr, x.State = m.Offer.Name, m.Addr, m.State
		}
		if x.Voter {
			voters++
			if x.State == Alive {
				alive++
			}
		}
		s.Servers = append(s.Servers, x)
	}
	s.Tolerance = tolerance(voters, alive)
	return s
}

// tolerance says what the next death does.
func tolerance(voters, alive int) string {
	quorum := voters/2 + 1
	switch spare := alive - quorum; {
	case alive < quorum:
		return fmt.Sprintf("no majority: %d of %d voters are alive, %d are needed; nothing is placed until one is back", alive, voters, quorum)
	case voters == 1:
		return "not fault tolerant: one voter; builds stop being placed while it is down. Three nodes stand the death of one"
	case spare == 0:
		return fmt.Sprintf("not fault tolerant now: %d of %d voters are alive, all of them are needed", alive, voters)
	case spare == 1:
		return fmt.Sprintf("stands the death of 1 of %d voters", voters)
	default:
		return fmt.Sprintf("stands the death of %d of %d voters", spare, voters)
	}
}

// LeaderStats is how the log stands at the leader, which any node may ask.
func (c *Cluster) LeaderStats(ctx context.Context) (Stats, error) {
	snap, _ := c.Watch()
	if !snap.HasLeader {
		return Stats{}, fmt.Errorf("ask the leader: there is none")
	}
	if snap.Leader.ID == c.nodeID {
		return c.Stats(), nil
	}
	return c.ask(ctx, snap.Leader.ID)
}

// ask has another node tell its Stats. That it answers at all is what shows that
// it can be reached.
func (c *Cluster) ask(ctx context.Context, nodeID string) (Stats, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := c.DialNode(ctx, nodeID, alpnPeer)
	if err != nil {
		return Stats{}, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(askTimeout))
	var s Stats
	if err := readMessage(conn, &s); err != nil {
		return Stats{}, fmt.Errorf("ask node %s: %w", nodeID, err)
	}
	return s, nil
}

func (c *Cluster) answerPeers(ctx context.Context) error {
	return serve(ctx, c.peerLane, func(conn net.Conn) {
		if err := writeMessage(conn, c.Stats()); err != nil {
			c.log.Debug("answer a node", "err", err)
		}
	})
}
