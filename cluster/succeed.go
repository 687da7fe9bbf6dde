package cluster

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// A process that ends closes its connections one after the other, its port among them.
	probes       = 3
	probePause   = 20 * time.Millisecond
	probeTimeout = 250 * time.Millisecond
	// standAfter is the head start of each voter before the next: two that stood at once
	// would split the votes.
	standAfter = 150 * time.Millisecond
)

// incoming is a connection of the log that another node has opened.
type incoming struct {
	*Conn
	once   sync.Once
	hungUp func(peer string)
}

// Read implements net.Conn.
func (c *incoming) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil && !errors.Is(err, net.ErrClosed) { // that would be this end's doing
		c.once.Do(func() { c.hungUp(c.PeerID()) })
	}
	return n, err
}

// Accept implements net.Listener.
func (s *streams) Accept() (net.Conn, error) {
	conn, err := s.lane.Accept()
	if c, ok := conn.(*Conn); ok {
		return &incoming{Conn: c, hungUp: s.hungUp}, err
	}
	return conn, err
}

// noteHangUp tells succeed of a leader that has closed a connection.
func (c *Cluster) noteHangUp(peer string) {
	r := c.raft.Load()
	if r == nil {
		return
	}
	if _, leader := r.LeaderWithID(); string(leader) == peer {
		select {
		case c.hungUp <- peer:
		default: // it is being looked at
		}
	}
}

// succeed has a voter stand for election as soon as it is certain that the leader's
// process is gone: its connections are closed and its port refuses new ones. A leader
// that is slow, stopped or cut off refuses nothing, so that busy machines and bad roads
// cause no election; for them, and for a machine that has lost its power, Raft's timeout
// is there. A firewall that rejects instead of dropping speaks in the leader's name: then
// it costs one election that was not needed.
//
// Raft would wait for the timeout of a majority: a voter that believes in a leader votes
// for nobody else, unless the candidate says that leadership was handed to it (Ongaro's
// dissertation, 3.10). That is what is said here, in the name of the dead. It is as safe:
// a candidate still needs the votes of a majority, whose logs are no newer than its own.
func (c *Cluster) succeed(ctx context.Context) error {
	for {
		select {
		case leader := <-c.hungUp:
			if err := c.standFor(ctx, raft.ServerID(leader)); err != nil {
				c.log.Warn("stand for election", "err", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *Cluster) standFor(ctx context.Context, leader raft.ServerID) error {
	r := c.raft.Load()
	term := r.CurrentTerm()
	turn := c.turn(leader)
	if turn < 0 || !c.follows(leader, term) || !c.processGone(ctx, leader) {
		return nil
	}
	if !wait(ctx, time.Duration(turn)*standAfter) || !c.follows(leader, term) {
		return nil // another was faster
	}
	c.log.Info("the leader's process is gone, standing for election", "leader", leader, "term", term+1)
	self := c.trans.LocalAddr()
	request := raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(c.nodeID), Addr: []byte(self),
	}}
	return c.trans.TimeoutNow(raft.ServerID(c.nodeID), self, &request, &raft.TimeoutNowResponse{})
}

// follows reports whether nothing has happened since term, in which another leads.
func (c *Cluster) follows(leader raft.ServerID, term uint64) bool {
	r := c.raft.Load()
	_, now := r.LeaderWithID()
	return r.State() == raft.Follower && r.CurrentTerm() == term && now == leader
}

// turn is this node's place among the voters that may succeed a leader, from 0; -1 where
// it doesn't vote.
func (c *Cluster) turn(leader raft.ServerID) int {
	var voters []raft.ServerID
	for _, s := range c.raft.Load().GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter && s.ID != leader {
			voters = append(voters, s.ID)
		}
	}
	slices.SortFunc(voters, func(a, b raft.ServerID) int { return strings.Compare(string(a), string(b)) })
	return slices.Index(voters, raft.ServerID(c.nodeID))
}

// processGone reports whether a node's host says that nothing listens on its port. It is
// false where the host says nothing.
func (c *Cluster) processGone(ctx context.Context, id raft.ServerID) bool {
	addr, err := c.board.ServerAddr(id)
	if err != nil {
		return false
	}
	for range probes {
		dialing, cancel := context.WithTimeout(ctx, probeTimeout)
		conn, err := c.cfg.Network.Dial(dialing, string(addr))
		cancel()
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			return true
		case err != nil:
			return false
		}
		_ = conn.Close()
		if !wait(ctx, probePause) {
			return false
		}
	}
	return false
}
