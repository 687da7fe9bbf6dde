package snapshot

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	workFactor = 10
	os.Exit(m.Run())
}

const phrase = "correct horse battery"

var header = Header{
	ClusterID: "c1", Generation: 3, Index: 42, SavedAt: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC), SavedBy: "v1", Keys: []byte("the-keys-of-the-cluster"),
}

func written(t *testing.T, state string) []byte {
	t.Helper()
	var file bytes.Buffer
	if err := Write(&file, phrase, header, strings.NewReader(state)); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func TestRoundTrip(t *testing.T) {
	state := strings.Repeat("the state of the cluster ", 100_000)
	file := written(t, state)
	for _, secret := range []string{"the-keys-of", "the state of", "c1"} {
		if bytes.Contains(file, []byte(secret)) {
			t.Errorf("%q can be read in the file", secret)
		}
	}
	h, r, err := Open(bytes.NewReader(file), phrase)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil || string(got) != state {
		t.Errorf("got %d bytes of state, %v; wrote %d", len(got), err, len(state))
	}
	if h.ClusterID != header.ClusterID || h.Generation != 3 || h.Index != 42 || !h.SavedAt.Equal(header.SavedAt) || h.SavedBy != "v1" || !bytes.Equal(h.Keys, header.Keys) {
		t.Errorf("header %+v", h)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// TestDamage: wherever a file is cut off or changed, nobody takes it for whole.
func TestDamage(t *testing.T) {
	var random strings.Builder // what zstd can't make smaller fills several of age's chunks
	for x := uint32(1); random.Len() < 200_000; x = x*1664525 + 1013904223 {
		random.WriteByte(byte(x >> 24))
	}
	file := written(t, random.String())
	read := func(file []byte) error {
		_, r, err := Open(bytes.NewReader(file), phrase)
		if err != nil {
			return err
		}
		defer func() { _ = r.Close() }()
		_, err = io.Copy(io.Discard, r)
		return err
	}
	for _, at := range []int{len(file) / 2, len(file) - 1} {
		if err := read(file[:at]); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut off after %d of %d bytes: %v", at, len(file), err)
		}
		changed := bytes.Clone(file)
		changed[at] ^= 1
		if err := read(changed); !errors.Is(err, ErrDamaged) {
			t.Errorf("with byte %d of %d changed: %v", at, len(file), err)
		}
	}
}

func TestRefused(t *testing.T) {
	if err := Write(io.Discard, "short", header, strings.NewReader("")); err == nil || !strings.Contains(err.Error(), "12") {
		t.Errorf("a short passphrase: %v", err)
	}
	file := written(t, "state")
	if _, _, err := Open(bytes.NewReader(file), "another passphrase"); !errors.Is(err, ErrPassphrase) {
		t.Errorf("another passphrase: %v", err)
	}
	for name, file := range map[string]string{"empty": "", "text": "hello\n", "binary": "\x00\x01\x02"} {
		if _, _, err := Open(strings.NewReader(file), phrase); !errors.Is(err, ErrNotOne) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
