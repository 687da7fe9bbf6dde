package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/hashicorp/raft"
)

// Leave takes this node out of the cluster for good: the leader removes it from
// the log, after another node has taken its place, and leadership with it. It
// returns once that is done; then Run's context is to be ended. A start without
// --join is refused from then on. When ctx ends before, the node stays a member.
func (c *Cluster) Leave(ctx context.Context) error {
	select {
	case <-c.ready:
	default:
		return fmt.Errorf("leave cluster: %w", ErrNotRunning)
	}
	if c.board.alone() && len(c.board.knownAddresses()) == 0 {
		return fmt.Errorf("leave cluster: %w", ErrAlone)
	}
	c.leaving.Store(true)
	c.gossip.tell()
	if err := c.awaitRemoval(ctx); err != nil {
		c.leaving.Store(false)
		c.gossip.tell()
		return fmt.Errorf("leave cluster: %w", err)
	}
	return c.updateIdentity(func(id *Identity) { id.Left = true })
}

// awaitRemoval asks the leader until its configuration is without this node.
func (c *Cluster) awaitRemoval(ctx context.Context) error {
	for {
		s, err := c.LeaderStats(ctx)
		if err == nil && s.State == "leader" && s.NodeID != c.nodeID {
			in := false
			for _, server := range s.Servers {
				in = in || server.ID == c.nodeID
			}
			if !in {
				return nil
			}
		}
		if !wait(ctx, leavePoll) {
			return fmt.Errorf("wait to be removed from the log: %w", ctx.Err())
		}
	}
}

// Recover makes this node the only voter of a new generation of its cluster,
// after the majority was lost for good. What only the lost nodes knew is lost,
// and entries that were not committed yet may become so. The others, should they
// come back, are refused. The machine is a scratch one: use another to go on. No
// process may have the data directory open.
func Recover(cfg Config, machine Machine, log *slog.Logger) (Identity, error) {
	if err := cfg.Validate(); err != nil {
		return Identity{}, err
	}
	cfg = cfg.withDefaults()
	lock, err := lockDir(cfg.DataDir)
	if err != nil {
		return Identity{}, err
	}
	defer lock.Close()
	id, err := loadIdentity(cfg.DataDir)
	if err != nil {
		return Identity{}, err
	}
	if id == nil || id.Left || !id.Logged {
		return Identity{}, fmt.Errorf("recover cluster: %s holds no log to recover from; use a node that was a voter", filepath.Join(cfg.DataDir, raftDir))
	}
	store, err := openLogStore(filepath.Join(cfg.DataDir, raftDir), log)
	if err != nil {
		return Identity{}, err
	}
	defer func() { _ = store.bolt.Close() }() // its writes are on disk
	// The generation goes first: with it alone the node still refuses the others,
	// with the log alone it would talk to them.
	id.Generation++
	if err := id.save(cfg.DataDir); err != nil {
		return Identity{}, err
	}
	addr, trans := raft.NewInmemTransport("")
	only := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: raft.ServerID(id.NodeID), Address: addr}}}
	conf := raftConfig(cfg, id.NodeID, nil, log)
	if err := raft.RecoverCluster(conf, newDriver(machine), store.cache, store.bolt, store.snaps, trans, only); err != nil {
		return Identity{}, fmt.Errorf("recover cluster: %w", err)
	}
	log.Warn("recovered the cluster with this node only", "cluster", id.ClusterID, "node", id.NodeID, "generation", id.Generation)
	return *id, nil
}
