package supervise_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/supervise"
)

// TestLongJournal: whatever a job writes into its journal, and how much, its end is read,
// and what was first.
func TestLongJournal(t *testing.T) {
	for name, junk := range map[string][]byte{
		"records":      bytes.Repeat([]byte(`{"kind":"process","pid":7,"boot":"`+strings.Repeat("x", 1000)+`"}`+"\n"), 24_000),
		"many":         bytes.Repeat([]byte(`{"kind":"go"}`+"\n"), 100_000),
		"lines":        bytes.Repeat([]byte("x\n"), 10<<20),
		"a line":       bytes.Repeat([]byte("x"), 24<<20),
		"a short line": []byte("torn"),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "journal")
			if err := supervise.Note(path, supervise.Record{Kind: supervise.RecordBegun}); err != nil {
				t.Fatal(err)
			}
			file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := file.Write(junk); err != nil {
				t.Fatal(err)
			}
			if err := file.Close(); err != nil {
				t.Fatal(err)
			}
			if err := supervise.Note(path, supervise.Record{Kind: supervise.RecordEnd, Outcome: &fsm.Outcome{Status: fsm.Failed, Cause: fsm.CauseFailure, ExitCode: 3}}); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				records, err := supervise.ReadJournal(path)
				if err != nil {
					t.Fatal(err)
				}
				o, ok := supervise.Outcome(records)
				if !ok || o.Status != fsm.Failed || o.ExitCode != 3 || !supervise.Has(records, supervise.RecordBegun) {
					t.Fatalf("ended %v: %+v", ok, o)
				}
				if err := supervise.BoundJournal(path); err != nil {
					t.Fatal(err)
				}
			}
			if info, err := os.Stat(path); err != nil || info.Size() > 16<<20 {
				t.Errorf("it has %d bytes, %v", info.Size(), err)
			}
		})
	}
}
