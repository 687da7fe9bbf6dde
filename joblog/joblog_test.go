package joblog_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"

	"github.com/codepr/narwhal/joblog"
	"github.com/codepr/narwhal/joblog/mask"
)

// writerEnv makes this test binary write to the log that it names, as another
// process would: one line for each line of its standard input.
const writerEnv = "JOBLOG_TEST_WRITER"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerEnv); path != "" {
		writeAsAnotherProcess(path)
		return
	}
	goleak.VerifyTestMain(m)
}

func writeAsAnotherProcess(path string) {
	w, err := joblog.Create(path, 0)
	if err != nil {
		panic(err)
	}
	out := w.Stream(0)
	buf := make([]byte, 4096)
	for {
		n, err := os.Stdin.Read(buf)
		out.Write(buf[:n])
		if err != nil {
			break
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
}

func create(t *testing.T, limit int64) (*joblog.Writer, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	w, err := joblog.Create(path, limit)
	if err != nil {
		t.Fatal(err)
	}
	return w, path
}

func read(t *testing.T, path string, offset int64) []joblog.Line {
	t.Helper()
	lines, err := joblog.Read(path, offset, 0)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func texts(lines []joblog.Line) []string {
	var out []string
	for _, l := range lines {
		out = append(out, l.Text)
	}
	return out
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if strings.Join(got, "\x00") != strings.Join(want, "\x00") || len(got) != len(want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestWriteAndRead(t *testing.T) {
	w, path := create(t, 0)
	w.Printf("two\nlines of %s\n", "narwhal")
	zero, one := w.Stream(0), w.Stream(1)
	zero.Write([]byte("a\nb\r\nhalf a "))
	if !zero.Pending() || one.Pending() {
		t.Error("what is pending after half a line?")
	}
	one.Write([]byte("between\n"))
	zero.Write([]byte("line\ncut off"))
	zero.Close()
	one.Write([]byte("\ttabs\tstay\n\n"))
	one.Write([]byte("at the end"))
	one.Close()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	lines := read(t, path, 0)
	equal(t, "texts", texts(lines), []string{"two", "lines of narwhal", "a", "b", "between", "half a line", "cut off", "\ttabs\tstay", "", "at the end"})
	for i, want := range []int{-1, -1, 0, 0, 1, 0, 0, 1, 1, 1} {
		if lines[i].Step != want || lines[i].Time.IsZero() {
			t.Errorf("line %d is of step %d at %v, want step %d", i, lines[i].Step, lines[i].Time, want)
		}
	}
	if info, _ := os.Stat(path); info.Size() != lines[9].Offset {
		t.Errorf("the last offset is %d in a file of %d bytes", lines[9].Offset, info.Size())
	}
}

func TestFlushEndsALine(t *testing.T) {
	w, path := create(t, 0)
	out := w.Stream(0)
	out.Write([]byte("Password: "))
	if got := read(t, path, 0); len(got) != 0 {
		t.Fatalf("half a line is there before it is flushed: %+v", got)
	}
	out.Flush()
	equal(t, "flushed", texts(read(t, path, 0)), []string{"Password: "})
	out.Write([]byte("\n")) // ends it, and is no line of its own
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	equal(t, "closed", texts(read(t, path, 0)), []string{"Password: "})
}

func TestResumeAtEveryOffset(t *testing.T) {
	w, path := create(t, 0)
	for _, text := range []string{"one", "", "three ümläut", strings.Repeat("x", 200)} {
		w.Stream(0).Write([]byte(text + "\n"))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	all := read(t, path, 0)
	for offset := int64(0); offset <= all[3].Offset+2; offset++ {
		var want []string
		for i, line := range all {
			if start := line.Offset - size(all, i); start >= offset {
				want = append(want, line.Text)
			}
		}
		equal(t, "from "+time.Duration(offset).String(), texts(read(t, path, offset)), want)
	}
}

func size(lines []joblog.Line, i int) int64 {
	if i == 0 {
		return lines[0].Offset
	}
	return lines[i].Offset - lines[i-1].Offset
}

func TestLongLinesAreCut(t *testing.T) {
	for _, chunk := range []int{1 << 20, 64 << 10, 1000} {
		w, path := create(t, 0)
		text := strings.Repeat("é", 100_000) // two bytes each: no cut falls into one
		in := []byte("a" + text + "\nnext\n")
		out := w.Stream(0)
		for len(in) > 0 {
			n := min(chunk, len(in))
			out.Write(in[:n])
			in = in[n:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		lines := read(t, path, 0)
		for _, l := range lines {
			if len(l.Text) > joblog.MaxLine || !utf8.ValidString(l.Text) || strings.Contains(l.Text, "\uFFFD") {
				t.Errorf("chunks of %d: a line of %d bytes, valid=%v", chunk, len(l.Text), utf8.ValidString(l.Text))
			}
		}
		if got := strings.Join(texts(lines[:len(lines)-1]), ""); got != "a"+text {
			t.Errorf("chunks of %d: the pieces make %d bytes, want %d", chunk, len(got), len(text)+1)
		}
		equal(t, "after it", texts(lines[len(lines)-1:]), []string{"next"})
	}
}

func TestLimit(t *testing.T) {
	for limit := int64(200); limit < 320; limit++ {
		w, path := create(t, limit)
		for range 1000 {
			w.Stream(0).Write([]byte("0123456789\n"))
		}
		w.Printf("nor this")
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		again, err := joblog.Create(path, limit)
		if err != nil {
			t.Fatal(err)
		}
		again.Printf("nor that, from another writer")
		again.Stream(0).Write([]byte("nor that\n"))
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
		lines := read(t, path, 0)
		last := lines[len(lines)-1]
		if !strings.HasPrefix(last.Text, "the log has reached its limit") || last.Step != joblog.Narwhal {
			t.Fatalf("limit %d: the last line is %q", limit, last.Text)
		}
		if info.Size() < limit || info.Size() > limit+200 || last.Offset != info.Size() {
			t.Fatalf("limit %d: %d bytes, last offset %d", limit, info.Size(), last.Offset)
		}
	}
}

func TestHostileLogs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	raw := "no record\n\xff\xfe\tbroken\n" + strings.Repeat("y", 300_000) + "\n2026-11-24T10:00:00.000Z\t3\tbad \xff byte\n" +
		"2026-11-24T10:00:00.000Z\t-7\tx\nhalf a rec"
	if err := os.WriteFile(path, []byte(raw), 0o600); err != nil {
		t.Fatal(err)
	}
	lines := read(t, path, 0)
	if len(lines) != 5 {
		t.Fatalf("%d lines, want 5", len(lines))
	}
	for _, l := range lines {
		if !utf8.ValidString(l.Text) || len(l.Text) > joblog.MaxLine {
			t.Errorf("%.40q: %d bytes", l.Text, len(l.Text))
		}
	}
	if l := lines[3]; l.Step != 3 || l.Text != "bad \uFFFD byte" {
		t.Errorf("got %+v", l)
	}
	if got := lines[4].Offset; got != int64(len(raw)-len("half a rec")) {
		t.Errorf("the last offset is %d", got)
	}
}

func TestReaderGoesOnAfterTornRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	record := "2026-11-24T10:00:00.000Z\t0\thello\n"
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := joblog.Open(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	for i := range len(record) {
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Fatalf("after %d bytes: %v, want EOF", i, err)
		}
		if _, err := file.WriteString(record[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if l, err := r.Next(); err != nil || l.Text != "hello" || l.Offset != int64(len(record)) {
		t.Fatalf("got %+v, %v", l, err)
	}
}

func TestFollowAnotherProcess(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0])
	child.Env = append(os.Environ(), writerEnv+"="+path)
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	const lines = 50
	done := make(chan struct{})
	started, n := false, 0
	follow := func(yield func(int, string) bool) {
		for line, err := range joblog.Follow(ctx, path, 0, done) {
			if err != nil {
				t.Fatalf("after %d lines: %v", n, err)
			}
			n++
			if !yield(n, line.Text) {
				return
			}
		}
	}
	var starting sync.WaitGroup
	starting.Go(func() { // the follower waits for a log that isn't there
		if err := child.Start(); err != nil {
			t.Error(err)
			return
		}
		started = true
		_, _ = io.WriteString(in, "x\n")
	})
	for i, text := range follow {
		starting.Wait()
		if text != strings.Repeat("x", i) {
			t.Fatalf("line %d is %q", i, text)
		}
		if i < lines { // the next one is only sent when this one has arrived
			_, err = io.WriteString(in, strings.Repeat("x", i+1)+"\n")
		} else {
			err = in.Close()
			close(done)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := child.Wait(); !started || err != nil || n != lines {
		t.Errorf("%d lines, want %d; the writer: %v", n, lines, err)
	}
}

func TestFollowersShareOneInstance(t *testing.T) {
	w, path := create(t, 0)
	var followers sync.WaitGroup
	done := make(chan struct{})
	counts := make([]int, 200) // more than the kernel's inotify instances a user
	for i := range counts {
		followers.Go(func() {
			for _, err := range joblog.Follow(t.Context(), path, 0, done) {
				if err != nil {
					t.Errorf("follower %d: %v", i, err)
					return
				}
				counts[i]++
			}
		})
	}
	for range 100 {
		w.Stream(0).Write([]byte("line\n"))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	close(done)
	followers.Wait()
	for i, n := range counts {
		if n != 100 {
			t.Errorf("follower %d saw %d lines, want 100", i, n)
		}
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	w, path := create(t, 0)
	defer func() { _ = w.Close() }()
	w.Stream(0).Write([]byte("one\n"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range joblog.Follow(ctx, path, 0, nil) {
		last = err
		cancel()
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("ended with %v", last)
	}
	for _, err := range joblog.Follow(t.Context(), filepath.Join(filepath.Dir(path), "no", "log"), 0, nil) {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a folder that isn't there: %v", err)
		}
	}
}

func TestWritersDontMixRecords(t *testing.T) {
	_, path := create(t, 0)
	var writers sync.WaitGroup
	for step := range 4 {
		writers.Go(func() {
			w, err := joblog.Create(path, 0)
			if err != nil {
				t.Error(err)
				return
			}
			out := w.Stream(step)
			for range 500 {
				out.Write(bytes.Repeat([]byte{byte('a' + step)}, 100))
				out.Write([]byte{'\n'})
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
	lines := read(t, path, 0)
	for _, l := range lines {
		if l.Text != strings.Repeat(string(rune('a'+l.Step)), 100) {
			t.Fatalf("step %d: %q", l.Step, l.Text)
		}
	}
	if len(lines) != 2000 {
		t.Errorf("%d lines, want 2000", len(lines))
	}
}

func TestSecretsAreMasked(t *testing.T) {
	w, path := create(t, 0)
	w.Mask(mask.New([]string{"hunter2-hunter2", "ab\ncd\n"}))
	w.Printf("narwhal says hunter2-hunter2\nab\ncd")
	out, other := w.Stream(0), w.Stream(1)
	for _, b := range []byte("it is hunter2-hunter2!\nab") { // as a program that doesn't buffer
		out.Write([]byte{b})
		out.Flush()
	}
	if out.Pending() {
		t.Error("the beginning of a secret counts as pending")
	}
	other.Write([]byte("hunter2"))
	out.Write([]byte("\ncd\nhunter2-hunter"))
	other.Write([]byte("-hunter2\n"))
	out.Close()
	other.Close()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got := texts(read(t, path, 0))
	if text := strings.Join(got, "\n"); strings.Contains(text, "hunter2-hunter2") || strings.Contains(text, "ab\ncd") {
		t.Errorf("the log holds a secret: %q", got)
	}
	equal(t, "of narwhal", got[:2], []string{"narwhal says ***", "***"})
	equal(t, "ends", got[len(got)-3:], []string{"***", "***", "hunter2-hunter"})
}

// TestLogThatTheJobMadeLong is sparse: it costs the job nothing.
func TestLogThatTheJobMadeLong(t *testing.T) {
	w, path := create(t, 1000)
	w.Printf("first")
	if err := errors.Join(w.Close(), os.Truncate(path, 10<<40)); err != nil {
		t.Fatal(err)
	}
	some, err := joblog.Read(path, 0, 3)
	if err != nil || len(some) != 3 || some[0].Text != "first" || some[2].Offset <= some[1].Offset {
		t.Fatalf("%d lines, %v", len(some), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, err := range joblog.Follow(ctx, path, 0, nil) {
		if cancel(); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	for range 2 { // again changes nothing
		if err := joblog.Bound(path, 1000); err != nil {
			t.Fatal(err)
		}
		lines := read(t, path, 0)
		last := lines[len(lines)-1]
		if len(lines) != 3 || lines[0].Text != "first" || last.Step != joblog.Narwhal ||
			last.Text != "the log has reached its limit of 1000 bytes: what follows is not kept" {
			t.Errorf("lines %q", texts(lines))
		}
		if info, err := os.Stat(path); err != nil || info.Size() > 1000+joblog.Slack || last.Offset != info.Size() {
			t.Errorf("last offset %d, %v", last.Offset, err)
		}
	}
	if err := joblog.Bound(filepath.Join(t.TempDir(), "none"), 0); err != nil {
		t.Error(err)
	}
}
