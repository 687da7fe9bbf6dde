package heads

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
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

// world is a replicated state and the git servers outside of it.
type world struct {
	t       *testing.T
	mu      sync.Mutex
	state   *fsm.State
	changed chan struct{}
	largest int // bytes of a command
	servers map[string][]Head
	asked   map[string]int
	down    map[string]bool
	during  func() // while a server is asked
	lose    bool   // leadership, with the next proposal
}

func newWorld(t *testing.T) *world {
	state, _ := fsm.Apply(fsm.New(), 1, 1, []fsm.Command{{RaiseVersion: &fsm.RaiseVersion{Version: fsm.StateVersion}}})
	return &world{t: t, state: state, changed: make(chan struct{}), servers: map[string][]Head{}, asked: map[string]int{}, down: map[string]bool{}}
}

func (w *world) watch() (*fsm.State, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state, w.changed
}

var errLost = errors.New("leadership was lost")

func (w *world) propose(_ context.Context, commands []fsm.Command) (results []fsm.Result, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lose {
		return nil, errLost
	}
	for _, c := range commands {
		c.At = time.Now()
		data, err := fsm.EncodeCommand(c)
		if err != nil {
			w.t.Error(err)
		}
		w.largest = max(w.largest, len(data))
		var r []fsm.Result
		w.state, r = fsm.Apply(w.state, w.state.Index()+1, 1, []fsm.Command{c})
		results = append(results, r...)
	}
	if err := w.state.Verify(); err != nil {
		w.t.Error(err)
	}
	close(w.changed)
	w.changed = make(chan struct{})
	return results, nil
}

func (w *world) look(_ context.Context, url string) ([]Head, error) {
	w.mu.Lock()
	w.asked[url]++
	during := w.during
	heads, down := slices.Clone(w.servers[url]), w.down[url]
	w.mu.Unlock()
	if during != nil {
		during()
	}
	if down {
		return nil, errors.New("no route to host")
	}
	return heads, nil
}

// push changes a server, and is told of where told is set.
func (w *world) push(repo, ref, sha string, told bool) {
	w.t.Helper()
	url := "https://h/" + repo
	w.mu.Lock()
	at := slices.IndexFunc(w.servers[url], func(h Head) bool { return h.Ref == ref })
	switch {
	case at >= 0:
		w.servers[url][at].SHA = sha
	default:
		w.servers[url] = append(w.servers[url], Head{ref, sha})
	}
	w.mu.Unlock()
	if told {
		w.tell(repo, ref, sha)
	}
}

// tell is the webhook of a push.
func (w *world) tell(repo, ref, sha string) fsm.Result {
	w.t.Helper()
	c := commit(&fsm.Remote{Repo: repo, CloneURL: "https://h/" + repo, Forge: "github"}, Head{ref, sha}, "")
	c.Author = "otter"
	results, err := w.propose(w.t.Context(), []fsm.Command{{AddBuild: &fsm.AddBuild{Key: c.Key(), Commit: c}}})
	if err != nil || results[0].Err != nil {
		w.t.Fatal(err, results)
	}
	return results[0]
}

func (w *world) remove(repo, ref string) {
	url := "https://h/" + repo
	w.servers[url] = slices.DeleteFunc(w.servers[url], func(h Head) bool { return h.Ref == ref })
}

// lead has a leader run for a while.
func (w *world) lead(d time.Duration) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), d)
	defer cancel()
	watcher := New(Config{Watch: w.watch, Look: w.look, Propose: w.propose, Log: slog.New(slog.DiscardHandler), Check: func(c fsm.Commit) error {
		if strings.Contains(c.Ref, "--") {
			return errors.New("an option")
		}
		return nil
	}})
	if err := watcher.Run(ctx); err != nil {
		w.t.Error(err)
	}
}

// built are the builds there are, the oldest first, as "ref@sha".
func (w *world) built() string {
	s, _ := w.watch()
	var all []string
	for b := range s.Builds(0) {
		all = append(all, strings.TrimPrefix(b.Commit.Ref, "refs/heads/")+"@"+b.Commit.SHA)
	}
	slices.Reverse(all)
	return strings.Join(all, " ")
}

func (w *world) wantBuilt(want string) {
	w.t.Helper()
	if got := w.built(); got != want {
		w.t.Fatalf("built are %s, want %s", got, want)
	}
}

