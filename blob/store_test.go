package blob_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/codepr/narwhal/blob"
	"github.com/codepr/narwhal/fsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, cfg blob.Config) (*blob.Store, string) {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	s, err := blob.Open(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s, cfg.Dir
}

func digestOf(data string) string {
	sum := sha256.Sum256([]byte(data))
	return hex.EncodeToString(sum[:])
}

func put(t *testing.T, s *blob.Store, data string) string {
	t.Helper()
	digest, size, err := s.Put(context.Background(), strings.NewReader(data), 1<<20)
	if err != nil || size != int64(len(data)) || digest != digestOf(data) {
		t.Fatalf("put gave %s, %d, %v", digest, size, err)
	}
	return digest
}

// TestWaiting has a blob that waits stay, whatever the room, and over a restart.
func TestWaiting(t *testing.T) {
	cfg := blob.Config{Budget: 1, Floor: time.Nanosecond}
	s, dir := open(t, cfg)
	waits := put(t, s, "waits")
	if err := s.Wait(waits); err != nil {
		t.Fatal(err)
	}
	goes := put(t, s, "goes")
	cfg.Dir = dir
	for range 2 {
		if _, err := s.Free(1 << 20); err != nil {
			t.Fatal(err)
		}
		if list := s.Waiting(); !s.Has(waits) || s.Has(goes) || len(list) != 1 || list[waits].IsZero() {
			t.Fatalf("waits: %v, there: %v, and the other: %v", list, s.Has(waits), s.Has(goes))
		}
		s, _ = open(t, cfg)
	}
	if err := s.Settle(waits); err != nil {
		t.Fatal(err)
	}
	if s, _ = open(t, cfg); len(s.Waiting()) != 0 {
		t.Errorf("after Settle %v", s.Waiting())
	}
	if _, err := s.Free(1 << 20); err != nil || s.Has(waits) {
		t.Errorf("it is there after it has settled: %v", err)
	}
	if len(names(t, dir)) != 0 {
		t.Errorf("left are %v", names(t, dir))
	}
}

func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func age(t *testing.T, dir, digest string, by time.Duration) {
	t.Helper()
	then := time.Now().Add(-by)
	if err := os.Chtimes(filepath.Join(dir, digest), then, then); err != nil {
		t.Fatal(err)
	}
}

func TestPutAndOpen(t *testing.T) {
	s, dir := open(t, blob.Config{})
	digest := put(t, s, "hello")
	put(t, s, "hello")
	f, size, err := s.Open(digest)
	if err != nil || size != 5 {
		t.Fatal(size, err)
	}
	data, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil || string(data) != "hello" {
		t.Errorf("read %q, %v", data, err)
	}
	if info, err := os.Stat(filepath.Join(dir, digest)); err != nil || info.Mode() != 0o444 {
		t.Errorf("its file is %v, %v", info.Mode(), err)
	}
	for _, bad := range []string{"", "..", "../" + digest, strings.ToUpper(digest), digest + "x", digestOf("other")} {
		_, _, err := s.Open(bad)
		_, err2 := s.Path(context.Background(), fsm.Blob{Digest: bad, Size: 5})
		err3 := s.Verify(context.Background(), bad, -1)
		if !errors.Is(err, blob.ErrNotFound) || !errors.Is(err2, blob.ErrNotFound) || !errors.Is(err3, blob.ErrNotFound) || s.Has(bad) || s.Remove(bad) != nil {
			t.Errorf("%q: %v, %v, %v, %v", bad, err, err2, err3, s.Has(bad))
		}
	}
	list, err := s.List()
	if err != nil || len(list) != 1 || list[0].Digest != digest || list[0].Size != 5 || time.Since(list[0].UsedAt) > time.Hour {
		t.Errorf("list: %+v, %v", list, err)
	}
	if err := s.Remove(digest); err != nil || s.Has(digest) {
		t.Errorf("remove: %v", err)
	}
}

