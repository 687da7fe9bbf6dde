package copies

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/codepr/narwhal/blob"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog"
)

// lab is some nodes with copiers, in virtual time.
type lab struct {
	t     *testing.T
	mu    sync.Mutex
	nodes map[fsm.NodeID]*labNode
	ended map[fsm.AttemptRef]bool        // as the state knows
	state map[fsm.AttemptRef]fsm.SealLog // what was entered
	away  bool                           // no leader answers
	tells int                            // messages between nodes

	bucket func(ctx context.Context, b fsm.Blob) (fsm.NodeID, error) // of the nodes that are started from now on
}

type labNode struct {
	lab    *lab
	id     fsm.NodeID
	dir    string
	shelf  *Shelf
	sealed *blob.Store
	copier *Copier
	down   bool
	stop   func()
}

func onLab(t *testing.T, test func(l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &lab{t: t, nodes: map[fsm.NodeID]*labNode{}, ended: map[fsm.AttemptRef]bool{}, state: map[fsm.AttemptRef]fsm.SealLog{}}
		defer func() {
			for _, n := range l.nodes {
				n.stop()
			}
		}()
		test(l)
	})
}

func (l *lab) add(ids ...fsm.NodeID) {
	l.t.Helper()
	for _, id := range ids {
		n := &labNode{lab: l, id: id, dir: l.t.TempDir()}
		l.nodes[id] = n
		n.start()
	}
}

func (n *labNode) start() {
	t := n.lab.t
	t.Helper()
	var err error
	if n.shelf, err = OpenShelf(filepath.Join(n.dir, "copies")); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	n.sealed, err = blob.Open(blob.Config{Dir: filepath.Join(n.dir, "logs"), Suffix: ".log.zst"}, log)
	if err != nil {
		t.Fatal(err)
	}
	n.copier, err = NewCopier(Config{Self: n.id, Peers: n, Shelf: n.shelf, Sealed: n.sealed, Register: n.lab.register, Bucket: n.lab.bucket, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := n.copier.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	n.stop = func() { cancel(); wg.Wait() }
	n.set(false)
}

func (n *labNode) set(down bool) {
	n.lab.mu.Lock()
	defer n.lab.mu.Unlock()
	n.down = down
}

// die ends a node; gossip knows at once.
func (n *labNode) die() {
	n.set(true)
	n.stop()
}

var errDown = errors.New("it is down")

func (n *labNode) reach(id fsm.NodeID) (*labNode, error) {
	n.lab.mu.Lock()
	defer n.lab.mu.Unlock()
	n.lab.tells++
	other := n.lab.nodes[id]
	if n.down || other.down {
		return nil, errDown
	}
	return other, nil
}

// Alive implements Peers.
func (n *labNode) Alive() (list []fsm.NodeID) {
	n.lab.mu.Lock()
	defer n.lab.mu.Unlock()
	for id, other := range n.lab.nodes {
		if id != n.id && !other.down {
			list = append(list, id)
		}
	}
	return list
}

// Tell implements Peers.
func (n *labNode) Tell(ctx context.Context, id fsm.NodeID, chunks []Chunk) (Answer, error) {
	other, err := n.reach(id)
	if err != nil {
		return Answer{}, err
	}
	return other.copier.Take(ctx, n.id, chunks)
}

// Give implements Peers.
func (n *labNode) Give(ctx context.Context, id fsm.NodeID, b fsm.Blob) error {
	other, err := n.reach(id)
	if err != nil {
		return err
	}
	f, _, err := n.sealed.Open(b.Digest)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	_, _, err = other.sealed.Put(ctx, f, 1<<30)
	return err
}

func (l *lab) register(_ context.Context, seals []fsm.SealLog) ([]error, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away {
		return nil, errDown
	}
	answers := make([]error, len(seals))
	for i, s := range seals {
		old, ok := l.state[s.Ref]
		switch {
		case !l.ended[s.Ref]:
			answers[i] = fsm.ErrNotEnded
		case !ok || s.Bytes >= old.Bytes:
			l.state[s.Ref] = s
		}
	}
	return answers, nil
}

func (l *lab) end(ref fsm.AttemptRef) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended[ref] = true
}

// entered is what the state says of a log.
func (l *lab) entered(ref fsm.AttemptRef) (fsm.SealLog, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.state[ref]
	return s, ok
}

// attempt is one whose log a node writes.
type attempt struct {
	ref  fsm.AttemptRef
	path string
	w    *joblog.Writer
}

func (n *labNode) begin(build fsm.BuildID) *attempt {
	n.lab.t.Helper()
	a := &attempt{ref: fsm.AttemptRef{Job: fsm.JobID{Build: build, Seq: 1}, N: 1, Token: fsm.Token{Index: uint64(build)}}}
	a.path = filepath.Join(n.dir, fmt.Sprintf("log-%d", build))
	var err error
	if a.w, err = joblog.Create(a.path, 0); err != nil {
		n.lab.t.Fatal(err)
	}
	n.copier.Watch(a.ref, a.path)
	return a
}

func (n *labNode) over(a *attempt) {
	n.lab.t.Helper()
	if err := a.w.Close(); err != nil {
		n.lab.t.Fatal(err)
	}
	n.copier.Over(a.ref, a.path)
}

// copyOf is what other nodes than not have of the log.
func (l *lab) copyOf(a *attempt, not fsm.NodeID) (text string, at fsm.NodeID) {
	l.t.Helper()
	for id, n := range l.nodes {
		if c, ok := n.shelf.Find(a.ref.Job, a.ref.N); ok && id != not && !n.down {
			data, err := os.ReadFile(c.Path)
			if err != nil {
				l.t.Fatal(err)
			}
			if len(data) > len(text) || at == "" {
				text, at = string(data), id
			}
		}
	}
	return text, at
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// wantSealed checks that the holders, and no others, have the whole log.
func (l *lab) wantSealed(ref fsm.AttemptRef, lines int, holders ...fsm.NodeID) {
	l.t.Helper()
	s, ok := l.entered(ref)
	if !ok {
		l.t.Fatalf("%s: the state does not know it", ref)
	}
	if !slices.Equal(slices.Sorted(slices.Values(s.Log.Holders)), holders) {
		l.t.Errorf("%s: held by %v, want %v", ref, s.Log.Holders, holders)
	}
	for _, id := range s.Log.Holders {
		if err := l.nodes[id].sealed.Verify(l.t.Context(), s.Log.Digest, s.Log.Size); err != nil {
			l.t.Errorf("%s at %s: %v", ref, id, err)
			continue
		}
		r, err := joblog.OpenSealed(filepath.Join(l.nodes[id].dir, "logs", s.Log.Digest+".log.zst"), 0)
		if err != nil {
			l.t.Fatal(err)
		}
		n := 0
		for _, err = r.Next(); err == nil; _, err = r.Next() {
			n++
		}
		if !errors.Is(err, io.EOF) || n != lines {
			l.t.Errorf("%s at %s: %d lines, want %d: %v", ref, id, n, lines, err)
		}
		_ = r.Close()
	}
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
