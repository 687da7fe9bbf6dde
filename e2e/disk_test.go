package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// TestDiskFull has a node's disk, a small one of its own, filled by somebody else: a
// mirror that was not used for long goes; since that is not enough the node takes no
// jobs and says why, until there is room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("narwhal-test", dir, "tmpfs", 0, "size=256m"); err != nil {
		t.Fatalf("a small file system takes the right to mount one, as root has: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	l := cluster(t, lab.Options{Nodes: 1, Dir: filepath.Join(dir, "nodes"), Args: []string{"--disk-high", "80%", "--disk-low", "160Mi"}})
	n, r := l.Nodes[0], repository(t)
	sha := commit(t, r, small+"steps: [{command: 'true'}]\n")
	first := trigger(t, anyNode(t, l), r, sha)
	wantStatus(t, ended(t, anyNode(t, l), first.ID), fsm.Passed)
	must(t, n.Stop())
	labels, err := filepath.Glob(filepath.Join(n.Dir, "mirrors", "*", "narwhal.json"))
	must(t, err)
	if len(labels) != 1 {
		t.Fatalf("the node has the mirrors %v", labels)
	}
	long := time.Now().Add(-3 * time.Hour)
	must(t, os.Chtimes(labels[0], long, long))
	others := filepath.Join(dir, "others")
	must(t, os.WriteFile(others, make([]byte, 215<<20), 0o600)) // 84% of 256 MiB

	must(t, n.Start(deadline(t, patience)))
	await(t, "the mirror to go", func(context.Context) (bool, error) {
		_, err := os.Stat(labels[0])
		return os.IsNotExist(err), err
	})
	const full = "the disk is full: this node takes no jobs until there is room (160.0 MiB free)"
	await(t, "the node to say that its disk is full", func(context.Context) (bool, error) {
		return strings.Contains(n.Log(), full), fmt.Errorf("it says nothing")
	})
	settle(t, l)
	c := anyNode(t, l)
	made := trigger(t, c, r, sha)
	b := until(t, c, made.ID, "the plan is there", func(b api.Build) bool { return len(b.Jobs) == 1 })
	await(t, "the leader to say why nothing runs", func(ctx context.Context) (bool, error) {
		x, err := c.Why(ctx, b.Jobs[0].ID)
		if err != nil {
			return false, err
		}
		found := slices.ContainsFunc(x.Reasons, func(r fsm.Reason) bool { return r.Code == fsm.ReasonDisk && r.Message == "its disk is full" })
		return found, fmt.Errorf("%s: %+v", x.Status, x.Reasons)
	})

	await(t, "the list of nodes to show it", func(ctx context.Context) (bool, error) {
		nodes, err := c.Nodes(ctx)
		return len(nodes) == 1 && nodes[0].DiskFull, err
	})

	must(t, os.Remove(others))
	wantStatus(t, ended(t, c, made.ID), fsm.Passed)
	if log := n.Log(); strings.Count(log, full) != 1 || strings.Count(log, "there is room on the disk again") != 1 {
		t.Error("it was not said once that the disk is full, and once that it isn't")
	}
}