func (w *world) heads(repo string) map[string]string {
	s, _ := w.watch()
	all := map[string]string{}
	for h := range s.Heads(repo) {
		all[h.Ref] = h.SHA
	}
	return all
}

// TestCatchUp pushes while nobody leads.
func TestCatchUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.push("acme/api", "refs/heads/old", "0", false) // long before
		w.push("acme/api", "refs/heads/main", "1", true)
		w.lead(time.Minute) // it is known from then on
		w.wantBuilt("main@1")

		w.push("acme/api", "refs/heads/main", "2", false)
		w.push("acme/api", "refs/heads/main", "3", false)
		w.push("acme/api", "refs/heads/new", "4", false)
		w.push("acme/api", "refs/tags/v1", "3", false)
		w.push("acme/api", "refs/heads/--x", "3", false)
		w.lead(time.Minute)
		w.wantBuilt("main@1 main@3 new@4 refs/tags/v1@3")
		s, _ := w.watch()
		if b, _ := s.Build(2); b.Commit.Before != "1" || b.Commit.Forge != "github" || b.Commit.Event != fsm.EventPush {
			t.Errorf("built is %+v", b.Commit)
		}
		if b, _ := s.Build(4); b.Commit.Event != fsm.EventTag {
			t.Errorf("built is %+v", b.Commit)
		}
		if r := w.tell("acme/api", "refs/heads/main", "3"); !r.Known || r.Build != 2 { // its webhook, late
			t.Errorf("the webhook made %+v", r)
		}
		w.lead(time.Minute)
		w.lead(time.Minute)
		w.wantBuilt("main@1 main@3 new@4 refs/tags/v1@3")
		if n := w.asked["https://h/acme/api"]; n != 4 {
			t.Errorf("asked %d times by 4 leaders", n)
		}
	})
}

// TestFirstLook is at a remote of which only one push was told, before all went down.
func TestFirstLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for i := range 50 {
			w.push("acme/api", fmt.Sprint("refs/heads/b", i), "0", false)
		}
		w.push("acme/api", "refs/heads/main", "1", true)
		w.push("acme/api", "refs/heads/main", "2", false)
		w.lead(time.Minute)
		w.wantBuilt("main@1 main@2")
		if n := len(w.heads("acme/api")); n != 51 {
			t.Errorf("%d heads are known", n)
		}
	})
}

// TestLookWhileTold looks for the first time while pushes are told of: what they bring is
// theirs.
func TestLookWhileTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var leading sync.WaitGroup
		leading.Go(func() { w.lead(time.Minute) })
		time.Sleep(10 * time.Second)
		w.push("acme/api", "refs/heads/dev", "0", false)
		w.push("acme/api", "refs/heads/main", "1", true)
		w.push("acme/api", "refs/heads/main", "2", false) // its webhook is on the way
		time.Sleep(10 * time.Second)
		w.wantBuilt("main@1")
		if got := w.heads("acme/api"); !maps.Equal(got, map[string]string{"refs/heads/main": "1", "refs/heads/dev": "0"}) {
			t.Errorf("known are %v", got)
		}
		w.tell("acme/api", "refs/heads/main", "2")
		leading.Wait()
		w.wantBuilt("main@1 main@2")
		if n := w.asked["https://h/acme/api"]; n != 1 {
			t.Errorf("asked %d times", n)
		}
	})
}

// TestPushedMeanwhile has a webhook come while the remote is asked.
func TestPushedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.push("acme/api", "refs/heads/main", "1", true)
		w.lead(time.Minute)
		w.push("acme/api", "refs/heads/main", "2", false)
		w.during = sync.OnceFunc(func() { w.push("acme/api", "refs/heads/main", "3", true) })
		w.lead(time.Minute)
		if got := w.heads("acme/api")["refs/heads/main"]; got != "3" && got != "2" {
			t.Errorf("main is at %s", got)
		}
		w.lead(time.Minute)
		if got := w.heads("acme/api")["refs/heads/main"]; got != "3" {
			t.Errorf("main is at %s", got)
		}
		w.wantBuilt("main@1 main@3 main@2") // both were there, and each is built once
	})
}

