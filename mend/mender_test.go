package mend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/codepr/narwhal/fsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// keep is a state with a cache for each text "KEY HOLDER…".
func keep(t *testing.T, caches ...string) *fsm.State {
	t.Helper()
	var commands []fsm.Command
	for _, text := range caches {
		f := strings.Fields(text)
		var holders []fsm.NodeID
		for _, id := range f[1:] {
			holders = append(holders, fsm.NodeID(id))
		}
		commands = append(commands, fsm.Command{SaveCache: &fsm.SaveCache{Entry: fsm.CacheEntry{
			Repo: "r", Scope: "repo", Key: f[0], Blob: fsm.Blob{Digest: "of-" + f[0], Size: 1, Holders: holders},
		}}})
	}
	s, results := fsm.Apply(fsm.New(), 1, 1, commands)
	for _, r := range results {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	return s
}

func TestPlan(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := keep(t, "both n1 n2", "lost n1 gone", "left n1 forever", "soon n1 brief", "alone n1", "nobody gone forever", "twice n2 gone forever")
	see := Sight{Alive: []fsm.NodeID{"n1", "n2", "n3"}, Away: map[fsm.NodeID]time.Time{"gone": now.Add(-time.Hour), "brief": now.Add(-time.Minute)}}
	var got []string
	for _, task := range Plan(s, see, 10*time.Minute, now) {
		if task.To == task.From || !slices.Contains(see.Alive, task.To) {
			t.Errorf("%s: from %s to %s", task.Ref.Key, task.From, task.To)
		}
		if held := task.Holders(); len(held) != 2 || !slices.Contains(held, task.From) || !slices.Contains(held, task.To) {
			t.Errorf("%s: held by %v then", task.Ref.Key, held)
		}
		got = append(got, task.Ref.Key)
	}
	if want := []string{"alone", "left", "lost", "twice"}; !slices.Equal(got, want) {
		t.Errorf("to be copied: %v, want %v", got, want)
	}
	see.Alive = see.Alive[:1] // there is nobody to give it to
	if tasks := Plan(s, see, 10*time.Minute, now); len(tasks) != 0 {
		t.Errorf("with one node: %v", tasks)
	}
}

// TestPlanWithBucket has what is on nodes go into the bucket, by those that can put it
// there; while nobody can, there are two copies as without one.
func TestPlanWithBucket(t *testing.T) {
	const here, there = fsm.NodeID("bucket:0123456789ab"), fsm.NodeID("bucket:ba9876543210")
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := keep(t, "both n1 n2", "in n1 "+string(here), "alone n2", "other n3", "elsewhere n3 "+string(there), "lost gone "+string(here), "moves n2 "+string(there))
	bundle := fsm.Command{AddBuild: &fsm.AddBuild{Key: "k", Commit: fsm.Commit{Repo: "r", SHA: strings.Repeat("a", 40), Ref: "refs/heads/main", Event: fsm.EventPush, Bundle: "b", Holders: []fsm.NodeID{"n1", "n2"}}}}
	s, results := fsm.Apply(s, 2, 1, []fsm.Command{bundle})
	if results[0].Err != nil {
		t.Fatal(results[0].Err)
	}
	see := Sight{Alive: []fsm.NodeID{"n1", "n2", "n3"}, Bucket: here, Uploaders: []fsm.NodeID{"n2", "n1"}}
	plan := func() (got []string) {
		for _, task := range Plan(s, see, 10*time.Minute, now) {
			to := string(task.To)
			if !task.To.IsBucket() {
				to = "a node"
			}
			got = append(got, fmt.Sprintf("%s from %s to %s", task.Ref.Key, task.From, to))
			if task.To.IsBucket() && !slices.Equal(task.Holders(), []fsm.NodeID{task.From, here}) {
				t.Errorf("%s: held by %v then", task.Ref.Key, task.Holders())
			}
		}
		return got
	}
	in := " to " + string(here)
	if got, want := plan(), []string{"alone from n2" + in, "both from n1" + in, "moves from n2" + in, "other from n3 to a node"}; !slices.Equal(got, want) {
		t.Errorf("to be moved: %v, want %v", got, want)
	}
	if away := absent(s, see.Alive); len(away) != 1 || !away["gone"] {
		t.Errorf("absent are %v", away)
	}
	see.Uploaders = nil
	if got, want := plan(), []string{"alone from n2 to a node", "other from n3 to a node"}; !slices.Equal(got, want) {
		t.Errorf("while it is down: %v, want %v", got, want)
	}
}

// world is a cluster as a mender sees it.
type world struct {
	mu          sync.Mutex
	state       *fsm.State
	alive, left []fsm.NodeID
	changed     chan struct{}
	asked       []string
	fail        error
	lost        fsm.NodeID // it has nothing any more
	bucket      fsm.NodeID // all nodes can put something there; empty for none
}

func (w *world) Watch() (alive, left []fsm.NodeID, changed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.alive), slices.Clone(w.left), w.changed
}

