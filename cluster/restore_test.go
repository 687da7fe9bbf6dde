package cluster

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// saved is the state and the keys of a node that runs.
func saved(t *testing.T, n *node) Saved {
	t.Helper()
	keys, err := ReadKeys(n.cfg.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := keys.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if keys, err = UnmarshalKeys(text); err != nil {
		t.Fatal(err)
	}
	return Saved{Keys: keys, Index: n.Stats().Applied, Term: n.Stats().Term, State: n.journal.Snapshot()}
}

// TestRestore brings a cluster back on a machine that was none of its nodes, and has
// others join it with the token of before.
func TestRestore(t *testing.T) {
	a := start(t, real(t, "a"))
	a.until("a leader", soon, func(s Snapshot) bool { return s.HasLeader })
	a.mustApply("one")
	s, token := saved(t, a), a.Token()
	a.mustApply("after the snapshot")
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	cfg := real(t, "b")
	id, err := Restore(cfg, s, testLog(t))
	if err != nil || id.Generation <= s.Keys.Generation || id.ClusterID != s.Keys.ClusterID || id.NodeID == a.nodeID {
		t.Fatalf("restore: %+v, %v", id, err)
	}
	b := start(t, cfg)
	b.until("to lead alone", soon, func(s Snapshot) bool { return s.HasLeader && s.Leader.ID == id.NodeID })
	b.mustApply("two")
	if got := b.journal.all(); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("after the restore: %q", got)
	}
	if b.Token() != token {
		t.Error("the cluster's token has changed")
	}
	c := start(t, real(t, "c", b))
	c.until("the leader", soon, func(s Snapshot) bool { return s.HasLeader && len(s.Members) == 2 })
	old := a.cfg
	old.Join = []string{b.Addr().String()}
	a2 := start(t, old)
	if err := <-a2.done; !errors.Is(err, ErrSuperseded) {
		t.Errorf("the node of before the restore: %v", err)
	}
	a2.done <- nil
}

// TestRestoreInPlace keeps the node that it is, and what it has beside the log.
func TestRestoreInPlace(t *testing.T) {
	a := start(t, real(t, "a"))
	a.until("a leader", soon, func(s Snapshot) bool { return s.HasLeader })
	a.mustApply("one")
	s := saved(t, a)
	a.mustApply("after the snapshot")
	if _, err := Restore(a.cfg, s, testLog(t)); !errors.Is(err, ErrLocked) {
		t.Errorf("restore under a node that runs: %v", err)
	}
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	id, err := Restore(a.cfg, s, testLog(t))
	if err != nil || id.NodeID != a.nodeID {
		t.Fatalf("restore: %+v, %v", id, err)
	}
	if old, err := filepath.Glob(filepath.Join(a.cfg.DataDir, "raft.old-*")); err != nil || len(old) != 1 {
		t.Errorf("the old log: %v, %v", old, err)
	}
	a2 := start(t, a.cfg)
	a2.until("to lead alone", soon, func(s Snapshot) bool { return s.HasLeader })
	a2.mustApply("two")
	if got := a2.journal.all(); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("after the restore: %q", got)
	}
}

// TestRestoreRefuses leaves what is there as it was.
func TestRestoreRefuses(t *testing.T) {
	a, other := start(t, real(t, "a")), start(t, real(t, "other"))
	a.until("a leader", soon, func(s Snapshot) bool { return s.HasLeader })
	a.mustApply("one")
	s := saved(t, a)
	if err := other.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(other.cfg, s, testLog(t)); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "empty --data-dir") {
		t.Errorf("into another cluster's node: %v", err)
	}
	cfg := real(t, "b")
	s.State = func(io.Writer) error { return errPoison }
	if _, err := Restore(cfg, s, testLog(t)); !errors.Is(err, errPoison) {
		t.Errorf("a state that can't be had: %v", err)
	}
	left, err := os.ReadDir(cfg.DataDir)
	if err != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool { return e.Name() != lockFile }) {
		t.Errorf("it left %v, %v", left, err)
	}
	if _, err := ReadKeys(t.TempDir()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("keys of no node: %v", err)
	}
}
