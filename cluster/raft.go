package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

const (
	storeFile       = "raft.db"
	keepSnapshots   = 2
	cachedEntries   = 512
	maxAppend       = 256 // entries a message
	notifyBuffer    = 32
	transferTries   = 3
	observationRoom = 64

	// reserved bytes of the disk beyond the end of the log's file are the log's before it
	// needs them: a node whose disk somebody else has filled goes on to vote and to follow.
	// They are made up for once the file has grown by half of them.
	reserved = 32 << 20
)

// MaxEntry is the largest entry that Apply takes, bytes. Heartbeats wait behind
// entries, so one of hundreds of megabytes would cost the leader its office.
const MaxEntry = 4 << 20

// raftLogStore is the log on disk. Every node opens one: it stays empty until
// the leader asks the node to hold the log.
type raftLogStore struct {
	bolt  *storeHealth
	cache *raft.LogCache
	snaps *raft.FileSnapshotStore
}

func openLogStore(dir string, log *slog.Logger) (*raftLogStore, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make log directory: %w", err)
	}
	path := filepath.Join(dir, storeFile)
	if err := checkLogStore(path); err != nil {
		return nil, fmt.Errorf("open log %s: %w; move the data directory away and join anew", path, err)
	}
	bolt, err := raftboltdb.New(raftboltdb.Options{
		Path:                    path,
		BoltOptions:             &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, Timeout: time.Second},
		MsgpackUseNewTimeFormat: true,
	})
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	s := &raftLogStore{}
	if s.bolt, err = newStoreHealth(bolt, path, log); err != nil {
		return nil, errors.Join(err, bolt.Close())
	}
	if s.cache, err = raft.NewLogCache(cachedEntries, s.bolt); err == nil {
		s.snaps, err = raft.NewFileSnapshotStoreWithLogger(dir, keepSnapshots, newRaftLog(log))
	}
	if err == nil {
		err = checkSnapshots(dir, s.snaps, s.bolt)
	}
	if errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("%w; move the data directory away and join anew", err)
	}
	if err != nil {
		_ = s.bolt.Close()
		return nil, fmt.Errorf("open log: %w", err)
	}
	return s, nil
}

// storeHealth is the log's file, of which it knows whether entries can be stored at the
// moment, and that keeps room on the disk for it.
type storeHealth struct {
	*raftboltdb.BoltStore
	failing atomic.Bool

	file *os.File // the same
	end  int64    // of the file when room was last taken
	log  *slog.Logger
}

func newStoreHealth(bolt *raftboltdb.BoltStore, path string, log *slog.Logger) (*storeHealth, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("reserve room for the log: %w", err)
	}
	s := &storeHealth{BoltStore: bolt, file: file, end: -reserved, log: log}
	return s, s.reserve()
}

// Close ends it.
func (s *storeHealth) Close() error { return errors.Join(s.file.Close(), s.BoltStore.Close()) }

// StoreLogs implements raft.LogStore.
func (s *storeHealth) StoreLogs(logs []*raft.Log) error {
	err := s.BoltStore.StoreLogs(logs)
	s.failing.Store(err != nil)
	if err == nil {
		err = s.reserve()
	}
	return err
}

// StoreLog implements raft.LogStore.
func (s *storeHealth) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

// reserve takes room beyond the end of the file, where it has come near to what was taken
// before. Where there is none, or the file system can't, the log does without.
func (s *storeHealth) reserve() error {
	info, err := s.file.Stat()
	if err != nil {
		return fmt.Errorf("reserve room for the log: %w", err)
	}
	if info.Size()-s.end < reserved/2 {
		return nil
	}
	s.end = info.Size()
	err = unix.Fallocate(int(s.file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, s.end+reserved)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EOPNOTSUPP) {
		s.log.Warn("no room can be kept free for the log: it may have none when the disk is full", "file", s.file.Name(), "err", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("reserve room for the log: %w", err)
	}
	return nil
}

func (s *raftLogStore) hasState() (bool, error) {
	return raft.HasExistingState(s.cache, s.bolt, s.snaps)
}

// raftConfig is the log's tuning. FACTS.md has the measurements behind it.
func raftConfig(cfg Config, nodeID string, notify chan<- bool, log *slog.Logger) *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(nodeID)
	c.HeartbeatTimeout, c.ElectionTimeout = cfg.HeartbeatTimeout, cfg.HeartbeatTimeout
	c.LeaderLeaseTimeout = cfg.LeaderLease
	c.CommitTimeout = cfg.CommitTimeout
	c.MaxAppendEntries = maxAppend
	c.BatchApplyCh = true
	c.SnapshotThreshold, c.SnapshotInterval, c.TrailingLogs = cfg.SnapshotThreshold, cfg.SnapshotInterval, cfg.TrailingLogs
	c.ShutdownOnRemove = false // a node that was removed waits to be wanted again
	c.NoLegacyTelemetry = true
	c.NotifyCh = notify
	c.Logger = newRaftLog(log)
	return c
}

