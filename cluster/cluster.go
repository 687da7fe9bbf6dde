package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Cluster is this node's part in the cluster. Open it, Join, then Run.
type Cluster struct {
	cfg      Config
	log      *slog.Logger
	fsm      *driver
	lock     *os.File
	packets  net.PacketConn
	mux      *mux
	notify   chan bool
	office   *office
	ready    chan struct{}
	leaving  atomic.Bool
	stopping atomic.Bool
	load     atomic.Pointer[Load]
	met      atomic.Bool // has seen another member alive since it was started
	closed   sync.Once

	mu sync.Mutex
	id *Identity // nil until joined

	// Set with the identity, by Open or Join.
	nodeID string
	board  *board

	// Set by Run before Ready is closed.
	joinLane  *lane
	peerLane  *lane
	gossip    *gossip
	transport *transport
	store     *raftLogStore
	trans     *raft.NetworkTransport
	raft      atomic.Pointer[raft.Raft]
	startedAt time.Time
	addr      string      // advertised
	end       chan error  // why this node can't go on beside the others, one slot
	newer     chan uint64 // a generation above this node's, one slot
	hungUp    chan string // a leader that has closed a connection of the log, one slot
}

// Open decides by the data directory and the configuration alone what this start
// is: founding, joining, or going on. It locks the directory and opens the port.
// A founder's Token can be had at once. Errors are ErrLocked, ErrDamaged, ErrLeft,
// ErrToken, ErrForeign, and those of the system.
func Open(cfg Config, machine Machine, log *slog.Logger) (*Cluster, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	c := &Cluster{
		cfg: cfg, log: log, fsm: newDriver(machine), office: newOffice(), ready: make(chan struct{}),
		notify: make(chan bool, notifyBuffer), newer: make(chan uint64, 1), end: make(chan error, 1), hungUp: make(chan string, 1),
	}
	c.load.Store(&Load{})
	var err error
	if c.lock, err = lockDir(cfg.DataDir); err != nil {
		return nil, err
	}
	if err := c.decideStart(); err != nil {
		_ = c.lock.Close()
		return nil, err
	}
	ln, packets, err := cfg.Network.Listen(cfg.Bind)
	if err != nil {
		_ = c.lock.Close()
		return nil, err
	}
	if cfg.Guard != nil {
		ln = cfg.Guard(ln)
	}
	c.packets, c.mux = packets, newMux(cfg.Network, ln, log)
	return c, nil
}

// decideStart is the table of what a start does.
func (c *Cluster) decideStart() error {
	id, err := loadIdentity(c.cfg.DataDir)
	if err != nil {
		return err
	}
	if id != nil && id.Left {
		if len(c.cfg.Join) == 0 || c.cfg.Token == "" {
			return fmt.Errorf("%w: node %s of cluster %s; start it with --join and --token to come back as a new one, or remove %s", ErrLeft, id.NodeID, id.ClusterID, c.cfg.DataDir)
		}
		if _, err := parseToken(c.cfg.Token); err != nil {
			return err // before anything is forgotten: an empty directory might found a cluster
		}
		if err := c.forget(); err != nil {
			return err
		}
		id = nil
	}
	switch {
	case id != nil:
		if err := c.checkToken(id); err != nil {
			return err
		}
		id.Incarnation++
		return c.setIdentity(id)
	case len(c.cfg.Join) > 0:
		_, err := parseToken(c.cfg.Token)
		return err
	case c.cfg.Role == RoleNoVoter:
		return errors.New("found cluster: the first node must be able to vote")
	}
	if id, err = found(); err != nil {
		return err
	}
	id.Incarnation = 1
	c.log.Info("founded a cluster", "cluster", id.ClusterID, "node", id.NodeID)
	return c.setIdentity(id)
}

// checkToken refuses another cluster's token on a node that has one already.
func (c *Cluster) checkToken(id *Identity) error {
	if c.cfg.Token == "" {
		return nil
	}
	t, err := parseToken(c.cfg.Token)
	if err != nil {
		return err
	}
	if t.digest != caDigest(id.CACert) {
		return fmt.Errorf("%w: this node %s is of cluster %s and the token is of another; leave --join and --token out, or move %s away to join that one", ErrForeign, id.NodeID, id.ClusterID, c.cfg.DataDir)
	}
	return nil
}

// forget drops the identity and log of a node that has left. The identity goes
// last: without a log it can be forgotten again, not the other way round.
func (c *Cluster) forget() error {
	for _, name := range []string{raftDir, peersFile, identityFile} {
		if err := os.RemoveAll(filepath.Join(c.cfg.DataDir, name)); err != nil {
			return fmt.Errorf("forget the old identity: %w", err)
		}
	}
	return syncDir(c.cfg.DataDir)
}

func (c *Cluster) setIdentity(id *Identity) error {
	creds, err := newCredentials(id)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := id.save(c.cfg.DataDir); err != nil {
		return err
	}
	c.mu.Lock()
	c.id, c.nodeID = id, id.NodeID
	c.board = newBoard(id.NodeID, loadPeers(c.cfg.DataDir, c.log))
	c.mu.Unlock()
	if c.mux != nil {
		c.mux.use(creds)
	}
	return nil
}

