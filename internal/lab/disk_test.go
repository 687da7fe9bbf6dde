package lab

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestDiskWithoutPower: what was synced stays, of the rest some goes.
func TestDiskWithoutPower(t *testing.T) {
	dir := t.TempDir()
	d, err := NewDisk(dir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	path := filepath.Join(dir, "file")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	write("kept")
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		write("x")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+"2"); err != nil {
		t.Fatal(err)
	}
	seed := uint64(0)
	for ; rand.New(rand.NewPCG(seed, 0)).IntN(2) != 0; seed++ { // the first write goes
	}
	lost, err := d.CutPower(rand.New(rand.NewPCG(seed, 0)))
	if err != nil || lost < 1 || lost > 19 {
		t.Errorf("%d writes of 20 are lost, %v", lost, err)
	}
	got, err := os.ReadFile(path + "2")
	if err != nil || !bytes.HasPrefix(got, []byte("kept")) || bytes.Count(got, []byte("x")) != 20-lost {
		t.Errorf("the file is %q, %v", got, err)
	}
	if lost, err := d.CutPower(rand.New(rand.NewPCG(seed, 0))); lost != 0 || err != nil {
		t.Errorf("a second time %d are lost, %v", lost, err)
	}
}