func TestVerify(t *testing.T) {
	s, dir := open(t, blob.Config{})
	for what, spoil := range map[string]func(path string) error{
		"flipped": func(path string) error { return rewrite(path, "abcdefgX") }, "cut": func(path string) error { return rewrite(path, "abc") },
		"longer": func(path string) error { return rewrite(path, "abcdefghi") }, "empty": func(path string) error { return rewrite(path, "") },
	} {
		digest := put(t, s, "abcdefgh")
		if err := s.Verify(context.Background(), digest, 8); err != nil {
			t.Fatal(err)
		}
		if err := spoil(filepath.Join(dir, digest)); err != nil {
			t.Fatal(err)
		}
		err := s.Verify(context.Background(), digest, -1)
		if !errors.Is(err, blob.ErrCorrupt) || !strings.Contains(err.Error(), "was dropped") || s.Has(digest) {
			t.Errorf("%s: want ErrCorrupt and that it is dropped, got %v", what, err)
		}
	}
	digest := put(t, s, "abcdefgh")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Verify(ctx, digest, 8); !errors.Is(err, context.Canceled) || !s.Has(digest) {
		t.Errorf("a check that was given up dropped it: %v", err)
	}
}

func rewrite(path, data string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(data), 0o444)
}

// Another size than the one that is known is seen without reading it.
func TestOtherSizeIsFetchedAnew(t *testing.T) {
	fetched := 0
	s, dir := open(t, blob.Config{Fetch: func(_ context.Context, node fsm.NodeID, digest string) (io.ReadCloser, error) {
		fetched++
		return io.NopCloser(strings.NewReader("abcdefgh")), nil
	}})
	b := fsm.Blob{Digest: put(t, s, "abcdefgh"), Size: 8, Holders: []fsm.NodeID{"a"}}
	for range 2 {
		if err := rewrite(filepath.Join(dir, b.Digest), "abc"); err != nil {
			t.Fatal(err)
		}
		path, err := s.Path(context.Background(), b)
		if err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != "abcdefgh" {
			t.Errorf("got %q, %v", data, err)
		}
	}
	if fetched != 2 {
		t.Errorf("fetched %d times", fetched)
	}
	if err := rewrite(filepath.Join(dir, b.Digest), "abc"); err != nil {
		t.Fatal(err)
	}
	b.Holders = nil
	if _, err := s.Path(context.Background(), b); !errors.Is(err, blob.ErrNotFound) || len(names(t, dir)) > 0 {
		t.Errorf("without a holder: want ErrNotFound, got %v", err)
	}
}

func TestFetch(t *testing.T) {
	var mu sync.Mutex
	var asked []fsm.NodeID
	s, dir := open(t, blob.Config{Limit: 8, Fetch: func(_ context.Context, node fsm.NodeID, digest string) (io.ReadCloser, error) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, node)
		data := map[fsm.NodeID]string{"cut": "abcd", "lies": "abcdefgX", "floods": "abcdefghi", "holds": "abcdefgh"}[node]
		if node == "empty" {
			return nil, blob.ErrNotFound
		}
		if data == "" {
			return nil, errors.New("it is down")
		}
		return io.NopCloser(bytes.NewReader([]byte(data))), nil
	}})
	b := fsm.Blob{Digest: digestOf("abcdefgh"), Size: 8, Holders: []fsm.NodeID{"down", "cut", "lies", "floods"}}
	_, err := s.Path(context.Background(), b)
	for _, want := range []string{"node down: it is down", "node cut: its bytes are not the ones", "(4 bytes)", "node lies: its bytes", "node floods: too large"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v doesn't say %q", err, want)
		}
	}
	if got := names(t, dir); len(got) > 0 {
		t.Errorf("%v is left", got)
	}
	for what, holders := range map[string][]fsm.NodeID{"may come back": {"lies", "down"}, "gone": {"lies", "empty"}} {
		_, err := s.Path(context.Background(), fsm.Blob{Digest: b.Digest, Holders: holders})
		if errors.Is(err, blob.ErrGone) != (what == "gone") {
			t.Errorf("%s: %v", what, err)
		}
	}
	b.Holders = append(b.Holders, "holds", "never asked")
	if _, err := s.Path(context.Background(), b); err != nil || slices.Contains(asked, "never asked") {
		t.Errorf("%v; asked were %v", err, asked)
	}
	if _, err := s.Path(context.Background(), fsm.Blob{Digest: b.Digest}); err != nil {
		t.Error(err)
	}
}

func TestTransferIsShared(t *testing.T) {
	var transfers atomic.Int64
	release := make(chan struct{})
	s, _ := open(t, blob.Config{Fetch: func(context.Context, fsm.NodeID, string) (io.ReadCloser, error) {
		transfers.Add(1)
		<-release
		return io.NopCloser(strings.NewReader("data")), nil
	}})
	var wg sync.WaitGroup
	started := make(chan struct{}, 8)
	for range cap(started) {
		wg.Go(func() {
			started <- struct{}{}
			if _, err := s.Path(context.Background(), fsm.Blob{Digest: digestOf("data"), Size: 4, Holders: []fsm.NodeID{"n"}}); err != nil {
				t.Error(err)
			}
		})
	}
	for range cap(started) {
		<-started
	}
	close(release) // whoever comes later finds it here
	wg.Wait()
	if n := transfers.Load(); n != 1 {
		t.Errorf("%d transfers, want 1", n)
	}
}

