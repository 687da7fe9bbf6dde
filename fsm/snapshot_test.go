package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"
)

// A snapshot that a version before secrets, caches and schedules wrote is read,
// and what it holds goes on from there.
func TestSnapshotOfVersion1IsRead(t *testing.T) {
	goOn(t, "v1", "resume n2\nfinish 2.1 passed\nassign 2.2 n2 start=2\nassign 3.1 n2 start=2\nassign 5.0 n1\n"+
		"secret - A x\nfinish 5.0 passed jobs=a;manual cron=x\napprove 5.1\nsnapshot\nschedules")
}

// One of before timelines has them from there on, and an audit log.
func TestSnapshotOfVersion2IsRead(t *testing.T) {
	goOn(t, "v2", "resume n2\nfinish 1.1 passed\nassign 1.2 n2\nassign 3.1 n2\nassign 4.0 n1\nreject 1.3\n"+
		"finish 4.0 passed jobs=a\nsnapshot\ntimeline 1\ntimeline 2\ntimeline 4\naudit")
}

// One of before remotes begins to know them from there on.
func TestSnapshotOfVersion3IsRead(t *testing.T) {
	goOn(t, "v3", "push acme/old dddd branch=dev\nraise\nheads\npush acme/web eeee branch=dev\npush acme/api ffff branch=next\nresume n1\nfinish 1.1 passed\napprove 1.2\n"+
		"see acme/api +old=1111 done=1\nsnapshot\nheads\nschedules\ntimeline 1\naudit")
}

// A snapshot of before is written as it was until the state's version is raised: a node of
// before may be given it.
func TestSnapshotIsWrittenAsBefore(t *testing.T) {
	data, err := os.ReadFile("testdata/v3.snapshot")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Restore(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if _, err := s.WriteTo(&again); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Bytes(), data) {
		t.Errorf("it is written as %d other bytes, of %d", again.Len(), len(data))
	}
}

// goOn restores a version's snapshot, and runs a script from there.
func goOn(t *testing.T, version, script string) {
	data, err := os.ReadFile("testdata/" + version + ".snapshot")
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
	got := w.show() + w.block(script)
	path := "testdata/" + version + ".golden"
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
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	tx := begin(New(), 1)
	for i := range maxCaches { // in ten repositories, the oldest first
		tx.advance(began.Add(time.Duration(i)))
		repo := fmt.Sprint("r", i/maxRepoCaches)
		tx.putCache(&CacheEntry{Repo: repo, Scope: "repo", Key: key(i), Blob: Blob{Digest: "d"}, SavedAt: tx.now, UsedAt: tx.now})
	}
	s := tx.commit()
	do := func(c Command) {
		c.At = s.Now().Add(1)
		s, _ = Apply(s, s.Index()+1, 1, []Command{c})
		if err := s.Verify(); err != nil {
			t.Fatal(err)
		}
	}
	save := func(repo string, n int) {
		do(Command{SaveCache: &SaveCache{Entry: CacheEntry{Repo: repo, Scope: "repo", Key: key(n), Blob: Blob{Digest: "d"}}}})
	}
	has := func(repo string, n int, want bool) {
		t.Helper()
		if _, ok := s.Cache(repo, []string{"repo"}, key(n), nil); ok != want {
			t.Errorf("%s has cache %d: %v", repo, n, ok)
		}
	}
	do(Command{UseCache: &UseCache{Repo: "r0", Scope: "repo", Key: key(0)}})
	save("r1", maxCaches) // its own oldest goes, and nobody else's
	has("r1", maxRepoCaches, false)
	has("r1", maxCaches, true)
	has("r0", 1, true)
	save("other", maxCaches) // the oldest of all goes
	has("r0", 0, true)
	has("r0", 1, false)
	has("other", maxCaches, true)
	if n := s.caches.Len(); n != maxCaches {
		t.Errorf("%d caches are kept", n)
	}
}

func key(n int) string { return fmt.Sprintf("k%05d", n) }
