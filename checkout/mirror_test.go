package checkout

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOneProcessOwnsTheDirectory(t *testing.T) { // not parallel: a git that is being started has the lock for a moment
	cfg := Config{Dir: t.TempDir()}
	log := slog.New(slog.DiscardHandler)
	first, err := Open(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cfg, log); err == nil || !strings.Contains(err.Error(), "another narwhal") {
		t.Errorf("a second Open: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(cfg, log)
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: "relative"}, log); err == nil {
		t.Error("a relative directory was taken")
	}
}

func TestClosedMirrors(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	sha := o.commit("refs/heads/main", files{"a": "1"})
	s, err := Open(Config{Dir: t.TempDir(), Protocols: []string{"file"}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ensure(t, s, o.at(sha, "refs/heads/main"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Ensure(context.Background(), o.at(sha, "refs/heads/main")); err == nil {
		t.Error("closed mirrors answer")
	}
}

func TestOpenAfterACrash(t *testing.T) { // not parallel: a git that is being started has the lock for a moment
	o := newOrigin(t)
	sha := o.commit("refs/heads/main", files{"a": "1"})
	o.git("update-ref", "refs/heads/tmp_branch", sha) // a name that git's own leftovers have
	other := originAt(t, t.TempDir(), "acme/other.git", "sha1")
	otherSHA := other.commit("refs/heads/main", files{"a": "1"})
	cfg := Config{Dir: t.TempDir(), Protocols: []string{"file"}}
	log := slog.New(slog.DiscardHandler)
	s, err := Open(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	ensure(t, s, o.at(sha, "refs/heads/main"))
	ensure(t, s, other.at(otherSHA, "refs/heads/main"))
	dir := mirrorOf(t, s, o.at(sha, "")).dir
	broken := mirrorOf(t, s, other.at(otherSHA, "")).dir
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	// What a git that was killed leaves in a mirror that is sound.
	leftovers := []string{
		"packed-refs.lock", "packed-refs.new", "HEAD.lock", "config.lock", "shallow.lock", "refs/heads/main.lock", "refs/narwhal/" + sha + ".lock",
		"objects/pack/tmp_pack_abc", "objects/pack/tmp_idx_abc", "objects/pack/pack-123.keep", "objects/info/commit-graph.lock",
	}
	for _, name := range leftovers {
		write(t, filepath.Join(dir, name), "left", 0o444)
	}
	// What a crash leaves of mirrors that were being made, or lost a part.
	write(t, filepath.Join(cfg.Dir, ".new-123", "narwhal.json"), `{"repo":"x"}`, 0o644)
	write(t, filepath.Join(cfg.Dir, "h-x.git", "HEAD"), "ref: refs/heads/main\n", 0o644)
	write(t, filepath.Join(cfg.Dir, "h-y.git", "narwhal.json"), "{", 0o644)
	if err := os.Remove(filepath.Join(broken, "HEAD")); err != nil {
		t.Fatal(err)
	}

	if s, err = Open(cfg, log); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, name := range []string{".new-123", "h-x.git", "h-y.git", filepath.Base(broken)} {
		if exists(filepath.Join(cfg.Dir, name)) {
			t.Errorf("%s was kept", name)
		}
	}
	if got := s.Have(); !slices.Equal(got, []string{"acme/api"}) {
		t.Errorf("Have gives %v", got)
	}
	next := o.commit("refs/heads/main", files{"a": "2"})
	ensure(t, s, o.at(next, "refs/heads/main"))
	ensure(t, s, other.at(otherSHA, "refs/heads/main"))
	for _, name := range leftovers {
		if exists(filepath.Join(dir, name)) {
			t.Errorf("%s was kept", name)
		}
	}
	if got := gitIn(t, dir, nil, "--git-dir="+dir, "rev-parse", "refs/heads/tmp_branch"); got != sha {
		t.Errorf("branch tmp_branch is at %q", got)
	}
}

// A mirror that someone deletes under a running node is made again.
func TestMirrorIsDeleted(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	sha := o.commit("refs/heads/main", files{"a": "1"})
	s := open(t)
	c := o.at(sha, "refs/heads/main")
	ensure(t, s, c)
	if err := os.RemoveAll(mirrorOf(t, s, c).dir); err != nil {
		t.Fatal(err)
	}
	ensure(t, s, c)
	if data, err := s.ReadFile(context.Background(), c, "a"); err != nil || string(data) != "1" {
		t.Errorf("got %q, %v", data, err)
	}
}

func TestReadFile(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	sub := strings.Repeat("cd", 20)
	sha := o.commit("refs/heads/main", files{
		"narwhal.yml": "jobs: []\n", "empty": "", "dir/with space.yml": "spaced", "dir/missing": "its name is a word", "ümlaut": "ü",
		"link": "-> dir/with space.yml", "chain": "-> link", "dir/up": "-> ../narwhal.yml", "loop": "-> loop", "dangling": "-> nothing",
		"absolute": "-> /etc/passwd", "out": "-> ../../../../../../../etc/passwd", "dirlink": "-> dir", "folder": "-> /etc",
		"huge": strings.Repeat("\x00", maxObject+1), "sub": "=> " + sub,
		"newline": "a\nb\n", "binary": "\x00\xff\n\x00",
	})
	s := open(t)
	c := o.at(sha, "refs/heads/main")
	ensure(t, s, c)
	for path, want := range map[string]string{
		"narwhal.yml": "jobs: []\n", "empty": "", "dir/with space.yml": "spaced", "dir/missing": "its name is a word", "ümlaut": "ü",
		"link": "spaced", "chain": "spaced", "dir/up": "jobs: []\n", "dirlink/missing": "its name is a word",
		"newline": "a\nb\n", "binary": "\x00\xff\n\x00",
	} {
		got, err := s.ReadFile(context.Background(), c, path)
		if err != nil || string(got) != want {
			t.Errorf("%s: got %d bytes, %v; want %d bytes", path, len(got), err, len(want))
		}
	}
	for _, path := range []string{
		"nothing", "dir/nothing", "nothing/x", "narwhal.yml/x", "dir", "dirlink", "loop", "dangling", "absolute", "out", "folder/passwd",
		"sub", "sub/x", "NARWHAL.yml", "narwhal.yml missing", "--help", ":(top)narwhal.yml",
	} {
		if got, err := s.ReadFile(context.Background(), c, path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: want fs.ErrNotExist, got %q, %v", path, got, err)
		}
	}
	if _, err := s.ReadFile(context.Background(), c, "huge"); !errors.Is(err, errTooBig) {
		t.Errorf("huge: want it refused, got %v", err)
	}
	if got, err := s.ReadFile(context.Background(), c, "narwhal.yml"); err != nil || string(got) != "jobs: []\n" {
		t.Errorf("after a refusal: %q, %v", got, err)
	}

	// The process that answers died meanwhile: another one does.
	m := mirrorOf(t, s, c)
	killGroup(m.reader.cmd.Process.Pid)
	if got, err := s.ReadFile(context.Background(), c, "narwhal.yml"); err != nil || string(got) != "jobs: []\n" {
		t.Errorf("after its reader died: %q, %v", got, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.ReadFile(ctx, c, "narwhal.yml"); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}

	absent := o.at(strings.Repeat("ab", 20), "refs/heads/main")
	if _, err := s.ReadFile(context.Background(), absent, "narwhal.yml"); !errors.Is(err, ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a commit that is not here: want ErrNotFound alone, got %v", err)
	}
}

// Readers are processes: there are never more of them than maxReaders, and an
// idle one goes.
func TestReadersAreBounded(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	sha := o.commit("refs/heads/main", files{"a": "1"})
	s := open(t)
	c := o.at(sha, "refs/heads/main")
	ensure(t, s, c)
	first := mirrorOf(t, s, c)
	for i := range maxReaders + 3 {
		m := &mirror{label: first.label, dir: first.dir, git: s.git, pool: s.pool, log: s.log, slot: make(chan struct{}, 1)}
		s.mirrors[string(rune('a'+i))] = m // so that Close ends its reader
		if ok, err := m.has(context.Background(), sha); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	running := func() (n int) {
		for _, m := range s.mirrors {
			m.readMu.Lock()
			if m.reader != nil {
				n++
			}
			m.readMu.Unlock()
		}
		return n
	}
	if n := running(); n != maxReaders {
		t.Errorf("%d readers run, want %d", n, maxReaders)
	}
	if first.reader != nil {
		t.Error("the one that was used longest ago was kept")
	}
	if ok, err := first.has(context.Background(), sha); !ok || err != nil {
		t.Errorf("a mirror without a reader: %v, %v", ok, err)
	}
	first.readMu.Lock()
	first.idleAfter(time.Nanosecond)
	first.readMu.Unlock()
	until(t, "the idle reader ends", func() bool {
		first.readMu.Lock()
		defer first.readMu.Unlock()
		return first.reader == nil
	})
}
