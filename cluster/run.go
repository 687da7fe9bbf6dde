package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"
)

const (
	lookEvery    = time.Second
	leaveGossip  = time.Second
	leavePoll    = 200 * time.Millisecond
	startTimeout = 10 * time.Second
)

// Run takes part in the cluster until ctx ends, hands leadership over, says
// goodbye and returns nil when all that it started has ended. It returns early
// with ErrMachine, ErrSuperseded, or what kept it from starting.
func (c *Cluster) Run(ctx context.Context) error {
	defer c.Close()
	if c.Identity().NodeID == "" {
		return fmt.Errorf("run cluster: %w: it has not joined yet", ErrNotRunning)
	}
	base, cancel := context.WithCancel(context.WithoutCancel(ctx)) // outlives ctx, to say goodbye
	defer cancel()
	g, inner := errgroup.WithContext(base)
	c.joinLane, c.peerLane = c.mux.listen(alpnJoin, nil), c.mux.listen(alpnPeer, nil)
	g.Go(func() error { return c.mux.run(base) })
	err := c.start(inner, g)
	if err == nil {
		close(c.ready)
		err = c.awaitEnd(ctx, inner)
		c.sayGoodbye()
	}
	errEnd := c.release() // while the port still serves: Raft and gossip end in peace
	cancel()
	return errors.Join(err, g.Wait(), errEnd)
}

// start brings up log and gossip, and the loops that serve them.
func (c *Cluster) start(ctx context.Context, g *errgroup.Group) error {
	c.startedAt = time.Now()
	id := c.Identity()
	creds, err := newCredentials(&id)
	if err != nil {
		return err
	}
	c.mux.use(creds)
	addr, err := c.advertise(ctx)
	if err != nil {
		return err
	}
	c.addr = addr.String()
	if c.store, err = openLogStore(filepath.Join(c.cfg.DataDir, raftDir), c.log); err != nil {
		return err
	}
	if err := c.openRaft(ctx, addr); err != nil {
		return err
	}
	t := newTransport(ctx, c.mux, c.packets, addr.AddrPort())
	c.transport = t
	g.Go(t.readPackets)
	g.Go(t.acceptStreams)
	if c.gossip, err = newGossip(c.cfg, id, c.board, c.announce, c.seen, c.apart, t, c.log); err != nil {
		return err
	}
	for _, loop := range []func(context.Context) error{
		c.drainNotify, c.observe, c.succeed, c.followGeneration, c.admitNewcomers, c.answerPeers,
		c.gossip.tellLoop, c.gossip.joinLoop, c.gossip.saveLoop,
	} {
		g.Go(func() error { return loop(ctx) })
	}
	g.Go(func() error {
		if err := c.WhileLeader(ctx, c.keepVoters); ctx.Err() == nil {
			return err
		}
		return nil
	})
	return nil
}

func (c *Cluster) advertise(ctx context.Context) (*net.TCPAddr, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	peer := ""
	for _, addr := range c.board.missing() {
		peer = addr
	}
	addr, err := advertised(ctx, c.cfg, c.mux.ln.Addr(), peer)
	if err != nil {
		return nil, err
	}
	return net.TCPAddrFromAddrPort(addr), nil
}

// announce is what gossip says of this node.
func (c *Cluster) announce() Member {
	view := c.board.logView()
	m := Member{
		ID: c.nodeID, Offer: c.cfg.Offer, Generation: c.Identity().Generation, Role: c.cfg.Role,
		Leaving: c.leaving.Load(), stopping: c.stopping.Load(), Load: *c.load.Load(), Started: c.startedAt, InLog: view.InLog,
	}
	if m.Offer.Name == "" {
		m.Offer.Name = c.nodeID
	}
	if view.InLog {
		m.hint = hint{Leader: view.Leader, Term: view.Term}
	}
	return m
}

