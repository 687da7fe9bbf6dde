package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"
)

// A snapshot that a version before secrets, caches and schedules wrote is read,
// and what it holds goes on from there.
func TestOldSnapshotIsRead(t *testing.T) {
	data, err := os.ReadFile("testdata/v1.snapshot")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Restore(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, state: s, at: s.Now(), index: s.Index()}
	got := w.show() + w.block("resume n2\nfinish 2.1 passed\nassign 2.2 n2 start=2\nassign 3.1 n2 start=2\nassign 5.0 n1\n"+
		"secret - A x\nfinish 5.0 passed jobs=a;manual cron=x\napprove 5.1\nsnapshot\nschedules")
	const path = "testdata/v1.golden"
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		t.Errorf("%v; it differs from %s (-rewrite accepts it):\n%s", err, path, got)
	}
}

// A snapshot of a newer version is refused, and so is none.
func TestNewerSnapshotIsRefused(t *testing.T) {
	for _, version := range []uint{0, snapshotVersion + 1} {
		data, err := encMode.Marshal(head{Version: version})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Restore(bytes.NewReader(data)); !errors.Is(err, ErrUpgrade) {
			t.Errorf("version %d: %v", version, err)
		}
	}
}

// Caches are bounded, by repository and in all; the least recently used go.
func TestCachesAreBounded(t *testing.T) {
	w := &world{t: t, state: New(), at: New().Now().AddDate(2026, 0, 0)}
	save := func(repo string, n int) {
		e := CacheEntry{Repo: repo, Scope: "repo", Key: key(n), Blob: Blob{Digest: "d"}}
		w.at = w.at.Add(1)
		w.state, _ = Apply(w.state, w.state.Index()+1, []Command{{At: w.at, SaveCache: &SaveCache{Entry: e}}})
	}
	for n := range maxRepoCaches {
		save("a", n)
	}
	w.at = w.at.Add(1)
	w.state, _ = Apply(w.state, w.state.Index()+1, []Command{{At: w.at, UseCache: &UseCache{Repo: "a", Scope: "repo", Key: key(0)}}})
	save("a", maxRepoCaches)
	has := func(repo string, n int, want bool) {
		t.Helper()
		if _, ok := w.state.Cache(repo, []string{"repo"}, key(n), nil); ok != want {
			t.Errorf("%s has cache %d: %v", repo, n, ok)
		}
	}
	has("a", 0, true)
	has("a", 1, false)
	has("a", maxRepoCaches, true)
	for r := range maxCaches / maxRepoCaches {
		for n := range maxRepoCaches {
			save("b"+key(r), n)
		}
	}
	has("a", 0, false)
	if err := w.state.Verify(); err != nil {
		t.Error(err)
	}
	if n := w.state.caches.Len(); n != maxCaches {
		t.Errorf("%d caches are kept", n)
	}
}

func key(n int) string { return fmt.Sprintf("k%05d", n) }
