package cluster

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// journal is a Machine that remembers what was applied.
type journal struct {
	mu      sync.Mutex
	entries []string
	gate    chan struct{} // where it is set, nothing is applied until it is closed
}

var errPoison = errors.New("upgrade this node")

func (j *journal) Apply(_, _ uint64, entry []byte) (any, error) {
	if string(entry) == "poison" {
		return nil, errPoison
	}
	j.mu.Lock()
	gate := j.gate
	j.mu.Unlock()
	if gate != nil {
		<-gate
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, string(entry))
	return len(j.entries), nil
}

func (j *journal) Snapshot() func(io.Writer) error {
	all := j.all()
	return func(w io.Writer) error { return gob.NewEncoder(w).Encode(all) }
}

func (j *journal) Restore(r io.Reader) error {
	var all []string
	if err := gob.NewDecoder(r).Decode(&all); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = all
	return nil
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.entries)
}

// node is a running Cluster under test.
type node struct {
	*Cluster
	t       testing.TB
	cfg     Config
	journal *journal
	cancel  context.CancelFunc
	done    chan error
	scopes  *scopes
}

// scopes checks that WhileLeader's function never runs twice at a time.
type scopes struct {
	mu      sync.Mutex
	running int
	terms   []uint64
}

func (s *scopes) enter(t testing.TB, term uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running++
	if s.running > 1 {
		t.Error("two leader scopes of one node at a time")
	}
	s.terms = append(s.terms, term)
}

func (s *scopes) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
}

func testLog(t testing.TB) *slog.Logger {
	level := slog.LevelError + 4
	if testing.Verbose() {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: level}))
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimRight(b, "\n"))
	return len(b), nil
}

// start opens, joins and runs; the test's end stops it.
func start(t testing.TB, cfg Config) *node {
	t.Helper()
	n := open(t, cfg)
	if err := n.Join(t.Context()); err != nil {
		t.Fatalf("join: %v", err)
	}
	n.run()
	return n
}

func open(t testing.TB, cfg Config) *node {
	t.Helper()
	n := &node{t: t, cfg: cfg, journal: &journal{}, scopes: &scopes{}}
	var err error
	n.Cluster, err = Open(cfg, n.journal, testLog(t).With("dir", filepath.Base(cfg.DataDir)))
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return n
}

func (n *node) run() {
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel, n.done = cancel, make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = n.WhileLeader(ctx, func(ctx context.Context, term uint64) error {
			n.scopes.enter(n.t, term)
			defer n.scopes.leave()
			<-ctx.Done()
			return nil
		})
	})
	wg.Go(func() { n.done <- n.Run(ctx) })
	n.t.Cleanup(func() { cancel(); wg.Wait() })
	select {
	case <-n.Ready():
	case err := <-n.done:
		n.t.Fatalf("run: %v", err)
	}
}

// stop ends the node and waits.
func (n *node) stop() error {
	n.cancel()
	err := <-n.done
	n.done <- err
	return err
}

// until waits for a condition on what this node sees of the cluster.
func (n *node) until(what string, within time.Duration, ok func(Snapshot) bool) {
	n.t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond) // what Stats says has no channel
	defer tick.Stop()
	for {
		s, changed := n.Watch()
		if ok(s) {
			return
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-deadline.C:
			n.t.Fatalf("%s: not within %s; %s sees %s; stats %+v", what, within, n.nodeID, describe(s), n.Stats())
		}
	}
}

func describe(s Snapshot) string {
	var b bytes.Buffer
	for _, m := range s.Members {
		fmt.Fprintf(&b, "%s/%d %s %s inlog=%v; ", m.ID, m.Incarnation, m.State, m.Addr, m.InLog)
	}
	fmt.Fprintf(&b, "leader %s term %d %v", s.Leader.ID, s.Term, s.HasLeader)
	return b.String()
}

func (n *node) untilVoters(want int, within time.Duration) {
	n.t.Helper()
	n.until(fmt.Sprintf("%d voters", want), within, func(Snapshot) bool { return len(n.voters()) == want })
}

func (n *node) voters() []string {
	var out []string
	for _, s := range n.Stats().Servers {
		if s.Voter {
			out = append(out, s.ID)
		}
	}
	return out
}

func (n *node) mustApply(text string) {
	n.t.Helper()
	if _, _, err := n.Apply(n.t.Context(), []byte(text)); err != nil {
		n.t.Fatalf("apply %q: %v", text, err)
	}
}

// leaderOf waits until all nodes agree on a leader, and returns it.
func leaderOf(t testing.TB, within time.Duration, nodes ...*node) *node {
	t.Helper()
	var id string
	for i := 0; i < len(nodes); {
		nodes[i].until("a leader that all agree on", within, func(s Snapshot) bool { return s.HasLeader })
		s, _ := nodes[i].Watch()
		if i > 0 && s.Leader.ID != id {
			id, i = "", 0
			time.Sleep(time.Millisecond)
			continue
		}
		id = s.Leader.ID
		i++
	}
	for _, n := range nodes {
		if n.nodeID == id {
			return n
		}
	}
	t.Fatalf("leader %s is none of the nodes", id)
	return nil
}

func writeTestFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