// observe keeps the board's view of the log. Raft tells of changes at once; the
// ticker is for what it does not tell, such as a new term.
func (c *Cluster) observe(ctx context.Context) error {
	news := make(chan raft.Observation, observationRoom)
	o := raft.NewObserver(news, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState, raft.PeerObservation:
			return true
		}
		return false
	})
	r := c.raft.Load()
	r.RegisterObserver(o)
	defer r.DeregisterObserver(o)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		c.look()
		select {
		case <-news:
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// look compares what Raft says with the board.
func (c *Cluster) look() {
	r := c.raft.Load()
	v := logView{Leads: r.State() == raft.Leader, Term: r.CurrentTerm()}
	for _, s := range r.GetConfiguration().Configuration().Servers {
		v.InLog = v.InLog || string(s.ID) == c.nodeID
	}
	if v.InLog {
		_, leader := r.LeaderWithID()
		v.Leader = string(leader)
	}
	if !c.board.setView(v) {
		return
	}
	c.gossip.tell()
	if v.InLog && !c.Identity().Logged {
		if err := c.updateIdentity(func(id *Identity) { id.Logged = true }); err != nil {
			c.log.Error("note that this node holds the log", "err", err)
		}
	}
}

// seen notices a cluster that was recovered without this node, and another
// process that runs as this node: two voters with one vote would be fatal.
func (c *Cluster) seen(m Member) {
	id := c.Identity()
	if m.ID != id.NodeID && m.State == Alive {
		c.met.Store(true)
	}
	if m.ID == id.NodeID && m.State == Alive && (m.Incarnation > id.Incarnation || m.Addr != c.addr) {
		select {
		case c.end <- fmt.Errorf("%w: node %s, at %s since its start %d; this is start %d at %s; remove one of the two data directories and join anew", ErrTwin, m.ID, m.Addr, m.Incarnation, id.Incarnation, c.addr):
		default:
		}
	}
	if m.Generation > id.Generation {
		select {
		case c.newer <- m.Generation:
		default:
		}
	}
}

// followGeneration adopts a recovered cluster's generation when there is no log
// here that could contradict it.
func (c *Cluster) followGeneration(ctx context.Context) error {
	for {
		select {
		case generation := <-c.newer:
			id := c.Identity()
			if generation <= id.Generation {
				continue
			}
			if c.raft.Load().LastIndex() > 0 {
				return fmt.Errorf("%w: generation %d, this node %s holds a log of generation %d; move %s away and join anew", ErrSuperseded, generation, id.NodeID, id.Generation, c.cfg.DataDir)
			}
			c.log.Warn("the cluster was recovered, following it", "generation", generation)
			if err := c.updateIdentity(func(id *Identity) { id.Generation = generation }); err != nil {
				return err
			}
			c.gossip.tell()
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *Cluster) awaitEnd(ctx, inner context.Context) error {
	select {
	case err := <-c.fsm.fatal:
		return err
	case err := <-c.end:
		return err
	case <-ctx.Done():
	case <-inner.Done():
	}
	return nil
}

// sayGoodbye hands leadership over and tells the others, so that nobody waits
// for this node. Each step is bounded.
func (c *Cluster) sayGoodbye() {
	if err := c.handOver(); err != nil {
		c.log.Info("stopping as leader", "err", err)
	}
	c.stopping.Store(true)
	if err := c.gossip.list.UpdateNode(tellTimeout); err != nil {
		c.log.Debug("say that this node stops", "err", err)
	}
	if err := c.gossip.list.Leave(leaveGossip); err != nil {
		c.log.Debug("say goodbye", "err", err)
	}
}

// release ends log and gossip, in the reverse order of start.
func (c *Cluster) release() error {
	var errs []error
	if c.gossip != nil {
		errs = append(errs, c.gossip.list.Shutdown())
	} else if c.transport != nil {
		errs = append(errs, c.transport.Shutdown())
	}
	if r := c.raft.Load(); r != nil {
		errs = append(errs, r.Shutdown().Error())
	}
	if c.trans != nil {
		_ = c.trans.Close()
		c.trans.CloseStreams()
	}
	if c.store != nil {
		errs = append(errs, c.store.bolt.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stop cluster: %w", err)
	}
	return nil
}
