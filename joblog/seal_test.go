package joblog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestSealedLogReadsLikeTheLog: from every offset there is, and beyond its end.
func TestSealedLogReadsLikeTheLog(t *testing.T) {
	path, sealedPath := filepath.Join(t.TempDir(), "log"), filepath.Join(t.TempDir(), "sealed")
	w, err := Create(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		w.Printf("line %d of a log", i)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	sealer, err := NewSealer()
	if err != nil {
		t.Fatal(err)
	}
	var first []byte
	for range 2 { // one seals many
		var buf bytes.Buffer
		n, err := sealer.Seal(&buf, path)
		if err != nil || n != w.Size() {
			t.Fatalf("sealed %d bytes of %d: %v", n, w.Size(), err)
		}
		if first != nil && !bytes.Equal(first, buf.Bytes()) {
			t.Error("the same log is sealed to other bytes")
		}
		first = buf.Bytes()
	}
	if err := os.WriteFile(sealedPath, first, 0o600); err != nil {
		t.Fatal(err)
	}
	for offset := int64(0); offset <= w.Size()+5; offset += 7 {
		want, err := Read(path, offset, 0)
		if err != nil {
			t.Fatal(err)
		}
		r, err := OpenSealed(sealedPath, offset)
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.read(0)
		if err := errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("from %d: %d lines, want %d", offset, len(got), len(want))
		}
	}
}

// TestTornSealedLog is an error, not a shorter log.
func TestTornSealedLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var text bytes.Buffer
	for i := range 5000 {
		fmt.Fprintf(&text, "2026-01-02T03:04:05.000Z\t0\tline %d\n", i*i)
	}
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	sealer, err := NewSealer()
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if _, err := sealer.Seal(&buf, path); err != nil {
		t.Fatal(err)
	}
	whole := buf.Bytes()
	flipped := slices.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	for name, data := range map[string][]byte{"cut": whole[:len(whole)-9], "flipped": flipped} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := OpenSealed(path, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.read(0); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: read without an error", name)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