func TestGoneRefs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.push("acme/api", "refs/heads/main", "1", true)
		w.push("acme/api", "refs/heads/gone", "2", true)
		w.lead(time.Minute)
		w.remove("acme/api", "refs/heads/gone")
		w.lead(time.Minute)
		if got := w.heads("acme/api"); !maps.Equal(got, map[string]string{"refs/heads/main": "1"}) {
			t.Errorf("known are %v", got)
		}
		w.remove("acme/api", "refs/heads/main") // all at once is more likely a server's fault
		w.lead(time.Minute)
		if got := w.heads("acme/api"); len(got) != 1 {
			t.Errorf("known are %v", got)
		}
	})
}

// TestManyNewRefs has a repository filled while nobody looks.
func TestManyNewRefs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.push("acme/api", "refs/heads/main", "1", true)
		w.lead(time.Minute)
		long := strings.Repeat("x", 200)
		for i := range 4000 {
			w.push("acme/api", fmt.Sprintf("refs/heads/%s%04d", long, i), strings.Repeat("a", 40), false)
		}
		w.lead(time.Minute)
		s, _ := w.watch()
		if n := s.BuildCount(); n != 1+MaxNew || len(w.heads("acme/api")) != 4001 {
			t.Errorf("%d builds, %d heads", n, len(w.heads("acme/api")))
		}
		if w.largest > 256<<10 {
			t.Errorf("a command has %d bytes", w.largest)
		}
		w.lead(time.Minute)
		if s, _ = w.watch(); s.BuildCount() != 1+MaxNew {
			t.Errorf("the next leader has built %d", s.BuildCount())
		}
	})
}

// TestWebhookIsGone has nobody told of a repository for a month, though leaders find what
// is pushed there: it is left alone then.
func TestWebhookIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.push("acme/api", "refs/heads/main", "1", true)
		w.lead(time.Minute)
		time.Sleep(29 * 24 * time.Hour)
		w.push("acme/api", "refs/heads/main", "2", false)
		w.lead(time.Minute)
		w.wantBuilt("main@1 main@2")
		time.Sleep(2 * 24 * time.Hour)
		w.push("acme/api", "refs/heads/main", "3", false)
		w.lead(time.Minute)
		w.wantBuilt("main@1 main@2")
		w.tell("acme/api", "refs/heads/main", "3")
		w.push("acme/api", "refs/heads/main", "4", false)
		w.lead(time.Minute)
		w.wantBuilt("main@1 main@2 main@3 main@4")
	})
}

// TestServerAway tries again, for about a day: it may come back long after this node.
func TestServerAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.push("acme/api", "refs/heads/main", "1", true)
		w.push("acme/web", "refs/heads/main", "a", true)
		w.lead(time.Minute)
		w.push("acme/api", "refs/heads/main", "2", false)
		w.push("acme/web", "refs/heads/main", "b", false)
		before := maps.Clone(w.asked)
		w.down["https://h/acme/api"] = true
		var leading sync.WaitGroup
		leading.Go(func() { w.lead(time.Hour) })
		time.Sleep(20 * time.Second)
		w.wantBuilt("main@1 main@a main@b")
		w.mu.Lock()
		w.down["https://h/acme/api"] = false
		w.mu.Unlock()
		time.Sleep(time.Minute)
		w.wantBuilt("main@1 main@a main@b main@2")
		leading.Wait()
		w.down["https://h/acme/api"] = true
		middle := w.asked["https://h/acme/api"]
		w.lead(72 * time.Hour)
		if n := w.asked["https://h/acme/api"] - middle; n != maxTries {
			t.Errorf("asked %d times in three days", n)
		}
		if n := w.asked["https://h/acme/web"] - before["https://h/acme/web"]; n != 2 {
			t.Errorf("the one that answers was asked %d times by two leaders", n)
		}
	})
}

// TestLeadershipLost loses it before anything is written: the next leader does it.
func TestLeadershipLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.push("acme/api", "refs/heads/main", "1", true)
		w.lead(time.Minute)
		w.push("acme/api", "refs/heads/main", "2", false)
		w.lose = true
		w.lead(8 * time.Second)
		w.lose = false
		w.wantBuilt("main@1")
		w.lead(time.Minute)
		w.wantBuilt("main@1 main@2")
	})
}