func (w *world) members(alive, left []fsm.NodeID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.alive, w.left = alive, left
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *world) ask(_ context.Context, t Task) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, fmt.Sprintf("%s to %s", t.From, t.To))
	if t.From == w.lost {
		return ErrNotHeld
	}
	return w.fail
}

func (w *world) propose(_ context.Context, commands []fsm.Command) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state, _ = fsm.Apply(w.state, w.state.Index()+1, 1, commands)
	return nil
}

func (w *world) look() *fsm.State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

func (w *world) holders(key string) []fsm.NodeID {
	e, _ := w.look().Cache("r", []string{"repo"}, key, nil)
	return e.Blob.Holders
}

func (w *world) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.asked)
}

func onWorld(t *testing.T, w *world, test func()) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w.changed = make(chan struct{})
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		cfg := Config{State: w.look, Members: w, Ask: w.ask, Propose: w.propose, Log: slog.New(slog.DiscardHandler)}
		if w.bucket != "" {
			cfg.Bucket = func() (fsm.NodeID, []fsm.NodeID) { return w.bucket, w.alive }
		}
		m := New(cfg)
		wg.Go(func() {
			if err := m.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		defer wg.Wait()
		defer cancel()
		synctest.Wait()
		test()
	})
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// TestCopyIsMadeAgain once its holder has been away for long, and once.
func TestCopyIsMadeAgain(t *testing.T) {
	w := &world{state: keep(t, "a n1 n2"), alive: []fsm.NodeID{"n1", "n2", "n3"}}
	onWorld(t, w, func() {
		w.members([]fsm.NodeID{"n1", "n3"}, nil)
		pass(9 * time.Minute)
		if w.count() != 0 {
			t.Fatalf("asked %v while n2 may come back", w.asked)
		}
		pass(2 * time.Minute)
		if got := w.holders("a"); !slices.Equal(got, []fsm.NodeID{"n1", "n3"}) {
			t.Errorf("held by %v", got)
		}
		w.members([]fsm.NodeID{"n1", "n2", "n3"}, nil)
		pass(time.Hour)
		if w.count() != 1 {
			t.Errorf("asked %v", w.asked)
		}
	})
}

// TestNodeThatLeftIsReplacedAtOnce: it does not come back.
func TestNodeThatLeftIsReplacedAtOnce(t *testing.T) {
	w := &world{state: keep(t, "a n1 n2"), alive: []fsm.NodeID{"n1", "n2", "n3"}}
	onWorld(t, w, func() {
		w.members([]fsm.NodeID{"n1", "n3"}, []fsm.NodeID{"n2"})
		pass(time.Second)
		if got := w.holders("a"); !slices.Equal(got, []fsm.NodeID{"n1", "n3"}) {
			t.Errorf("held by %v", got)
		}
	})
}

// TestNodeThatFlapsIsNotReplaced: each time away counts from its beginning.
func TestNodeThatFlapsIsNotReplaced(t *testing.T) {
	w := &world{state: keep(t, "a n1 n2"), alive: []fsm.NodeID{"n1", "n2", "n3"}}
	onWorld(t, w, func() {
		for range 5 {
			w.members([]fsm.NodeID{"n1", "n3"}, nil)
			pass(8 * time.Minute)
			w.members([]fsm.NodeID{"n1", "n2", "n3"}, nil)
			pass(time.Minute)
		}
		if w.count() != 0 {
			t.Errorf("asked %v", w.asked)
		}
	})
}

// TestOtherHolderIsAsked at once for what the first one has no more.
func TestOtherHolderIsAsked(t *testing.T) {
	const bucket = fsm.NodeID("bucket:0123456789ab")
	w := &world{state: keep(t, "a n1 n2"), alive: []fsm.NodeID{"n1", "n2", "n3"}, lost: "n1"}
	onWorld(t, w, func() { pass(time.Minute) })
	if w.count() != 0 {
		t.Errorf("two copies are said to be there, and %v was asked", w.asked)
	}
	w.bucket = bucket
	onWorld(t, w, func() { pass(30 * time.Second) })
	if got := w.holders("a"); !slices.Equal(got, []fsm.NodeID{"n2", bucket}) || w.count() != 2 {
		t.Errorf("asked %v, held by %v", w.asked, got)
	}
}

// TestSecondNodeGetsCopies of what the first one had alone; what has gone there is
// not asked for again, what failed is.
func TestSecondNodeGetsCopies(t *testing.T) {
	for name, tt := range map[string]struct {
		fail  error
		asked int // within three minutes
		held  int
	}{
		"given":   {nil, 1, 2},
		"evicted": {fmt.Errorf("n1: %w", ErrNotHeld), 1, 1},
		"failed":  {errors.New("it does not answer"), 4, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{state: keep(t, "a n1"), alive: []fsm.NodeID{"n1"}, fail: tt.fail}
			onWorld(t, w, func() {
				pass(30 * time.Second)
				w.members([]fsm.NodeID{"n1", "n2"}, nil)
				pass(3 * time.Minute)
				if w.count() != tt.asked || len(w.holders("a")) != tt.held {
					t.Errorf("asked %v, held by %v", w.asked, w.holders("a"))
				}
			})
		})
	}
}
