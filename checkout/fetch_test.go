package checkout

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/codepr/narwhal/fsm"
)

func TestEnsureFollowsTheServer(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	s := open(t)
	has := func(sha string) bool {
		ok, err := mirrorOf(t, s, o.at(sha, "")).has(context.Background(), sha)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	first := o.commit("refs/heads/main", files{"a": "1"})
	if has(first) {
		t.Fatal("it is there before it was fetched")
	}
	ensure(t, s, o.at(first, "refs/heads/main"))
	if !has(first) {
		t.Fatal("it is not there after it was fetched")
	}
	if got := s.Have(); len(got) != 1 || got[0] != "acme/api" {
		t.Errorf("Have gives %v", got)
	}

	// A forced push: what was there stays, since workspaces may borrow it.
	forced := o.commit("refs/heads/main", files{"a": "2"})
	ensure(t, s, o.at(forced, "refs/heads/main"))
	if !has(first) {
		t.Error("a forced push took the old commit from the mirror")
	}

	// A branch gives its name to a folder of branches, and the other way round.
	o.git("update-ref", "-d", "refs/heads/main")
	below := o.commit("refs/heads/main/one", files{"a": "3"})
	ensure(t, s, o.at(below, "refs/heads/main/one"))
	o.git("update-ref", "-d", "refs/heads/main/one")
	above := o.commit("refs/heads/main", files{"a": "4"})
	ensure(t, s, o.at(above, "refs/heads/main"))

	// A branch that is gone by the time its build starts, on the server that
	// gives any commit it has.
	gone := o.commit("refs/heads/topic", files{"a": "5"})
	o.git("update-ref", "-d", "refs/heads/topic")
	ensure(t, s, o.at(gone, "refs/heads/topic"))

	// A pull request's ref is no branch: only its SHA leads there.
	pull := o.commit("refs/pull/7/head", files{"a": "6"})
	ensure(t, s, o.at(pull, "refs/pull/7/head"))
	m := mirrorOf(t, s, o.at(pull, ""))
	if got := gitIn(t, m.dir, nil, "--git-dir="+m.dir, "rev-parse", "refs/narwhal/"+pull); got != pull {
		t.Errorf("the pull request's ref is %q: nothing keeps %s", got, pull)
	}

	// An annotated tag's commit.
	o.git("tag", "-a", "-m", "release", "v1", above)
	ensure(t, s, o.at(above, "refs/tags/v1"))

	missing := strings.Repeat("ab", 20)
	if err := s.Ensure(context.Background(), o.at(missing, "refs/heads/main")); !errors.Is(err, ErrNotFound) {
		t.Errorf("a commit that nobody has: want ErrNotFound, got %v", err)
	}
	tree := gitIn(t, o.dir, nil, "rev-parse", above+"^{tree}")
	if err := s.Ensure(context.Background(), o.at(tree, "refs/heads/main")); !errors.Is(err, ErrInvalid) {
		t.Errorf("a tree for a commit: want ErrInvalid, got %v", err)
	}
	nowhere := o.at(first, "refs/heads/main")
	nowhere.CloneURL += "/nowhere"
	if err := s.Ensure(context.Background(), nowhere); !errors.Is(err, ErrNotFound) {
		t.Errorf("a repository that is not there: want ErrNotFound, got %v", err)
	}
}

// oldServer speaks the protocol that gives only what a ref points at.
func oldServer(w http.ResponseWriter, r *http.Request, next http.Handler) {
	r.Header.Del("Git-Protocol")
	next.ServeHTTP(w, r)
}

func TestServerThatRefusesSHAs(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	o := originAt(t, root, "api.git", "sha1")
	server := serve(t, root, oldServer)
	at := func(sha, ref string) fsm.Commit {
		c := o.at(sha, ref)
		c.CloneURL = server.URL + "/api.git"
		return c
	}
	old := o.commit("refs/heads/main", files{"a": "1"})
	o.commit("refs/heads/main", files{"a": "2"}) // old is reached by nothing
	under := o.commit("refs/pull/1/head", files{"a": "3"})
	o.commit("refs/pull/1/head", files{"a": "4"}, under) // pushed to since
	s := open(t)
	if err := s.Ensure(context.Background(), at(old, "refs/heads/main")); !errors.Is(err, ErrNotFound) {
		t.Errorf("want ErrNotFound, got %v", err)
	}
	ensure(t, s, at(under, "refs/pull/1/head"))
	if err := s.Ensure(context.Background(), at(old, "refs/pull/1/head")); !errors.Is(err, ErrNotFound) {
		t.Errorf("a ref that leads elsewhere: want ErrNotFound, got %v", err)
	}
}

// together has all of these commits asked for at once, by one batch, and gives
// how each ended.
func together(t *testing.T, s *Mirrors, commits ...fsm.Commit) []error {
	t.Helper()
	m := mirrorOf(t, s, commits[0])
	m.slot <- struct{}{}
	errs := make([]error, len(commits))
	var wg sync.WaitGroup
	for i, c := range commits {
		wg.Go(func() { errs[i] = s.Ensure(context.Background(), c) })
	}
	until(t, "all of them wait", func() bool { return m.waiters() == len(commits) })
	<-m.slot
	wg.Wait()
	return errs
}

func (m *mirror) waiters() int {
	m.waitMu.Lock()
	defer m.waitMu.Unlock()
	return len(m.waiting)
}

func TestManyShareAFetch(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	o := originAt(t, root, "api.git", "sha1")
	var fetches atomic.Int64
	server := serve(t, root, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.HasSuffix(r.URL.Path, "/info/refs") {
			fetches.Add(1)
		}
		next.ServeHTTP(w, r)
	})
	last := o.chain("refs/heads/main", 10)
	var commits []fsm.Commit
	for _, sha := range strings.Fields(o.git("rev-list", last)) {
		c := o.at(sha, "refs/heads/main")
		c.CloneURL = server.URL + "/api.git"
		commits = append(commits, c, c)
	}
	s := open(t)
	for i, err := range together(t, s, commits...) {
		if err != nil {
			t.Errorf("commit %d: %v", i, err)
		}
	}
	if n := fetches.Load(); n != 1 {
		t.Errorf("%d callers made %d fetches, want 1", len(commits), n)
	}
	for _, c := range commits {
		ensure(t, s, c)
	}
	if n := fetches.Load(); n != 1 {
		t.Errorf("what was there was fetched again")
	}
}