func (c *Cluster) updateIdentity(change func(*Identity)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := *c.id
	change(&next)
	if err := next.save(c.cfg.DataDir); err != nil {
		return err
	}
	c.id = &next
	return nil
}

// Identity is who this node is; its NodeID is empty before Join has let it in.
// It holds secrets.
func (c *Cluster) Identity() Identity {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.id == nil {
		return Identity{}
	}
	return *c.id
}

// Token is what another node joins with.
func (c *Cluster) Token() string {
	id := c.Identity()
	if id.NodeID == "" {
		return ""
	}
	return id.token().String()
}

// Join gets a node without an identity let into the cluster, however long that
// takes; it never founds one. A node that has an identity is checked against the
// hosts that answer: ErrForeign when one is of another cluster. Errors besides:
// ErrTokenRefused, ErrJoinSelf, ctx's.
func (c *Cluster) Join(ctx context.Context) error {
	id := c.Identity()
	if id.NodeID != "" {
		return c.checkHosts(ctx, id)
	}
	j, err := newJoiner(c.cfg, portOf(c.mux.ln.Addr()), c.log)
	if err != nil {
		return err
	}
	peers, err := j.run(ctx)
	if err != nil {
		return err
	}
	known := map[string]string{}
	for i, addr := range peers {
		known[fmt.Sprintf("%s%d", unnamed, i)] = addr
	}
	if err := savePeers(c.cfg.DataDir, known); err != nil {
		return err
	}
	j.id.Incarnation = 1
	c.log.Info("joined the cluster", "cluster", j.id.ClusterID, "node", j.id.NodeID)
	return c.setIdentity(j.id)
}

func (c *Cluster) checkHosts(ctx context.Context, id Identity) error {
	creds, err := newCredentials(&id)
	if err != nil {
		return err
	}
	c.mux.use(creds)
	for _, host := range c.cfg.Join {
		ctx, cancel := context.WithTimeout(ctx, 2*askTimeout)
		conn, err := c.mux.dial(ctx, host, alpnPeer, "")
		cancel()
		switch {
		case err == nil:
			_ = conn.Close()
		case errors.Is(err, ErrForeign):
			return fmt.Errorf("join %s: %w; leave --join out, or move %s away to join that cluster", host, err, c.cfg.DataDir)
		default:
			c.log.Info("a host to join does not answer, going on without", "host", host, "err", err)
		}
	}
	return nil
}

// Addr is the bound address of the one port.
func (c *Cluster) Addr() net.Addr { return c.mux.ln.Addr() }

// Ready is closed once Run has started gossip and log.
func (c *Cluster) Ready() <-chan struct{} { return c.ready }

// Listener registers a protocol on the one port. Its connections are *Conn: both
// ends have shown a certificate of this cluster.
func (c *Cluster) Listener(alpn string) net.Listener { return c.mux.listen(alpn, nil) }

// DialNode connects to a node over mutual TLS; who answers is checked to be it.
func (c *Cluster) DialNode(ctx context.Context, nodeID, alpn string) (net.Conn, error) {
	select {
	case <-c.ready:
	default:
		return nil, fmt.Errorf("dial node %s: %w", nodeID, ErrNotRunning)
	}
	addr, ok := c.board.address(nodeID)
	if !ok {
		return nil, fmt.Errorf("dial node %s: %w", nodeID, ErrUnknownNode)
	}
	conn, err := c.mux.dial(ctx, addr, alpn, nodeID)
	if err != nil {
		return nil, fmt.Errorf("dial node %s: %w", nodeID, err)
	}
	return conn, nil
}

// Watch is the cluster as this node sees it, and a channel that closes when that
// has changed. It may be called once the node has joined.
func (c *Cluster) Watch() (Snapshot, <-chan struct{}) { return c.board.watch() }

// Members are all nodes that gossip knows, by ID.
func (c *Cluster) Members() []Member {
	s, _ := c.Watch()
	return s.Members
}

// Self is this node as the others see it.
func (c *Cluster) Self() Member {
	m, _ := c.board.member(c.nodeID)
	return m
}

// Leader is who leads, as far as this node knows.
func (c *Cluster) Leader() (leader Member, term uint64, ok bool) {
	s, _ := c.Watch()
	return s.Leader, s.Term, s.HasLeader
}

// HasLog reports whether this node holds the log: only then is its Machine up to
// date, more or less.
func (c *Cluster) HasLog() bool {
	return c.raft.Load() != nil && c.board.logView().InLog && !c.store.bolt.failing.Load()
}

// UpdateLoad tells the others how busy this node is.
func (c *Cluster) UpdateLoad(l Load) {
	if *c.load.Swap(&l) == l {
		return
	}
	select {
	case <-c.ready:
		c.gossip.tell()
	default:
	}
}

// Close releases what Open took on a node that was never Run.
func (c *Cluster) Close() {
	c.closed.Do(func() {
		c.mux.close()
		_ = c.packets.Close()
		_ = c.lock.Close()
	})
}
