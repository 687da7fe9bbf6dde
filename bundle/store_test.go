package bundle_test

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

	"github.com/codepr/narwhal/bundle"
	"github.com/codepr/narwhal/fsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, cfg bundle.Config) *bundle.Store {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	s, err := bundle.Open(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func digestOf(data string) string {
	sum := sha256.Sum256([]byte(data))
	return hex.EncodeToString(sum[:])
}

func put(t *testing.T, s *bundle.Store, data string) string {
	t.Helper()
	digest, size, err := s.Put(context.Background(), strings.NewReader(data), 1<<20)
	if err != nil || size != int64(len(data)) || digest != digestOf(data) {
		t.Fatalf("put gave %s, %d, %v; want %s, %d", digest, size, err, digestOf(data), len(data))
	}
	return digest
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
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

func TestPutOpenPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	s := open(t, bundle.Config{Dir: dir})
	digest := put(t, s, "hello")
	put(t, s, "hello") // again
	put(t, s, "")
	r, size, err := s.Open(digest)
	if err != nil || size != 5 {
		t.Fatalf("open: %d bytes, %v", size, err)
	}
	data, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil || string(data) != "hello" {
		t.Errorf("read %q, %v", data, err)
	}
	path, err := s.Path(context.Background(), digest, nil)
	if err != nil || read(t, path) != "hello" {
		t.Errorf("path: %s, %v", path, err)
	}
	for _, bad := range []string{digestOf("other"), "", "../../etc/passwd", strings.ToUpper(digest), digest + "\n", digest[:63]} {
		if _, _, err := s.Open(bad); !errors.Is(err, bundle.ErrNotFound) {
			t.Errorf("open %q: want ErrNotFound, got %v", bad, err)
		}
		if _, err := s.Path(context.Background(), bad, []fsm.NodeID{"n1"}); !errors.Is(err, bundle.ErrNotFound) {
			t.Errorf("path of %q: want ErrNotFound, got %v", bad, err)
		}
	}
	if got := names(t, dir); len(got) != 2 {
		t.Errorf("the folder holds %v", got)
	}
}

// broken gives some bytes, then an error.
type broken struct{ io.Reader }

func (b broken) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = errors.New("the line went dead")
	}
	return n, err
}

func TestPutThatFails(t *testing.T) {
	dir := t.TempDir()
	s := open(t, bundle.Config{Dir: dir})
	if _, _, err := s.Put(context.Background(), strings.NewReader("123456"), 5); !errors.Is(err, bundle.ErrTooLarge) {
		t.Errorf("one byte over the limit: want ErrTooLarge, got %v", err)
	}
	if _, _, err := s.Put(context.Background(), broken{strings.NewReader("123")}, 5); err == nil || !strings.Contains(err.Error(), "line went dead") {
		t.Errorf("a broken reader: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := s.Put(ctx, strings.NewReader("123"), 5); !errors.Is(err, context.Canceled) {
		t.Errorf("want canceled, got %v", err)
	}
	if got := names(t, dir); len(got) > 0 {
		t.Errorf("%v is left", got)
	}
	if _, _, err := s.Put(context.Background(), strings.NewReader("12345"), 5); err != nil {
		t.Errorf("just the limit: %v", err)
	}
}

func TestOpenThrowsLeftoversAway(t *testing.T) {
	dir := t.TempDir()
	digest := put(t, open(t, bundle.Config{Dir: dir}), "kept")
	if err := os.WriteFile(filepath.Join(dir, "new-123"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, bundle.Config{Dir: dir})
	if got := names(t, dir); !slices.Equal(got, []string{digest + ".bundle"}) {
		t.Errorf("the folder holds %v", got)
	}
	if _, err := s.Path(context.Background(), digest, nil); err != nil {
		t.Error(err)
	}
}

// holders are nodes by what they answer.
type holders map[fsm.NodeID]func() (io.ReadCloser, error)

func (h holders) fetch(_ context.Context, node fsm.NodeID, _ string) (io.ReadCloser, error) {
	return h[node]()
}

func gives(data string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(data)), nil }
}