func TestEvictionSparesPinnedAndYoung(t *testing.T) {
	s, dir := open(t, blob.Config{Budget: 20})
	var d []string
	for i := range 4 {
		d = append(d, put(t, s, fmt.Sprintf("%010d", i)))
	}
	if len(names(t, dir)) != 4 {
		t.Errorf("young ones went: %v", names(t, dir))
	}
	unpin, again := s.Pin(d[0]), s.Pin(d[0])
	age(t, dir, d[0], 9*time.Hour)
	age(t, dir, d[1], 8*time.Hour)
	age(t, dir, d[2], 7*time.Hour)
	put(t, s, "the fifth!") // 50 bytes
	if s.Has(d[1]) || s.Has(d[2]) || !s.Has(d[0]) || !s.Has(d[3]) {
		t.Errorf("left are %v of %v", names(t, dir), d)
	}
	unpin()
	unpin() // once more is no other's
	put(t, s, "the sixth!")
	if !s.Has(d[0]) {
		t.Error("what is still pinned went")
	}
	again()
	put(t, s, "the 7th...")
	if s.Has(d[0]) {
		t.Error("what isn't pinned any more stayed")
	}
}

func TestFree(t *testing.T) {
	s, dir := open(t, blob.Config{})
	var d []string
	for i := range 4 {
		d = append(d, put(t, s, fmt.Sprintf("%010d", i)))
		age(t, dir, d[i], time.Duration(9-i)*time.Hour)
	}
	if f, _, err := s.Open(d[0]); err != nil { // a use makes it young
		t.Fatal(err)
	} else {
		f.Close()
	}
	if !s.Has(d[1]) { // which is no use
		t.Error("it is not here")
	}
	if freed, err := s.Free(11); err != nil || freed != 20 || s.Has(d[1]) || s.Has(d[2]) || !s.Has(d[3]) {
		t.Errorf("freed %d, %v; left are %v", freed, err, names(t, dir))
	}
	if freed, err := s.Free(1 << 40); err != nil || freed != 10 || !s.Has(d[0]) {
		t.Errorf("freed %d, %v: what was just used stays", freed, err)
	}
}

// TestBudgetHoldsSoon: a busy node must not fill its disk for hours before it begins to
// drop what was used a while ago.
func TestBudgetHoldsSoon(t *testing.T) {
	dir := t.TempDir()
	s, err := blob.Open(blob.Config{Dir: dir, Budget: 20 << 10}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var digests []string
	for i := range 4 {
		digest, _, err := s.Put(t.Context(), bytes.NewReader(bytes.Repeat([]byte{byte(i)}, 9<<10)), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, digest)
		if i < 3 { // the last one but one was used just now
			at := time.Now().Add(time.Duration(i-4) * time.Minute)
			if i == 2 {
				at = time.Now()
			}
			if err := os.Chtimes(filepath.Join(dir, digest), at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, want := range []bool{false, false, true, true} {
		if s.Has(digests[i]) != want {
			t.Errorf("blob %d is there: %v", i, !want)
		}
	}
}

// TestNearestHolder asks holders in the order of Near.
func TestNearestHolder(t *testing.T) {
	var asked []fsm.NodeID
	s, _ := open(t, blob.Config{
		Fetch: func(_ context.Context, node fsm.NodeID, _ string) (io.ReadCloser, error) {
			asked = append(asked, node)
			return nil, blob.ErrNotFound
		},
		Near: func(holders []fsm.NodeID) []fsm.NodeID { return []fsm.NodeID{holders[2], holders[0], holders[1]} },
	})
	b := fsm.Blob{Digest: strings.Repeat("ab", 32), Holders: []fsm.NodeID{"a", "b", "c"}}
	if _, err := s.Path(t.Context(), b); !errors.Is(err, blob.ErrGone) {
		t.Errorf("got %v", err)
	}
	if want := []fsm.NodeID{"c", "a", "b"}; !slices.Equal(asked, want) {
		t.Errorf("asked %v, want %v", asked, want)
	}
}
