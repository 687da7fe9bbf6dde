package runner

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/pipeline"
)

func ref(build, n, token int) fsm.AttemptRef {
	return fsm.AttemptRef{Job: fsm.JobID{Build: fsm.BuildID(build), Seq: 1}, N: n, Token: fsm.Token{Index: uint64(token)}}
}

func sampleRecords() []record {
	work := link.Work{Kind: fsm.KindRun, Name: "test", Commit: fsm.Commit{Repo: "a/b"}, Spec: &pipeline.Job{Name: "test"}}
	r1, r2 := ref(1, 1, 5), ref(2, 1, 6)
	return []record{
		{Accepted: &accepted{Ref: r1, Work: work}},
		{Accepted: &accepted{Ref: r2, Work: work}},
		{Started: &r1},
		{Ended: &outcome{Ref: r1, Outcome: fsm.Outcome{Status: fsm.Passed}}},
		{Closed: &closing{Ref: r1}},
		{Ended: &outcome{Ref: r2, Outcome: fsm.Outcome{Status: fsm.Failed, ExitCode: 2}}},
	}
}

// bookOf is what a ledger of these records must say.
func bookOf(records []record) *book {
	b := newBook()
	for _, r := range records {
		b.apply(r)
	}
	return b
}

func sameBook(t *testing.T, what string, got, want *book) {
	t.Helper()
	if g, w := got.entries(), want.entries(); !reflect.DeepEqual(g, w) {
		t.Errorf("%s: entries are %+v, want %+v", what, g, w)
	}
	if !reflect.DeepEqual(got.closed, want.closed) {
		t.Errorf("%s: closed are %+v, want %+v", what, got.closed, want.closed)
	}
}

func mustOpen(t testing.TB, path string) *ledger {
	t.Helper()
	l, _, err := openLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLedgerTornAtEveryByte(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	l := mustOpen(t, path)
	sizes := []int64{l.file.size}
	records := sampleRecords()
	for _, r := range records {
		if err := l.append(r); err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, l.file.size)
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		n := 0 // records that are whole before the cut
		for n < len(records) && sizes[n+1] <= int64(cut) {
			n++
		}
		for _, tail := range []string{"", "\x00\x00\x00\x00\x00\x00\x00\x00", "\x00\x00\x00\x01garbage"} {
			if cut < len(ledgerMagic) && tail != "" {
				continue // the magic is written before the file gets its name
			}
			what := fmt.Sprintf("cut at %d, tail %q", cut, tail)
			if cut == len(whole) && tail == "" {
				what = "whole"
			}
			torn(t, what, append(whole[:cut:cut], tail...), records, n)
		}
	}
}

func torn(t *testing.T, what string, data []byte, records []record, n int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	l := mustOpen(t, path)
	sameBook(t, what, l.book, bookOf(records[:n]))
	extra := record{Accepted: &accepted{Ref: ref(9, 1, 99)}}
	if err := l.append(extra); err != nil {
		t.Fatal(err)
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, path)
	defer func() { _ = again.close() }() // only read
	sameBook(t, what+", appended", again.book, bookOf(append(records[:n:n], extra)))
}

func TestLedgerRefusesAnotherFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	if err := os.WriteFile(path, []byte(strings.Repeat("something else", 10)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := openLedger(path); err == nil {
		t.Error("a file that is no ledger was opened")
	}
}

func TestLedgerCompacts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	l := mustOpen(t, path)
	var all []record
	put := func(r record) {
		all = append(all, r)
		if err := l.note(r); err != nil {
			t.Fatal(err)
		}
	}
	big := link.Work{Name: strings.Repeat("x", 8<<10)}
	for i := range 2000 {
		r := ref(i+1, 1, i+1)
		put(record{Accepted: &accepted{Ref: r, Work: big}})
		put(record{Ended: &outcome{Ref: r, Outcome: fsm.Outcome{Status: fsm.Passed}}})
		if i%100 != 0 {
			put(record{Closed: &closing{Ref: r, Dropped: i%2 == 0}})
		}
		if i%50 == 0 {
			if err := l.append(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if l.file.size > 2*compactAt+8*l.file.compacted {
		t.Errorf("the file has %d bytes, %d after the last compaction", l.file.size, l.file.compacted)
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, path)
	defer func() { _ = again.close() }() // only read
	sameBook(t, "reopened", again.book, bookOf(all))
}

func TestLedgerAfterDiskError(t *testing.T) {
	l := mustOpen(t, filepath.Join(t.TempDir(), "ledger"))
	if err := l.file.f.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.append(sampleRecords()[0]); err == nil {
			t.Error("a record that is not on the disk was confirmed")
		}
	}
}

// BenchmarkLedgerAppend puts attempts on the disk as a node under load does:
// several at a time.
func BenchmarkLedgerAppend(b *testing.B) {
	for _, writers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			l := mustOpen(b, filepath.Join(b.TempDir(), "ledger"))
			defer func() { _ = l.close() }() // its figures are taken
			var wg sync.WaitGroup
			b.ResetTimer()
			for w := range writers {
				wg.Go(func() {
					for i := w; i < b.N; i += writers {
						r := record{Accepted: &accepted{Ref: ref(i+1, 1, i+1), Work: *benchWork()}}
						if err := l.append(r, record{Closed: &closing{Ref: r.Accepted.Ref}}); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

func benchWork() *link.Work {
	return &link.Work{Kind: fsm.KindRun, Name: "test", Commit: fsm.Commit{Repo: "a/b", SHA: strings.Repeat("a", 40)},
		Spec: &pipeline.Job{Name: "test", Steps: []pipeline.Step{{Name: "s", Command: []string{"make"}}}}}
}
