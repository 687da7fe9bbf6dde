package inbox

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

func open(t *testing.T, path string, bounds Bounds) *Inbox {
	t.Helper()
	b, err := Open(path, bounds, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func file(t *testing.T) string { return filepath.Join(t.TempDir(), "inbox.db") }

func keep(t *testing.T, b *Inbox, repo, body string) string {
	t.Helper()
	d := Delivery{Path: "/hooks/github", Event: "push", Repo: repo}
	if err := b.Keep(&d, []byte(body)); err != nil {
		t.Fatal(err)
	}
	if !IDPattern.MatchString(d.ID) {
		t.Fatalf("ID %q", d.ID)
	}
	return d.ID
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func list(t *testing.T, b *Inbox, f Filter) (ids []string) {
	t.Helper()
	all, err := b.List(f)
	must(t, err)
	for _, d := range all {
		ids = append(ids, d.ID)
	}
	return ids
}

// TestCrash opens the file again without an orderly end: what waited waits, what was
// settled is.
func TestCrash(t *testing.T) {
	path := file(t)
	b := open(t, path, Bounds{})
	settled := keep(t, b, "acme/api", "first")
	must(t, b.Settle(settled, Outcome{Status: Accepted, Build: 4, Key: "k"}))
	cut := keep(t, b, "acme/api", "second")
	later := keep(t, b, "acme/web", "third")
	data, err := os.ReadFile(path) // as a crash leaves it
	must(t, err)
	copied := file(t)
	must(t, os.WriteFile(copied, data, 0o600))

	if d, _, ok, err := b.Waiting(""); ok || err != nil {
		t.Fatalf("%s is given to two at a time: %v", d.ID, err)
	}
	b = open(t, copied, Bounds{})
	d, body, err := b.Find(settled)
	if err != nil || d.Status != Accepted || d.Build != 4 || string(body) != "first" || d.SettledAt.IsZero() || !d.Verified {
		t.Errorf("%+v %q %v", d, body, err)
	}
	for _, want := range []string{cut, later} {
		d, _, ok, err := b.Waiting("")
		if err != nil || !ok || d.ID != want || d.Status != Waiting {
			t.Fatalf("waiting: %+v, %v, %v; want %s", d, ok, err, want)
		}
	}
	if _, _, ok, err := b.Waiting(""); ok || err != nil {
		t.Errorf("one more waits: %v", err)
	}
	must(t, b.Settle(cut, Outcome{Status: Waiting, Reason: "no leader"}))
	select {
	case <-b.Wakes():
	default:
		t.Error("nobody is told that one waits again")
	}
	if _, _, ok, _ := b.Waiting(cut); ok {
		t.Error("it comes after itself")
	}
	if d, _, ok, _ := b.Waiting(""); !ok || d.ID != cut || d.Reason != "no leader" {
		t.Errorf("waiting: %+v", d)
	}
	must(t, b.Settle(cut, Outcome{Status: Known, Build: 4}))
	must(t, b.Settle(later, Outcome{Status: Ignored, Reason: "ping"}))
	if _, _, ok, _ := b.Waiting(""); ok {
		t.Error("one still waits")
	}
}

func TestBounds(t *testing.T) {
	b := open(t, file(t), Bounds{Count: 4, Bytes: 100, Strangers: 3})
	var ids []string
	for i := range 6 {
		ids = append(ids, keep(t, b, "acme/api", fmt.Sprint("body ", i)))
		must(t, b.Settle(ids[i], Outcome{Status: Accepted}))
	}
	if got := list(t, b, Filter{}); len(got) != 4 || got[0] != ids[5] || got[3] != ids[2] {
		t.Errorf("of %v there are %v", ids, got)
	}
	if _, _, err := b.Find(ids[0]); !errors.Is(err, ErrNotFound) {
		t.Errorf("the first: %v", err)
	}
	big := keep(t, b, "acme/api", string(make([]byte, 90)))
	if got := list(t, b, Filter{}); len(got) != 2 || got[0] != big {
		t.Errorf("beside a large one there are %v", got)
	}
	// A larger one than there is room for is not refused for that: it was not answered yet.
	huge := keep(t, b, "acme/api", string(make([]byte, 101)))
	if got := list(t, b, Filter{}); len(got) != 0 {
		t.Errorf("%v are there, %s among them?", got, huge)
	}
	must(t, b.Settle(huge, Outcome{Status: Accepted}))
	must(t, b.db.View(func(tx *bbolt.Tx) error {
		if n, bytes := counted(tx); n != 0 || bytes != 0 || tx.Bucket(bodies).Stats().KeyN != 0 {
			t.Errorf("%d deliveries and %d bytes are counted, %d bodies are there", n, bytes, tx.Bucket(bodies).Stats().KeyN)
		}
		return nil
	}))
}

// TestStrangers sends so much that is not signed that it would push out all that is.
func TestStrangers(t *testing.T) {
	b := open(t, file(t), Bounds{Count: 5, Strangers: 3})
	signed := keep(t, b, "acme/api", "signed")
	noted := 0
	for range 1000 {
		d := Delivery{Path: "/hooks/github", Repo: "acme/api"}
		must(t, b.Refuse(&d, "the signature does not fit"))
		if d.ID != "" {
			noted++
		}
	}
	if noted < strangersBurst || noted > 500 {
		t.Errorf("%d of 1000 at once were noted", noted)
	}
	all, err := b.List(Filter{Status: Refused})
	must(t, err)
	if len(all) != 3 || all[0].Verified || all[0].Reason != "the signature does not fit" {
		t.Errorf("refused: %+v", all)
	}
	if _, body, err := b.Find(all[0].ID); err != nil || body != nil {
		t.Errorf("a stranger's body is here: %q, %v", body, err)
	}
	if d, body, err := b.Find(signed); err != nil || string(body) != "signed" || d.Status != Waiting {
		t.Errorf("the signed one: %+v %q %v", d, body, err)
	}
}

func TestOldOnesGo(t *testing.T) {
	path := file(t)
	b := open(t, path, Bounds{})
	id := keep(t, b, "acme/api", "x")
	d := Delivery{Path: "/commit"}
	must(t, b.Refuse(&d, "not signed"))
	must(t, b.db.Update(func(tx *bbolt.Tx) error { return b.expire(tx, time.Now().Add(29*24*time.Hour)) }))
	if got := list(t, b, Filter{}); len(got) != 2 {
		t.Fatalf("after 29 days there are %v", got)
	}
	must(t, b.db.Update(func(tx *bbolt.Tx) error { return b.expire(tx, time.Now().Add(31*24*time.Hour)) }))
	if got := list(t, b, Filter{}); len(got) != 0 {
		t.Errorf("after 31 days there are %v", got)
	}
	if d, _, ok, err := b.Waiting(""); ok || err != nil { // nobody comes for it
		t.Errorf("%+v waits, %v", d, err)
	}
	must(t, b.Settle(id, Outcome{Status: Accepted}))
}

func TestReplays(t *testing.T) {
	b := open(t, file(t), Bounds{})
	id := keep(t, b, "acme/api", "x")
	must(t, b.Settle(id, Outcome{Status: Accepted, Build: 3}))
	must(t, b.Replayed(id, Outcome{Status: Known, Build: 3}))
	if d, _, err := b.Find(id); err != nil || d.Status != Accepted || d.Build != 3 || d.Replays != 1 || d.ReplayedAt.IsZero() {
		t.Errorf("%+v %v", d, err)
	}
	must(t, b.Replayed(id, Outcome{Status: Accepted, Build: 9}))
	if d, _, err := b.Find(id); err != nil || d.Build != 9 || d.Replays != 2 {
		t.Errorf("%+v %v", d, err)
	}
}

// TestDamaged cuts the file, and overwrites it: what it held is set aside, and webhooks
// are taken.
func TestDamaged(t *testing.T) {
	for name, harm := range map[string]func([]byte) []byte{
		"cut":         func(data []byte) []byte { return data[:len(data)/2] },
		"overwritten": func(data []byte) []byte { return append(make([]byte, 16<<10), data[16<<10:]...) },
		"none":        func([]byte) []byte { return []byte("not a file of bbolt's at all") },
	} {
		path := file(t)
		b := open(t, path, Bounds{})
		for range 50 {
			keep(t, b, "acme/api", string(make([]byte, 5000)))
		}
		must(t, b.Close())
		data, err := os.ReadFile(path)
		must(t, err)
		must(t, os.WriteFile(path, harm(data), 0o600))
		b = open(t, path, Bounds{})
		keep(t, b, "acme/api", "y")
		if got := list(t, b, Filter{}); len(got) != 1 {
			t.Errorf("%s: there are %d", name, len(got))
		}
		if aside, err := filepath.Glob(path + ".damaged-*"); err != nil || len(aside) != 1 {
			t.Errorf("%s: set aside are %v, %v", name, aside, err)
		}
		must(t, b.Close())
	}
}

func TestTwoProcesses(t *testing.T) {
	path := file(t)
	open(t, path, Bounds{})
	if _, err := Open(path, Bounds{}, slog.New(slog.DiscardHandler)); err == nil {
		t.Fatal("a file that is in use was opened")
	}
	if aside, _ := filepath.Glob(path + ".*"); len(aside) != 0 {
		t.Errorf("a file that is in use was set aside: %v", aside)
	}
}

func TestMany(t *testing.T) {
	b := open(t, file(t), Bounds{})
	var sending sync.WaitGroup
	for range 50 {
		sending.Go(func() {
			d := Delivery{Path: "/hooks/github"}
			if err := errors.Join(b.Keep(&d, []byte("x")), b.Settle(d.ID, Outcome{Status: Accepted})); err != nil {
				t.Error(err)
			}
		})
	}
	sending.Wait()
	if got := list(t, b, Filter{Status: Accepted}); len(got) != 50 {
		t.Errorf("%d of 50 are there", len(got))
	}
}
