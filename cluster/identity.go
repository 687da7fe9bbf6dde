package cluster

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const (
	identityFile = "identity.json"
	lockFile     = "lock"
	raftDir      = "raft"
)

// Identity is who a node is: written once, at founding or joining, and then the
// only thing that decides what a start does. It holds secrets.
type Identity struct {
	NodeID      string `json:"node_id"`
	ClusterID   string `json:"cluster_id"`
	Generation  uint64 `json:"generation"`  // 1, and one more with each Recover
	Incarnation uint64 `json:"incarnation"` // counts the starts of this node

	CACert []byte `json:"ca_cert"` // DER, as the three below
	CAKey  []byte `json:"ca_key"`
	Cert   []byte `json:"cert"`
	Key    []byte `json:"key"`

	GossipKey  []byte `json:"gossip_key"`  // 32 bytes
	JoinSecret []byte `json:"join_secret"` // 16 bytes
	APISecret  []byte `json:"api_secret"`  // 32 bytes, the same on all nodes

	Founding bool `json:"founding,omitempty"` // the first configuration is not in the log yet
	Logged   bool `json:"logged,omitempty"`   // has taken part in the log: its store must be there
	Left     bool `json:"left,omitempty"`     // has left the cluster for good
}

func (id *Identity) token() token {
	return token{digest: caDigest(id.CACert), secret: id.JoinSecret}
}

// found makes a new cluster with this node as its only one.
func found() (*Identity, error) {
	id := &Identity{
		NodeID: newNodeID(), ClusterID: hex.EncodeToString(randomBytes(16)), Generation: 1,
		GossipKey: randomBytes(32), JoinSecret: randomBytes(secretSize), APISecret: randomBytes(32),
		Founding: true,
	}
	var err error
	if id.CACert, id.CAKey, err = newCA(id.ClusterID); err != nil {
		return nil, err
	}
	return id, id.certify()
}

// certify gives the node a key of its own, and the cluster's certificate for it.
func (id *Identity) certify() error {
	key, keyDER, err := newKey()
	if err != nil {
		return err
	}
	request, err := newRequest(id.NodeID, key)
	if err != nil {
		return err
	}
	id.Key = keyDER
	id.Cert, err = signRequest(id, id.NodeID, request)
	return err
}

func newNodeID() string { return hex.EncodeToString(randomBytes(8)) }

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: it ends the process instead
	return b
}

// loadIdentity reads the identity; nil where there is none. A log without an
// identity, or the reverse, is refused: which cluster it is of, or what it voted
// for, cannot be known.
func loadIdentity(dir string) (*Identity, error) {
	logHere, err := hasLogStore(dir)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(dir, identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		if logHere {
			return nil, fmt.Errorf("%w: %s holds a log but no %s; restore that file, or move the directory away and join anew", ErrDamaged, dir, identityFile)
		}
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	id := &Identity{}
	if err := json.Unmarshal(text, id); err != nil {
		return nil, fmt.Errorf("%w: read %s: %w", ErrDamaged, filepath.Join(dir, identityFile), err)
	}
	if id.NodeID == "" || id.ClusterID == "" || len(id.GossipKey) != 32 || len(id.Cert) == 0 {
		return nil, fmt.Errorf("%w: %s is incomplete", ErrDamaged, filepath.Join(dir, identityFile))
	}
	if id.Logged && !logHere {
		return nil, fmt.Errorf("%w: node %s took part in the log and its store %s is gone; move the directory away and join anew", ErrDamaged, id.NodeID, filepath.Join(dir, raftDir))
	}
	return id, nil
}

func hasLogStore(dir string) (bool, error) {
	info, err := os.Stat(filepath.Join(dir, raftDir, storeFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for the log: %w", err)
	}
	return info.Size() > 0, nil // an empty one is a log whose making was cut short, or that was cut off
}

func (id *Identity) save(dir string) error {
	text, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return fmt.Errorf("marshal identity: %w", err)
	}
	if err := writeFile(filepath.Join(dir, identityFile), append(text, '\n')); err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	return nil
}

// writeFile replaces a file so that after a power cut there is the old one or
// the new one, whole.
func writeFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if errClose := f.Close(); err == nil {
		err = errClose
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// lockDir keeps a second process out of the data directory until the file is
// closed.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("open %s: %w", dir, ErrLocked)
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}
