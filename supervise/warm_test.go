package supervise

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func slotDir(t *testing.T) (dir, socket string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, SocketsDir), 0o777); err != nil {
		t.Fatal(err)
	}
	return dir, filepath.Join(dir, SocketsDir, WarmSocket)
}

type heard struct {
	task *Task
	err  error
}

func waitIn(t *testing.T, dir string, patience time.Duration) <-chan heard {
	got := make(chan heard, 1)
	go func() {
		task, err := awaitBegin(t.Context(), dir, patience)
		got <- heard{task, err}
	}()
	return got
}

func TestBegin(t *testing.T) {
	dir, socket := slotDir(t)
	got := waitIn(t, dir, time.Minute)
	if err := Waiting(t.Context(), socket); err != nil {
		t.Fatal(err)
	}
	conn, err := dial(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte(`{"secrets":{"A":"b`)); err != nil { // and there it ends
		t.Fatal(err)
	}
	_ = conn.Close()
	if err := WriteSpec(dir, Task{Dir: "/x"}); err != nil {
		t.Fatal(err)
	}
	if err := Begin(t.Context(), socket, map[string]string{"A": "<&>"}); err != nil {
		t.Fatal(err)
	}
	h := <-got
	if h.err != nil || h.task.Dir != "/x" || h.task.SecretValues["A"] != "<&>" {
		t.Errorf("got %+v, %v", h.task, h.err)
	}
	records, err := ReadJournal(filepath.Join(dir, JournalFile))
	if err != nil || len(records) != 1 || records[0].Kind != RecordBegun {
		t.Errorf("journal %v, %v", records, err)
	}
	if err := Begin(t.Context(), socket, nil); err == nil {
		t.Error("it begins twice")
	}
	if _, err := os.Lstat(socket); err == nil {
		t.Error("the socket is left for the steps")
	}
}

func TestBeginWithoutASpec(t *testing.T) {
	dir, socket := slotDir(t)
	got := waitIn(t, dir, time.Minute)
	if err := Waiting(t.Context(), socket); err != nil {
		t.Fatal(err)
	}
	if err := Begin(t.Context(), socket, nil); err == nil || !strings.Contains(err.Error(), "read spec") {
		t.Errorf("got %v", err)
	}
	if h := <-got; h.err == nil {
		t.Error("it goes on")
	}
	if records, err := ReadJournal(filepath.Join(dir, JournalFile)); err != nil || len(records) > 0 {
		t.Errorf("journal %v, %v", records, err)
	}
}

func TestNobodyBegins(t *testing.T) {
	dir, socket := slotDir(t)
	if h := <-waitIn(t, dir, 20*time.Millisecond); h.task != nil || h.err != nil {
		t.Errorf("got %+v", h)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := Waiting(ctx, socket); err == nil {
		t.Error("somebody waits")
	}
}
