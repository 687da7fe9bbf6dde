package checkout

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/codepr/narwhal/pipeline"
)

// aged gives mirrors of two repositories, as another process finds them that starts
// hours after their last uses: that of a was the earlier one. between is called
// with their folders while no process has them. Not for parallel tests: for a
// moment a git that is being started has the lock of the directory too.
func aged(t *testing.T, between func(dirs []string)) (s *Mirrors, a, b *origin, dir string) {
	t.Helper()
	a, b = newOrigin(t), originAt(t, t.TempDir(), "acme/other.git", "sha1")
	cfg := Config{Dir: t.TempDir(), Protocols: []string{"file"}}
	log := slog.New(slog.DiscardHandler)
	s, err := Open(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for _, o := range []*origin{a, b} {
		sha := o.commit("refs/heads/main", files{"f": o.name})
		ensure(t, s, o.at(sha, "refs/heads/main"))
		dirs = append(dirs, mirrorOf(t, s, o.at(sha, "")).dir)
	}
	if got := s.Idle(nil); len(got) != 0 {
		t.Errorf("mirrors that were used just now may go: %+v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for i, d := range dirs {
		then := time.Now().Add(time.Duration(i-4) * time.Hour)
		if err := os.Chtimes(filepath.Join(d, labelFile), then, then); err != nil {
			t.Fatal(err)
		}
	}
	if between != nil {
		between(dirs)
	}
	return open(t, func(c *Config) { c.Dir = cfg.Dir }), a, b, cfg.Dir
}

func TestEvictLeastRecentlyUsedFirst(t *testing.T) {
	s, a, _, dir := aged(t, nil)
	idle := s.Idle(nil)
	if len(idle) != 2 || idle[0].Repo != "acme/api" || idle[0].Bytes < 100 || time.Since(idle[0].Used) < 3*time.Hour {
		t.Fatalf("idle: %+v", idle)
	}
	if freed, err := s.Evict(0, nil); freed != 0 || err != nil {
		t.Errorf("asked for nothing it freed %d, %v", freed, err)
	}
	if freed, err := s.Evict(1, nil); freed != idle[0].Bytes || err != nil {
		t.Errorf("freed %d, %v", freed, err)
	}
	if got := s.Have(); !slices.Equal(got, []string{"acme/other"}) {
		t.Errorf("Have gives %v", got)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".new-*")); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	// It is made again when it is wanted, with what it had and what is new.
	sha := a.git("rev-parse", "refs/heads/main")
	ws := work(t, s, a.at(sha, "refs/heads/main"), pipeline.Clone{})
	if got := read(t, filepath.Join(ws, "f")); got != a.name {
		t.Errorf("the file says %q", got)
	}
	if freed, err := s.Evict(1<<40, nil); freed != idle[1].Bytes || err != nil {
		t.Errorf("freed %d, %v: the first one is in use again", freed, err)
	}
	if got := s.Have(); !slices.Equal(got, []string{"acme/api"}) {
		t.Errorf("Have gives %v", got)
	}
}

// TestEvictSparesWhatIsUsed: a mirror stays that a workspace borrows from, that is
// fetched into, or that has been used since it was found idle.
func TestEvictSparesWhatIsUsed(t *testing.T) {
	s, a, b, _ := aged(t, nil)
	var first, second *mirror
	for _, m := range s.mirrors {
		if m.Repo == "acme/api" {
			first = m
		} else {
			second = m
		}
	}
	second.slot <- struct{}{}
	if freed, err := s.Evict(1<<40, []string{first.objects()}); freed != 0 || err != nil {
		t.Errorf("freed %d, %v", freed, err)
	}
	<-second.slot
	if got := s.Idle(nil); len(got) != 2 {
		t.Fatalf("idle: %+v", got)
	}
	found := s.idle(nil)
	for _, o := range []*origin{a, b} { // both are wanted before they go
		ensure(t, s, o.at(o.git("rev-parse", "refs/heads/main"), "refs/heads/main"))
	}
	for _, i := range found {
		if gone, err := s.moveAway(i.mirror, nil); gone != "" || err != nil {
			t.Errorf("%s went to %q, %v", i.Repo, gone, err)
		}
	}
}

// TestEvictWhileOthersWantIt takes a mirror away again and again from callers, each
// of which must get its commit all the same.
func TestEvictWhileOthersWantIt(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	c := o.at(o.commit("refs/heads/main", files{"f": "1"}), "refs/heads/main")
	s := open(t)
	ensure(t, s, c)
	m := mirrorOf(t, s, c)
	long := time.Now().Add(-2 * keptFor)
	for range 20 {
		s.mu.Lock()
		m.used = long
		err := os.Chtimes(filepath.Join(m.dir, labelFile), long, long)
		s.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		wait := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			<-wait
			err := s.Ensure(context.Background(), c)
			if err == nil {
				_, err = s.ReadFile(context.Background(), c, "f")
			}
			done <- err
		})
		close(wait)
		if _, err := s.Evict(1, nil); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if err := <-done; err != nil {
			t.Fatalf("while it was evicted: %v", err)
		}
	}
}

func TestOpenClearsKilledFetches(t *testing.T) {
	var left string
	aged(t, func(dirs []string) {
		left = filepath.Join(dirs[0], "objects", "pack", "tmp_pack_abc")
		write(t, left, "half of it", 0o444)
	})
	if exists(left) {
		t.Error("a half-fetched pack is kept until the repository is fetched again")
	}
}