// One commit that can't be had, or is made to attack git, is its own caller's
// trouble.
func TestBadCompanyInABatch(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	blob := plant(t, o.dir, "blob", "x")
	evil := plantCommit(t, o.dir, entry("100644", ".git", blob))
	o.git("update-ref", "refs/heads/evil", evil)
	good := o.commit("refs/heads/main", files{"a": "1"})
	pull := o.commit("refs/pull/1/head", files{"a": "2"})
	s := open(t)
	errs := together(t, s, o.at(evil, "refs/heads/evil"), o.at(good, "refs/heads/main"),
		o.at(strings.Repeat("ab", 20), "refs/heads/main"), o.at(pull, "refs/pull/1/head"))
	for i, want := range []error{ErrCorrupt, nil, ErrNotFound, nil} {
		if !errors.Is(errs[i], want) {
			t.Errorf("caller %d: want %v, got %v", i, want, errs[i])
		}
	}
}

// gate is a server that holds its first request until the client goes away.
type gate struct {
	arrived, left chan struct{}
	first         atomic.Bool
}

func newGate() *gate { return &gate{arrived: make(chan struct{}), left: make(chan struct{})} }

func (g *gate) filter(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if !g.first.CompareAndSwap(false, true) {
		next.ServeHTTP(w, r)
		return
	}
	close(g.arrived)
	<-r.Context().Done()
	close(g.left)
}

