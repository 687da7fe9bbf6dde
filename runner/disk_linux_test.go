package runner

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/codepr/narwhal/blob"
)

// smallDisk is a file system of 64 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("narwhal-test", dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Fatalf("a small file system takes the right to mount one: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

const mib = 1 << 20

// fill makes a file, as large as it can while room is being made for it.
func fill(t *testing.T, path string, bytes int) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	deadline := time.Now().Add(15 * time.Second)
	chunk := make([]byte, 256<<10)
	for at := 0; at < bytes; at += len(chunk) {
		for {
			_, err := f.WriteAt(chunk, int64(at))
			if err == nil {
				break
			}
			if !errors.Is(err, syscall.ENOSPC) || time.Now().After(deadline) {
				t.Fatal(err)
			}
			pause(t.Context(), 5*time.Millisecond)
		}
	}
}

func age(t *testing.T, path string, by time.Duration) {
	t.Helper()
	then := time.Now().Add(-by)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
}

// logged collects what is logged.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

// TestDiskFillsUp has a real file system fill up under a node: what was least
// recently used goes, over all kinds; where that is not enough the node takes no jobs
// until there is room; what a running job has stays.
func TestDiskFillsUp(t *testing.T) {
	n := newNode(t)
	n.dir = smallDisk(t)
	store, err := blob.Open(blob.Config{Dir: filepath.Join(n.dir, "blobs")}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var blobs []string
	for i := range 3 {
		digest, _, err := store.Put(t.Context(), bytes.NewReader(bytes.Repeat([]byte{byte(i)}, 8*mib)), 8*mib)
		if err != nil {
			t.Fatal(err)
		}
		age(t, filepath.Join(n.dir, "blobs", digest), time.Duration(10-i)*time.Hour)
		blobs = append(blobs, digest)
	}
	old, young := filepath.Join(n.dir, "attempts", "8.1-1"), filepath.Join(n.dir, "attempts", "9.1-1")
	for _, dir := range []string{old, young} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		fill(t, filepath.Join(dir, "log"), 4*mib)
	}
	age(t, old, 9*24*time.Hour)
	var said logged
	var full atomic.Bool
	n.adjust = func(c *Config) {
		c.Log = slog.New(slog.NewTextHandler(&said, nil))
		c.Marks = Marks{High: Mark{Percent: 85}, Low: Mark{Percent: 75}}
		c.Full = full.Store
		c.DiskEvery, c.Beat = 10*time.Millisecond, 20*time.Millisecond
		c.Shelves = []Shelf{{Name: "blobs", Free: func(_ context.Context, bytes int64) (int64, error) { return store.Free(bytes) },
			List: func(context.Context) (list []Kept, err error) {
				all, err := store.List()
				for _, b := range all {
					list = append(list, Kept{b.Size, b.UsedAt})
				}
				return list, err
			}}}
	}
	n.start()
	a := ref(1, 1, 7)
	n.leader.want(job(a))
	n.m.awaitRun(t, a)
	work := filepath.Join(n.r.workspace(a), "work")

	// 24 MiB of blobs and 8 of logs are there. 25 more are 89%: what is 14% goes.
	fill(t, work, 25*mib)
	n.leader.await(t, "the old log and the oldest blob to go", func() bool {
		_, err := os.Stat(old)
		return errors.Is(err, os.ErrNotExist) && !store.Has(blobs[0])
	})
	if !store.Has(blobs[1]) || !store.Has(blobs[2]) {
		t.Error("more has gone than had to")
	}
	if n.r.disk.Full() {
		t.Error("it is full with room on it")
	}

	// 29 more are more than all that can go.
	fill(t, filepath.Join(n.r.workspace(a), "more"), 29*mib)
	n.leader.await(t, "the leader to hear that the disk is full", func() bool { return n.leader.load.DiskFull && !store.Has(blobs[2]) })
	n.leader.look(func() { n.leader.cut() })
	n.leader.await(t, "a hello that says so too", func() bool {
		return len(n.leader.hellos) > 1 && n.leader.hellos[len(n.leader.hellos)-1].DiskFull
	})
	n.leader.await(t, "the others to hear that the disk is full", full.Load)
	n.m.look(func() {
		if !n.m.scant {
			t.Error("the executor has not heard that there is no room for what it makes ahead")
		}
	})
	for _, path := range []string{work, young} {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("what is in use, or fresh, has gone: %v", err)
		}
	}
	if count := said.count("the disk is full: this node takes no jobs until there is room (75% in use)"); count != 1 {
		t.Errorf("it was said %d times", count)
	}

	// Below the high mark is not enough while the job is there; its end is.
	if err := os.Truncate(work, 20*mib); err != nil {
		t.Fatal(err)
	}
	var seen uint64
	n.leader.look(func() { seen = n.leader.beats })
	n.leader.await(t, "more beats", func() bool { return n.leader.beats > seen+5 })
	n.leader.look(func() {
		if !n.leader.load.DiskFull {
			t.Error("it takes jobs again between the marks")
		}
	})
	n.m.exit(a, passed())
	n.leader.await(t, "the leader to hear that there is room", func() bool { return !n.leader.load.DiskFull })
	if count := said.count("there is room on the disk again"); count != 1 {
		t.Errorf("it was said %d times", count)
	}
	n.m.await(t, "the executor to hear that there is room", func() bool { return !n.m.scant })
	n.settled()
	n.end()
}