// hello goes both ways over a new connection of the log, before any byte of
// Raft: two clusters that were joined by mistake would diverge silently.
type hello struct {
	Cluster    string `cbor:"1,keyasint"`
	Generation uint64 `cbor:"2,keyasint"`
	Node       string `cbor:"3,keyasint"`
}

func (h hello) check(theirs hello, peer string) error {
	switch {
	case theirs.Cluster != h.Cluster:
		return foreignError(h.Cluster, theirs.Cluster)
	case theirs.Generation != h.Generation:
		return fmt.Errorf("%w: node %s holds generation %d of the log, this node %d", ErrSuperseded, theirs.Node, theirs.Generation, h.Generation)
	case theirs.Node != peer:
		return fmt.Errorf("node %s says it is %s", peer, theirs.Node)
	}
	return nil
}

// exchange is the handshake; the one that dialed speaks first.
func (h hello) exchange(c *Conn, first bool) error {
	var theirs hello
	if first {
		if err := writeMessage(c, h); err != nil {
			return err
		}
	}
	if err := readMessage(c, &theirs); err != nil {
		return err
	}
	if !first {
		if err := writeMessage(c, h); err != nil {
			return err
		}
	}
	return h.check(theirs, c.PeerID())
}

// streams is Raft's way to other nodes.
type streams struct {
	*lane
	ctx  context.Context // ends with the node: Raft's calls bring none
	log  *slog.Logger
	addr net.Addr
	self func() hello

	hungUp func(peer string) // a node has closed a connection that it had opened
}

func newStreams(ctx context.Context, m *mux, addr net.Addr, self func() hello, hungUp func(string), log *slog.Logger) *streams {
	s := &streams{ctx: ctx, log: log, addr: addr, self: self, hungUp: hungUp}
	s.lane = m.listen(alpnRaft, func(c *Conn) error { return self().exchange(c, false) })
	return s
}

func (s *streams) Addr() net.Addr { return s.addr }

func (s *streams) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	c, err := s.mux.dial(ctx, string(address), alpnRaft, "")
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(handshakeTimeout))
	if err := s.self().exchange(c, true); err != nil {
		_ = c.Close()
		if errors.Is(err, ErrForeign) || errors.Is(err, ErrSuperseded) {
			s.log.Error("refused a node", "addr", address, "err", err)
		}
		return nil, fmt.Errorf("greet %s: %w", address, err)
	}
	_ = c.SetDeadline(time.Time{})
	return c, nil
}

// ServerAddr finds a node by gossip, or where it was last: that its address has
// changed since the log was told is no event.
func (b *board) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	addr, ok := b.address(string(id))
	if !ok {
		return "", fmt.Errorf("find node %s: %w", id, ErrUnknownNode)
	}
	return raft.ServerAddress(addr), nil
}

// openRaft starts Raft. A founder's first configuration is written before it.
func (c *Cluster) openRaft(ctx context.Context, addr net.Addr) error {
	self := func() hello {
		id := c.Identity()
		return hello{Cluster: id.ClusterID, Generation: id.Generation, Node: id.NodeID}
	}
	c.trans = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		ServerAddressProvider:   c.board,
		Logger:                  newRaftLog(c.log),
		Stream:                  newStreams(ctx, c.mux, addr, self, c.noteHangUp, c.log),
		MaxPool:                 3,
		Timeout:                 max(2*time.Second, 4*c.cfg.HeartbeatTimeout),
		MsgpackUseNewTimeFormat: true,
	})
	id := c.Identity()
	conf := raftConfig(c.cfg, id.NodeID, c.notify, c.log)
	if id.Founding {
		if err := c.bootstrap(conf); err != nil {
			return err
		}
	}
	r, err := raft.NewRaft(conf, c.fsm, c.store.cache, c.store.bolt, c.store.snaps, c.trans)
	if err != nil {
		return fmt.Errorf("start log: %w", err)
	}
	c.fsm.start()
	c.raft.Store(r)
	return nil
}

func (c *Cluster) bootstrap(conf *raft.Config) error {
	has, err := c.store.hasState()
	if err != nil {
		return fmt.Errorf("look for the log: %w", err)
	}
	if !has {
		first := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: conf.LocalID, Address: c.trans.LocalAddr()}}}
		if err := raft.BootstrapCluster(conf, c.store.cache, c.store.bolt, c.store.snaps, c.trans, first); err != nil {
			return fmt.Errorf("found cluster: %w", err)
		}
	}
	return c.updateIdentity(func(id *Identity) { id.Founding, id.Logged = false, true })
}