func TestCanceledCallerHandsOn(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	o := originAt(t, root, "api.git", "sha1")
	g := newGate()
	server := serve(t, root, g.filter)
	sha := o.commit("refs/heads/main", files{"a": "1"})
	c := o.at(sha, "refs/heads/main")
	c.CloneURL = server.URL + "/api.git"
	s := open(t)
	m := mirrorOf(t, s, c)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	var first, second, third error
	wg.Go(func() { first = s.Ensure(ctx, c) })
	<-g.arrived
	wg.Go(func() { second = s.Ensure(context.Background(), c) })
	waitCtx, leave := context.WithCancel(context.Background())
	defer leave()
	wg.Go(func() { third = s.Ensure(waitCtx, c) })
	until(t, "two wait", func() bool { return m.waiters() == 2 })
	leave() // gives up before it had its turn
	until(t, "one waits", func() bool { return m.waiters() == 1 })
	cancel() // gives up in the middle of the fetch
	<-g.left
	wg.Wait()
	if !errors.Is(first, context.Canceled) || second != nil || !errors.Is(third, context.Canceled) {
		t.Errorf("got %v, %v, %v; want canceled, nil, canceled", first, second, third)
	}
	if n := m.waiters(); n != 0 {
		t.Errorf("%d are left waiting", n)
	}
}

// A fetch that takes too long is killed with all the processes that it started:
// the one that holds the connection is not git itself but its child.
func TestTimeoutKillsTheGroup(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	o := originAt(t, root, "api.git", "sha1")
	g := newGate()
	server := serve(t, root, g.filter)
	sha := o.commit("refs/heads/main", files{"a": "1"})
	c := o.at(sha, "refs/heads/main")
	c.CloneURL = server.URL + "/api.git"
	s := open(t, func(c *Config) { c.Timeout = 3 * time.Second })
	if err := s.Ensure(context.Background(), c); !errors.Is(err, ErrTransport) {
		t.Errorf("want ErrTransport, got %v", err)
	}
	select {
	case <-g.left:
	case <-time.After(20 * time.Second):
		t.Error("a child of git lives on")
	}
	s2 := open(t)
	ensure(t, s2, c) // the server is well again
}

func TestServerIsNotThere(t *testing.T) {
	t.Parallel()
	server := serve(t, t.TempDir(), nil)
	c := fsm.Commit{Repo: "a/b", CloneURL: server.URL + "/a/b.git", SHA: strings.Repeat("ab", 20), Ref: "refs/heads/main"}
	s := open(t)
	if err := s.Ensure(context.Background(), c); !errors.Is(err, ErrNotFound) {
		t.Errorf("want ErrNotFound, got %v", err)
	}
	server.Close()
	if err := s.Ensure(context.Background(), c); !errors.Is(err, ErrTransport) {
		t.Errorf("want ErrTransport, got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Ensure(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("want canceled, got %v", err)
	}
}

// Folding packs drops nothing, not even what no ref leads to.
func TestTidyKeepsEverything(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	s := open(t)
	first := o.commit("refs/heads/main", files{"a": "1"})
	c := o.at(first, "refs/heads/main")
	ensure(t, s, c)
	m := mirrorOf(t, s, c)
	var stream strings.Builder
	for i := range maxPacks { // a checkpoint ends a pack
		fmt.Fprintf(&stream, "blob\nmark :1\ndata %d\n%s\nget-mark :1\ncheckpoint\n", i+1, strings.Repeat("x", i+1))
	}
	packer := originAt(t, t.TempDir(), "packer.git", "sha1")
	shas := strings.Fields(gitIn(t, packer.dir, strings.NewReader(stream.String()), "-c", "fastimport.unpackLimit=0", "fast-import", "--quiet"))
	if err := os.CopyFS(filepath.Join(m.dir, "objects/pack"), os.DirFS(filepath.Join(packer.dir, "objects/pack"))); err != nil {
		t.Fatal(err)
	}
	before, err := filepath.Glob(filepath.Join(m.dir, "objects/pack/*.pack"))
	if err != nil || len(before) < maxPacks || len(shas) != maxPacks {
		t.Fatalf("%d packs of %d objects (%v)", len(before), len(shas), err)
	}
	second := o.commit("refs/heads/main", files{"a": "2"})
	ensure(t, s, o.at(second, "refs/heads/main"))
	packs, err := filepath.Glob(filepath.Join(m.dir, "objects/pack/*.pack"))
	if err != nil || len(packs) > 5 {
		t.Errorf("%d packs are left (%v)", len(packs), err)
	}
	for _, sha := range append(shas, first, second) {
		if kind, _, err := m.contents(context.Background(), sha); err != nil {
			t.Errorf("%s %s is lost: %v", kind, short(sha), err)
		}
	}
}