// withImages is a machine that has images, on a disk of their own.
type withImages struct {
	*machine
	root  string
	names []string
	fails error
}

func (m *withImages) Root(context.Context) (string, error) { return m.root, nil }

func (m *withImages) Images(context.Context) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.names), m.fails
}

// Tidy removes the last image: each is a file of 8 MiB.
func (m *withImages) Tidy(_ context.Context, want int64) (freed int64, err error) {
	m.update(func() {
		for last := len(m.names) - 1; freed < want && last >= 0; last-- {
			err = errors.Join(err, os.Remove(filepath.Join(m.root, m.names[last])))
			freed += 8 * mib
			m.names = m.names[:last]
		}
	})
	return freed, err
}

func TestImages(t *testing.T) {
	n := newNode(t)
	m := &withImages{machine: n.m, root: smallDisk(t), names: []string{"alpine:3", "debian:latest"}}
	for _, name := range append(m.names, "busybox:1", "go:1") {
		fill(t, filepath.Join(m.root, name), 8*mib)
	}
	n.adjust = func(c *Config) {
		c.Executor, c.Beat, c.DiskEvery = m, 20*time.Millisecond, 10*time.Millisecond
		c.Marks = Marks{High: Mark{Percent: 85}, Low: Mark{Free: 20 * mib}}
	}
	n.start()
	n.leader.await(t, "the leader to hear of them", func() bool {
		return slices.Equal(n.leader.images, []string{"alpine:3", "debian", "debian:latest"})
	})
	m.update(func() { m.names = append(m.names, "busybox:1", "go:1") })
	n.leader.await(t, "the leader to hear of more", func() bool {
		return slices.Equal(n.leader.images, []string{"alpine:3", "busybox:1", "debian", "debian:latest", "go:1"})
	})
	m.update(func() { m.fails = errors.New("the engine is away") })
	n.leader.look(func() { n.leader.cut() })
	n.leader.await(t, "a hello with what is known", func() bool {
		return len(n.leader.hellos) > 1 && len(n.leader.hellos[len(n.leader.hellos)-1].Images) == 5
	})
	m.update(func() { m.fails = nil })

	// 32 MiB of images and 25 of others' are 89% of their disk: two go.
	fill(t, filepath.Join(m.root, "foreign"), 25*mib)
	n.leader.await(t, "two images to go", func() bool { return slices.Equal(n.leader.images, []string{"alpine:3", "debian", "debian:latest"}) })
	n.end()
}

// dated is withImages that knows when the next one to go was last used.
type dated struct {
	*withImages
	next time.Time
	none bool
}

func (d dated) NextImage(context.Context) (time.Time, bool, error) { return d.next, !d.none, nil }

func TestImagesOnTheirShelf(t *testing.T) {
	plain, at := &withImages{machine: newMachine()}, time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	list := func(e Executor) []Kept {
		t.Helper()
		kept, err := newImagesHere(e, nil).shelf().List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return kept
	}
	if got := list(dated{plain, at, false}); !slices.Equal(got, []Kept{{Used: at}}) {
		t.Errorf("the shelf has %v", got)
	}
	if got := list(dated{plain, at, true}); len(got) != 0 {
		t.Errorf("with nothing to remove it has %v", got)
	}
	if got := list(plain); len(got) != 1 || got[0].Bytes != 0 || time.Since(got[0].Used) < imageAge {
		t.Errorf("where it isn't known it has %v", got)
	}
	if newImagesHere(newMachine(), nil).store != nil {
		t.Error("an executor without images has some")
	}
}
