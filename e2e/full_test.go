package e2e

import (
	"context"
	"slices"

	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// fillDisk takes all the room that is left on the file system of a folder.
func fillDisk(t *testing.T, dir string) (empty func()) {
	t.Helper()
	path := filepath.Join(dir, "others")
	f, err := os.Create(path)
	must(t, err)
	defer func() { must(t, f.Close()) }()
	for size := 1 << 20; size > 0; size /= 2 {
		for {
			if _, err = f.Write(make([]byte, size)); err != nil {
				break
			}
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	return func() { must(t, os.Remove(path)) }
}

// TestNoRoomForTheLog takes a voter the last byte of its disk, as a follower and as the
// leader: the others go on, it says what is wrong, and it goes on too once there is room.
func TestNoRoomForTheLog(t *testing.T) {
	t.Parallel()
	l := cluster(t, lab.Options{Args: quick})
	n := l.Nodes[0]
	disk := t.TempDir()
	if err := syscall.Mount("narwhal-test", disk, "tmpfs", 0, "size=128m"); err != nil {
		t.Fatalf("a small file system takes the right to mount one, as root has: %v", err)
	}
	t.Cleanup(func() {
		must(t, n.Crash())
		must(t, syscall.Unmount(disk, 0))
	})
	must(t, n.Stop())
	must(t, os.CopyFS(filepath.Join(disk, "node"), os.DirFS(n.Dir)))
	must(t, os.RemoveAll(n.Dir))
	must(t, os.Symlink(filepath.Join(disk, "node"), n.Dir))
	must(t, n.Start(deadline(t, patience)))
	settle(t, l)
	t.Run("a follower", func(t *testing.T) {
		if leader(t, l) == n {
			t.Fatal("it leads")
		}
		noRoom(t, l, n, disk)
	})
	t.Run("the leader", func(t *testing.T) {
		for led := leader(t, l); led != n; led = leader(t, l) {
			must(t, led.Stop())
			must(t, led.Start(deadline(t, patience)))
			settle(t, l)
		}
		noRoom(t, l, n, disk)
	})
}

func noRoom(t *testing.T, l *lab.Lab, n *lab.Node, disk string) {
	empty := fillDisk(t, disk)
	c := anyNode(t, l)
	await(t, "the node to say that its disk is full", func(ctx context.Context) (bool, error) {
		nodes, err := c.Nodes(ctx)
		at := slices.IndexFunc(nodes, func(m api.Node) bool { return m.ID == n.ID })
		return err == nil && at >= 0 && nodes[at].DiskFull, err
	})
	for range 10 {
		passesElsewhere(t, c, n)
	}
	wantAgreement(t, l) // the room that the log has kept for itself is enough
	if !n.Running() {
		t.Fatalf("it ended: %v", n.Exit())
	}
	empty()
	await(t, "the node to take jobs again", func(ctx context.Context) (bool, error) {
		nodes, err := c.Nodes(ctx)
		at := slices.IndexFunc(nodes, func(m api.Node) bool { return m.ID == n.ID })
		return err == nil && at >= 0 && !nodes[at].DiskFull, err
	})
	only(t, l, n, func() {
		r := repository(t)
		wantStatus(t, ended(t, c, trigger(t, c, r, commit(t, r, small+"steps: [{command: 'true'}]\n")).ID), fsm.Passed)
	})
	settle(t, l)
	wantAgreement(t, l)
}

// passesElsewhere has a build pass without the node.
func passesElsewhere(t *testing.T, c *client.Client, n *lab.Node) {
	t.Helper()
	r := repository(t)
	b := ended(t, c, trigger(t, c, r, commit(t, r, small+"steps: [{command: 'true'}]\n")).ID)
	wantStatus(t, b, fsm.Passed)
	for _, j := range b.Jobs {
		for _, a := range j.Attempts {
			if a.Node == n.ID {
				t.Errorf("job %s was placed where there is no room: %s", j.ID, outline(b))
			}
		}
	}
}

// wantAgreement waits until all voters have the same state.
func wantAgreement(t *testing.T, l *lab.Lab) {
	t.Helper()
	different, err := l.Diverged(deadline(t, patience))
	must(t, err)
	if different > 0 {
		t.Errorf("%d voters have another state than the leader", different)
	}
}