func TestNextHolderIsTried(t *testing.T) {
	dir := t.TempDir()
	s := open(t, bundle.Config{Dir: dir, Limit: 20, Fetch: holders{
		"down":   func() (io.ReadCloser, error) { return nil, errors.New("it is down") },
		"breaks": func() (io.ReadCloser, error) { return io.NopCloser(broken{strings.NewReader("right")}), nil },
		"lies":   gives("another, whole"), "floods": gives(strings.Repeat("x", 21)), "holds": gives("right"),
	}.fetch})
	// What the liar gives is here already, under its own name: that one stays.
	other := put(t, s, "another, whole")
	path, err := s.Path(context.Background(), digestOf("right"), []fsm.NodeID{"down", "breaks", "lies", "floods", "holds"})
	if err != nil || read(t, path) != "right" {
		t.Fatalf("%s, %v", path, err)
	}
	if got := names(t, dir); len(got) != 2 {
		t.Errorf("the folder holds %v", got)
	}
	if path, err := s.Path(context.Background(), other, nil); err != nil || read(t, path) != "another, whole" {
		t.Errorf("a liar took a bundle from the store: %v", err)
	}

	_, err = s.Path(context.Background(), digestOf("nobody's"), []fsm.NodeID{"down", "lies", "floods"})
	if err == nil || !errors.Is(err, bundle.ErrTooLarge) {
		t.Errorf("want every holder's error, got %v", err)
	}
	for _, want := range []string{"node down: it is down", "node lies: its bytes"} {
		if err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v doesn't say %q", err, want)
		}
	}
}

func TestManyShareATransfer(t *testing.T) {
	const callers = 10
	var transfers atomic.Int64
	release := make(chan struct{})
	s := open(t, bundle.Config{Fetch: func(context.Context, fsm.NodeID, string) (io.ReadCloser, error) {
		transfers.Add(1)
		<-release
		return io.NopCloser(strings.NewReader("data")), nil
	}})
	var wg sync.WaitGroup
	started := make(chan struct{}, callers)
	for range callers {
		wg.Go(func() {
			started <- struct{}{}
			if path, err := s.Path(context.Background(), digestOf("data"), []fsm.NodeID{"n"}); err != nil || filepath.Base(path) != digestOf("data")+".bundle" {
				t.Errorf("%s, %v", path, err)
			}
		})
	}
	for range callers {
		<-started
	}
	close(release) // whoever comes later finds it here
	wg.Wait()
	if n := transfers.Load(); n != 1 {
		t.Errorf("%d transfers, want 1", n)
	}
}

// The caller whose transfer others wait for gives up: one of them goes on.
func TestCanceledCaller(t *testing.T) {
	arrived := make(chan struct{}, 2)
	var first atomic.Bool
	s := open(t, bundle.Config{Fetch: func(ctx context.Context, _ fsm.NodeID, _ string) (io.ReadCloser, error) {
		if first.CompareAndSwap(false, true) {
			arrived <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return io.NopCloser(strings.NewReader("data")), nil
	}})
	ctx, cancel := context.WithDeadline(context.Background(), time.Now().Add(time.Hour))
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := s.Path(ctx, digestOf("data"), []fsm.NodeID{"a", "b"}); !errors.Is(err, context.Canceled) {
			t.Errorf("want canceled, got %v", err)
		}
	})
	<-arrived
	wg.Go(func() {
		if _, err := s.Path(context.Background(), digestOf("data"), []fsm.NodeID{"a", "b"}); err != nil {
			t.Errorf("the other caller: %v", err)
		}
	})
	cancel()
	wg.Wait()
}

