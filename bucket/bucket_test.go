package bucket

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/s3"
)

func open(t *testing.T, cfg Config) *Bucket {
	t.Helper()
	cfg.Log = slog.New(slog.DiscardHandler)
	b, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func claimed(t *testing.T, cfg Config, cluster string) *Bucket {
	t.Helper()
	b := open(t, cfg)
	if _, err := b.Claim(t.Context(), cluster); err != nil {
		t.Fatal(err)
	}
	return b
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func put(t *testing.T, b *Bucket, kind fsm.BlobKind, data []byte) string {
	t.Helper()
	digest := digestOf(data)
	if err := b.Put(t.Context(), kind, digest, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	return digest
}

func get(b *Bucket, kind fsm.BlobKind, digest string) ([]byte, error) {
	r, err := b.Get(context.Background(), kind, digest)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	return data, errors.Join(err, r.Close())
}

func keys(t *testing.T, b *Bucket) (keys []string) {
	t.Helper()
	for o, err := range b.List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

// newS3 serves a bucket; its credentials go by the environment.
func newS3(t *testing.T, bucket string) *s3.Server {
	t.Helper()
	for _, v := range s3.Environment() {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	return s3.New(t, bucket)
}

// TestDrivers has the same of every kind of bucket that can be had here.
func TestDrivers(t *testing.T) {
	for name, url := range map[string]func(t *testing.T) string{
		"file": func(t *testing.T) string { return "file://" + t.TempDir() },
		"s3":   func(t *testing.T) string { return newS3(t, "builds").URL },
	} {
		t.Run(name, func(t *testing.T) { suite(t, url(t)) })
	}
}

func suite(t *testing.T, url string) {
	b := claimed(t, Config{URL: url}, "c1")
	again := claimed(t, Config{URL: url}, "c1")
	if b.Holder() != again.Holder() || !b.Holder().IsBucket() || b.Holder() == "bucket:" {
		t.Errorf("one bucket is %s and %s", b.Holder(), again.Holder())
	}
	if _, err := open(t, Config{URL: url}).Claim(t.Context(), "c2"); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "c1") {
		t.Errorf("another cluster's claim: %v", err)
	}
	and := "?"
	if strings.Contains(url, "?") {
		and = "&"
	}
	beside := claimed(t, Config{URL: url + and + "prefix=beside/"}, "c2")

	small, large := []byte("a log"), bytes.Repeat([]byte("0123456789abcdef"), part/8) // in several parts
	a, l, none := put(t, b, fsm.BlobLog, small), put(t, b, fsm.BlobCache, large), put(t, b, fsm.BlobArchive, nil)
	for _, want := range []struct {
		kind   fsm.BlobKind
		digest string
		data   []byte
	}{{fsm.BlobLog, a, small}, {fsm.BlobArchive, l, large}, {fsm.BlobArchive, none, nil}} { // caches are archives
		got, err := get(again, want.kind, want.digest)
		if err != nil || !bytes.Equal(got, want.data) {
			t.Errorf("get of %s %s: %d bytes, %v", want.kind, want.digest, len(got), err)
		}
	}
	if _, err := get(b, fsm.BlobArchive, a); !errors.Is(err, ErrNotFound) || b.Health().Err != nil {
		t.Errorf("get of what is not there: %v, and then %v", err, b.Health().Err)
	}
	if _, err := get(beside, fsm.BlobLog, a); !errors.Is(err, ErrNotFound) {
		t.Errorf("get from another folder: %v", err)
	}
	for range 4 { // more than fit on a page of the list
		put(t, b, fsm.BlobLog, []byte(random(8)))
	}
	found := keys(t, b)
	if len(found) != 7 || len(keys(t, beside)) != 0 {
		t.Errorf("there are %v, beside it %v", found, keys(t, beside))
	}
	object := Object{Key: key(fsm.BlobLog, a)}
	if at, err := b.PutAt(t.Context(), object); err != nil || time.Since(at).Abs() > time.Hour {
		t.Errorf("put at %s, %v", at, err)
	}
	for range 2 {
		if err := b.Delete(t.Context(), object); err != nil {
			t.Error(err)
		}
	}
	if _, err := b.PutAt(t.Context(), object); !errors.Is(err, ErrNotFound) {
		t.Errorf("after its end: %v", err)
	}
	if slices.Contains(keys(t, b), object.Key) {
		t.Error("it is still listed")
	}
}

// TestWrongAddresses are told of before anything is asked.
func TestWrongAddresses(t *testing.T) {
	for url, want := range map[string]string{
		"ftp://x":               `unknown scheme "ftp"`,
		"s3://user:hunter2@b":   "credentials come from the environment",
		"s3://b/folder":         "?prefix=FOLDER/",
		"s3://":                 "want s3://BUCKET",
		"file://relative/path":  "whole path",
		"s3://b?prefix=hunter2": "want a / at its end",
		"s3://b#hunter2":        "means nothing",
		"s3://b?x=hunter2;%zz":  "can't be read",
		":%%hunter2":            "it is no URL",
	} {
		err := Validate(url)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
		if url != "s3://b?prefix=hunter2" && err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error shows what may be secret: %v", url, err)
		}
	}
}

// TestProbe has Open refuse buckets that can't be used, and say what can't be done and
// nothing that is secret.
func TestProbe(t *testing.T) {
	s := newS3(t, "builds")
	url := s.URL
	refused := func(url, want string) {
		t.Helper()
		b, err := Open(t.Context(), Config{URL: url, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			_ = b.Close()
			t.Fatalf("%s was opened", url)
		}
		for _, secret := range []string{s3.Secret, "use_path_style=true", "hunter2"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error shows %s: %v", secret, err)
			}
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q", err, want)
		}
	}
	refused(url+"&hunter=hunter2", "unknown query parameter")
	refused(strings.Replace(url, "//builds", "//other", 1), "write to it")
	s.Set(func(s *s3.State) { s.Lie = []byte("other") })
	refused(url, "read from it: it gives other bytes")
	refused("file://"+filepath.Join(t.TempDir(), "none"), "no such")
}

// TestOutage has a bucket that fails and comes back. Meanwhile nobody waits for it.
func TestOutage(t *testing.T) {
	s := newS3(t, "builds")
	url := s.URL
	b := claimed(t, Config{URL: url, Retry: 10 * time.Millisecond, Patience: 5 * time.Second}, "c1")
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	wg.Go(func() {
		if err := b.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer wg.Wait()
	defer stop()

	data := []byte("kept")
	digest := put(t, b, fsm.BlobLog, data)
	changed := b.Changed()
	s.Set(func(s *s3.State) { s.Refuse = true })
	if _, err := get(b, fsm.BlobLog, digest); err == nil || b.Health().Err == nil {
		t.Fatalf("read from a bucket that is down: %v", err)
	}
	<-changed
	if err := b.Put(t.Context(), fsm.BlobLog, digest, bytes.NewReader(data)); !errors.Is(err, ErrDown) {
		t.Errorf("put into a bucket that is down: %v", err)
	}
	for _, err := range b.List(t.Context()) {
		if !errors.Is(err, ErrDown) {
			t.Errorf("list a bucket that is down: %v", err)
		}
	}
	changed = b.Changed()
	s.Set(func(s *s3.State) { s.Refuse = false })
	<-changed
	if b.Health().Err != nil {
		t.Fatalf("it is not back: %v", b.Health().Err)
	}
	if got, err := get(b, fsm.BlobLog, digest); err != nil || !bytes.Equal(got, data) {
		t.Errorf("after it is back: %q, %v", got, err)
	}

	// Another bucket in its place is not taken for it.
	b.fail(errors.New("down"))
	s.Set(func(s *s3.State) {
		s.Have[markKey] = s3.Object{Data: []byte(`{"id":"0123456789ab","cluster":"c1"}`), At: time.Now()}
	})
	b.again(t.Context())
	if err := b.Health().Err; !errors.Is(err, ErrForeign) {
		t.Errorf("with another bucket in its place: %v", err)
	}
}

// TestStall has a bucket that takes the connection and says nothing.
func TestStall(t *testing.T) {
	s := newS3(t, "builds")
	url := s.URL
	b := claimed(t, Config{URL: url}, "c1")
	b.cfg.Patience = 50 * time.Millisecond
	hang := make(chan struct{})
	defer close(hang)
	s.Set(func(s *s3.State) { s.Hang = hang })
	if err := b.Put(t.Context(), fsm.BlobLog, digestOf(nil), strings.NewReader("")); !errors.Is(err, errStalled) {
		t.Errorf("put: %v", err)
	}
	if !errors.Is(b.Health().Err, errStalled) {
		t.Errorf("it is %v", b.Health().Err)
	}
}

// TestKnown has a node start while its bucket is down, which only one that it has used
// before may be.
func TestKnown(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mount")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	mark, err := open(t, Config{URL: "file://" + dir}).Claim(t.Context(), "c1")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if b, err := Open(t.Context(), Config{URL: "file://" + dir}); err == nil {
		_ = b.Close()
		t.Error("a folder that is not there was opened")
	}
	b := open(t, Config{URL: "file://" + dir, Known: mark})
	if _, err := b.Claim(t.Context(), "c2"); !errors.Is(err, ErrForeign) {
		t.Errorf("another cluster's claim: %v", err)
	}
	if got, err := b.Claim(t.Context(), "c1"); err != nil || got != mark {
		t.Errorf("claim: %v, %v", got, err)
	}
	if err := b.Put(t.Context(), fsm.BlobLog, digestOf(nil), strings.NewReader("")); !errors.Is(err, ErrDown) {
		t.Errorf("put: %v", err)
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if b.again(t.Context()); b.Health().Err != nil {
		t.Errorf("it is not back: %v", b.Health().Err)
	}
	put(t, b, fsm.BlobLog, []byte("x"))
}
