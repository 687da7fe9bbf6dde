package bucket

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/s3"
)

func cacheOf(keyName, digest string, size int64, holders ...fsm.NodeID) fsm.Command {
	return fsm.Command{SaveCache: &fsm.SaveCache{Entry: fsm.CacheEntry{Repo: "r", Scope: "repo", Key: keyName, Blob: fsm.Blob{Digest: digest, Size: size, Holders: holders}}}}
}

func apply(t *testing.T, s *fsm.State, at time.Time, commands ...fsm.Command) *fsm.State {
	t.Helper()
	for i := range commands {
		commands[i].At = at
	}
	s, results := fsm.Apply(s, s.Index()+1, 1, commands)
	for _, r := range results {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	return s
}

// TestSweep has what the state names stay, and what it doesn't go once it is old; and
// caches above their size be dropped first.
func TestSweep(t *testing.T) {
	store := newS3(t, "builds")
	b := claimed(t, Config{URL: store.URL}, "c1")
	now := time.Now()
	state := fsm.New()
	name := func(text string) string { return digestOf([]byte(text)) }
	for _, text := range []string{"named", "least used", "elsewhere", "young", "old"} {
		put(t, b, fsm.BlobArchive, []byte(text))
	}
	put(t, b, fsm.BlobLog, []byte("old log"))
	// The order of use is that of the commands.
	state = apply(t, state, now.Add(-3*time.Hour), cacheOf("k1", name("least used"), 60, b.Holder()))
	state = apply(t, state, now.Add(-2*time.Hour), cacheOf("k2", name("named"), 60, "n1", b.Holder()))
	state = apply(t, state, now.Add(-4*time.Hour), cacheOf("k3", name("elsewhere"), 1000, "n1"))
	store.Set(func(s *s3.State) {
		for k, o := range s.Have {
			if k != key(fsm.BlobArchive, name("young")) {
				o.At = now.Add(-48 * time.Hour)
				s.Have[k] = o
			}
		}
		s.Have[blobPrefix+"something else"] = s3.Object{At: now.Add(-1000 * time.Hour)}
	})
	sweeper := NewSweeper(SweepConfig{
		Bucket: b, State: func() *fsm.State { return state }, KeepLogs: 24 * time.Hour, Caches: 100, Log: slog.New(slog.DiscardHandler),
		Propose: func(_ context.Context, commands []fsm.Command) error {
			state = apply(t, state, now, commands...)
			return nil
		},
	})
	if err := sweeper.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		key(fsm.BlobArchive, name("named")), key(fsm.BlobArchive, name("elsewhere")), key(fsm.BlobArchive, name("young")), blobPrefix + "something else",
	}
	slices.Sort(want)
	if got := keys(t, b); !slices.Equal(got, want) {
		t.Errorf("left are %v, want %v", got, want)
	}
	if _, ok := state.Cache("r", []string{"repo"}, "k1", nil); ok {
		t.Error("the cache that was used least is still known")
	}
	if _, ok := state.Cache("r", []string{"repo"}, "k2", nil); !ok {
		t.Error("a cache that there was room for is gone")
	}
}

// TestNeeds has logs go by their age, archives by what their jobs said.
func TestNeeds(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	log, expired, lasting, shared := digestOf([]byte("log")), digestOf([]byte("expired")), digestOf([]byte("lasting")), digestOf([]byte("shared"))
	n := Needs{now, 30 * 24 * time.Hour, map[string]bool{
		key(fsm.BlobLog, log): true, key(fsm.BlobArchive, expired): false, key(fsm.BlobArchive, lasting): true, key(fsm.BlobArchive, shared): true,
	}}
	for _, c := range []struct {
		kind   fsm.BlobKind
		digest string
		age    time.Duration
		goes   bool
	}{
		{fsm.BlobLog, log, 29 * 24 * time.Hour, false},
		{fsm.BlobLog, log, 31 * 24 * time.Hour, true},
		{fsm.BlobArchive, expired, time.Hour, false}, // another job may just have put the same there
		{fsm.BlobArchive, expired, 25 * time.Hour, true},
		{fsm.BlobArchive, lasting, 1000 * 24 * time.Hour, false},
		{fsm.BlobArchive, log, time.Hour, false}, // not known as that, and young
		{fsm.BlobArchive, log, 25 * time.Hour, true},
	} {
		o := Object{Key: key(c.kind, c.digest), Kind: c.kind, Digest: c.digest, PutAt: now.Add(-c.age)}
		if got := n.spare(o); got != c.goes {
			t.Errorf("%s of %s: goes %v", c.kind, c.age, got)
		}
	}
}
