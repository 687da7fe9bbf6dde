package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
)

// Keys are what makes nodes one cluster: whoever holds them can be any of its nodes.
type Keys struct {
	ClusterID  string `json:"cluster_id"`
	Generation uint64 `json:"generation"`
	CACert     []byte `json:"ca_cert"` // DER, as CAKey
	CAKey      []byte `json:"ca_key"`
	GossipKey  []byte `json:"gossip_key"`
	JoinSecret []byte `json:"join_secret"`
	APISecret  []byte `json:"api_secret"`
}

// ReadKeys reads the cluster's keys from a node's data directory; a node may be
// running in it. ErrDamaged, ErrLeft and ErrNotRunning say that there are none.
func ReadKeys(dir string) (Keys, error) {
	id, err := loadIdentity(dir)
	switch {
	case err != nil:
		return Keys{}, err
	case id == nil:
		return Keys{}, fmt.Errorf("read the cluster's keys: %w: %s is of no node", ErrNotRunning, dir)
	case id.Left:
		return Keys{}, fmt.Errorf("read the cluster's keys: %w: node %s of cluster %s", ErrLeft, id.NodeID, id.ClusterID)
	}
	return Keys{
		ClusterID: id.ClusterID, Generation: id.Generation, CACert: id.CACert, CAKey: id.CAKey,
		GossipKey: id.GossipKey, JoinSecret: id.JoinSecret, APISecret: id.APISecret,
	}, nil
}

// Marshal is the form that UnmarshalKeys reads. It holds secrets.
func (k Keys) Marshal() ([]byte, error) { return json.Marshal(k) }

// UnmarshalKeys reads what Marshal wrote.
func UnmarshalKeys(text []byte) (Keys, error) {
	var k Keys
	if err := json.Unmarshal(text, &k); err != nil {
		return Keys{}, fmt.Errorf("read the cluster's keys: %w", err)
	}
	if k.ClusterID == "" || len(k.CACert) == 0 || len(k.CAKey) == 0 || len(k.GossipKey) != 32 || len(k.JoinSecret) != secretSize || len(k.APISecret) != 32 {
		return Keys{}, errors.New("read the cluster's keys: they are incomplete")
	}
	return k, nil
}

// Saved is a state that was taken out of a cluster's log.
type Saved struct {
	Keys  Keys
	Index uint64                // of the last entry in it
	Term  uint64                // of an entry in it: the restored log goes on from there
	State func(io.Writer) error // writes what a Machine restores
}

// Restore makes cfg.DataDir the first node of a new generation of the saved cluster,
// alone, with the saved state. An empty directory becomes a new node's; a node of that
// cluster keeps who it is and what it stores, and its old log is set aside, as
// raft.old-TIME. Any other is refused: ErrForeign, ErrLocked. Nodes of an earlier
// generation that hold a log will refuse this one, and it them.
func Restore(cfg Config, saved Saved, log *slog.Logger) (Identity, error) {
	if err := cfg.Validate(); err != nil {
		return Identity{}, err
	}
	cfg = cfg.withDefaults()
	lock, err := lockDir(cfg.DataDir)
	if err != nil {
		return Identity{}, err
	}
	defer func() { _ = lock.Close() }()
	id, err := restoredIdentity(cfg.DataDir, saved.Keys)
	if err != nil {
		return Identity{}, err
	}
	// Beside the log that is there, and in its place only when it is whole.
	next := filepath.Join(cfg.DataDir, raftDir+".new")
	if err := os.RemoveAll(next); err != nil {
		return Identity{}, fmt.Errorf("restore: %w", err)
	}
	if err := writeLog(next, id.NodeID, saved, log); err != nil {
		return Identity{}, errors.Join(err, os.RemoveAll(next))
	}
	if err := swapLog(cfg.DataDir, next, id); err != nil {
		return Identity{}, fmt.Errorf("restore: %w", err)
	}
	log.Warn("restored the cluster with this node only", "cluster", id.ClusterID, "node", id.NodeID, "generation", id.Generation, "index", saved.Index)
	return *id, nil
}

// restoredIdentity is who the node will be.
func restoredIdentity(dir string, keys Keys) (*Identity, error) {
	id, err := loadIdentity(dir)
	switch {
	case err != nil:
		return nil, fmt.Errorf("restore: %w", err)
	case id == nil:
		if id, err = newMember(keys); err != nil {
			return nil, fmt.Errorf("restore: %w", err)
		}
	case id.Left || id.ClusterID != keys.ClusterID:
		return nil, fmt.Errorf("restore: %w: %s is of node %s of cluster %s, the snapshot of cluster %s; give an empty --data-dir", ErrForeign, dir, id.NodeID, id.ClusterID, keys.ClusterID)
	}
	// Two restores of one snapshot must not take each other for their own, and know
	// nothing of each other: the time sets them apart.
	id.Generation = max(id.Generation, keys.Generation, uint64(time.Now().Unix())) + 1
	id.Founding, id.Logged = false, true
	return id, nil
}

// newMember is a new node of the cluster whose keys these are.
func newMember(keys Keys) (*Identity, error) {
	id := &Identity{
		NodeID: newNodeID(), ClusterID: keys.ClusterID, CACert: keys.CACert, CAKey: keys.CAKey,
		GossipKey: keys.GossipKey, JoinSecret: keys.JoinSecret, APISecret: keys.APISecret,
	}
	return id, id.certify()
}

// writeLog makes a log directory that holds nothing but the state, with one voter.
func writeLog(dir, nodeID string, saved Saved, log *slog.Logger) error {
	store, err := openLogStore(dir, log)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	defer func() { _ = store.bolt.Close() }() // its writes are on disk
	addr, trans := raft.NewInmemTransport("")
	only := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: raft.ServerID(nodeID), Address: addr}}}
	sink, err := store.snaps.Create(raft.SnapshotVersionMax, saved.Index, saved.Term, only, saved.Index, trans)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := saved.State(sink); err != nil {
		return fmt.Errorf("restore: %w", errors.Join(err, sink.Cancel()))
	}
	if err := sink.Close(); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	// RecoverCluster would read it all again to say who votes: the snapshot says so
	// already. Only the term is in the store itself.
	if err := store.bolt.SetUint64([]byte("CurrentTerm"), saved.Term); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}

// swapLog puts the new log in the old one's place. The generation goes first, as in
// Recover: with it alone the node still refuses the others, with the log alone it would
// talk to them.
func swapLog(dir, next string, id *Identity) error {
	if err := id.save(dir); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, peersFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	now := filepath.Join(dir, raftDir)
	err := os.Rename(now, now+".old-"+time.Now().UTC().Format("20060102-150405"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Rename(next, now); err != nil {
		return err
	}
	return syncDir(dir)
}