func TestEviction(t *testing.T) {
	dir := t.TempDir()
	s := open(t, bundle.Config{Dir: dir, Budget: 30})
	age := func(digest string, by time.Duration) {
		then := time.Now().Add(-by)
		if err := os.Chtimes(filepath.Join(dir, digest+".bundle"), then, then); err != nil {
			t.Fatal(err)
		}
	}
	var digests []string
	for i := range 5 {
		digests = append(digests, put(t, s, fmt.Sprintf("%010d", i)))
	}
	if got := names(t, dir); len(got) != 5 {
		t.Errorf("what was used within the hour was evicted: %v are left", got)
	}
	age(digests[0], 3*time.Hour)
	age(digests[1], 5*time.Hour)
	age(digests[2], 4*time.Hour)
	age(digests[3], 2*time.Hour)
	age(digests[4], 50*time.Minute)
	if r, _, err := s.Open(digests[1]); err != nil { // a use makes it young
		t.Fatal(err)
	} else {
		r.Close()
	}
	if _, err := s.Path(context.Background(), digests[2], nil); err != nil {
		t.Fatal(err)
	}
	last := put(t, s, "0000000009") // 60 bytes: two are old enough to go, and one more would not do
	want := []string{digests[1], digests[2], digests[4], last}
	var got []string
	for _, name := range names(t, dir) {
		got = append(got, strings.TrimSuffix(name, ".bundle"))
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("left are %v, want %v", got, want)
	}

	small := open(t, bundle.Config{Dir: dir, Budget: 1})
	if path, err := small.Path(context.Background(), put(t, small, "larger than the budget"), nil); err != nil {
		t.Errorf("what was just put is gone: %s, %v", path, err)
	}
}

func FuzzReadHeader(f *testing.F) {
	sha, long := strings.Repeat("ab", 20), strings.Repeat("cd", 32)
	for _, seed := range []string{
		"", "# v2 git bundle\n", "# v2 git bundle\n\nPACK", "# v4 git bundle\n\nPACK", "# v2 git bundle\n" + sha + " refs/heads/main\n\nPACKdata",
		"# v2 git bundle\n-" + sha + " comment\n-" + sha + "\n" + sha + " HEAD\n\nPACK", "# v3 git bundle\n@object-format=sha256\n" + long + " HEAD\n\nPACK",
		"# v3 git bundle\n@filter=blob:none\n\nPACK", "# v2 git bundle\n" + sha + "\n\nPACK", "# v2 git bundle\n" + long + " HEAD\n\nPACK",
		"# v2 git bundle\n--upload-pack=x HEAD\n\nPACK", "# v2 git bundle\n" + strings.Repeat("a", 5000) + "\n\nPACK", "# v2 git bundle\n\nPAC",
		"# v3 git bundle\n" + sha + " HEAD\n@object-format=sha256\n\nPACK",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h, rest, err := bundle.ReadHeader(bytes.NewReader(data))
		if err != nil {
			if !errors.Is(err, bundle.ErrNotBundle) {
				t.Errorf("want ErrNotBundle, got %v", err)
			}
			return
		}
		length := map[string]int{"sha1": 40, "sha256": 64}[h.Hash]
		for name, oid := range h.Refs {
			if name == "" || len(oid) != length || strings.Trim(oid, "0123456789abcdef") != "" {
				t.Errorf("%s ref %q at %q", h.Hash, name, oid)
			}
		}
		for _, oid := range h.Needs {
			if len(oid) != length || strings.Trim(oid, "0123456789abcdef") != "" {
				t.Errorf("%s commit %q is needed", h.Hash, oid)
			}
		}
		pack, err := io.ReadAll(rest)
		if err != nil || !bytes.HasPrefix(pack, []byte("PACK")) || !bytes.HasSuffix(data, pack) ||
			!bytes.HasSuffix(data[:len(data)-len(pack)], []byte("\n\n")) {
			t.Errorf("the pack begins with %.8q (%v)", pack, err)
		}
	})
}

func TestHeaderWithoutEnd(t *testing.T) {
	line := strings.Repeat("ab", 20) + " refs/heads/main\n"
	if _, _, err := bundle.ReadHeader(strings.NewReader("# v2 git bundle\n" + strings.Repeat(line, 20_000) + "\nPACK")); !errors.Is(err, bundle.ErrNotBundle) {
		t.Errorf("want ErrNotBundle, got %v", err)
	}
}
