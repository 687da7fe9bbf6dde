package supervise_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/supervise"
)

func TestControl(t *testing.T) {
	j := newJob(t, "echo $$; echo up; sleep 600 & wait", "trap '' TERM; echo also; sleep 600; sleep 600", "echo not")
	j.task.Steps[1].Parallel = true
	j.task.Grace = time.Hour
	j.task.SocketDir = filepath.Join(j.dir, strings.Repeat("deep/", 40))
	if err := os.MkdirAll(j.task.SocketDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := supervise.WriteSpec(j.dir, j.task); err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), mainEnv+"="+j.dir)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	j.until(t.Context(), "up")
	j.until(t.Context(), "also")
	socket := filepath.Join(j.task.SocketDir, supervise.ControlSocket)
	a, err := supervise.Status(t.Context(), socket)
	if err != nil || len(a.Running) != 2 || a.Steps != 3 || a.Stopping || a.Since.IsZero() {
		t.Fatalf("status %+v, %v", a, err)
	}
	for i, s := range a.Running {
		if s.Step != i || s.Pid == 0 || s.Since.Before(a.Since) || syscall.Kill(s.Pid, 0) != nil {
			t.Errorf("running %+v", s)
		}
	}
	if err := supervise.AskStop(t.Context(), socket, time.Hour); err != nil {
		t.Fatal(err)
	}
	if a, err := supervise.Status(t.Context(), socket); err != nil || !a.Stopping {
		t.Errorf("status %+v, %v", a, err)
	}
	if err := supervise.AskStop(t.Context(), socket, 0); err != nil { // no more patience
		t.Fatal(err)
	}
	if err := child.Wait(); child.ProcessState.ExitCode() <= 0 {
		t.Errorf("exit code %d, %v", child.ProcessState.ExitCode(), err)
	}
	o, _ := supervise.Outcome(j.records())
	if o.Status != fsm.Canceled || o.Steps[1].ExitCode != 137 || o.Steps[2].Status != fsm.Skipped {
		t.Errorf("%+v", o)
	}
	if _, err := os.Lstat(socket); err == nil {
		t.Error("the socket is left behind")
	}
	if _, err := supervise.Status(t.Context(), socket); err == nil {
		t.Error("a job that has ended answers")
	}
}

// TestHostileControlSocket asks where a job has put what it likes.
func TestHostileControlSocket(t *testing.T) {
	dir := t.TempDir()
	other, err := net.Listen("unix", filepath.Join(dir, "other"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	link := filepath.Join(dir, "link")
	file := filepath.Join(dir, "file")
	fifo := filepath.Join(dir, "fifo")
	if err := os.Symlink("other", link); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, file, fifo, dir} {
		if _, err := supervise.Status(t.Context(), path); err == nil || !strings.Contains(err.Error(), "it is no socket") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := supervise.Status(t.Context(), filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("where nothing is: %v", err)
	}
	long := strings.Repeat("n", 1<<20)
	for _, answer := range []string{"", "{", "[]", `{"running": "x"}`, `{"steps": ` + long, `{"running":[{"name":"` + long[:1<<19] + `"}]}`} {
		served := make(chan struct{})
		go func() {
			defer close(served)
			conn, err := other.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1024))
			_, _ = conn.Write([]byte(answer))
			_ = conn.Close()
		}()
		a, err := supervise.Status(t.Context(), filepath.Join(dir, "other"))
		<-served
		if err == nil && (len(a.Running) != 1 || len(a.Running[0].Name) > 4096) {
			t.Errorf("%.20q is taken for %+v", answer, a)
		}
		if err != nil && len(err.Error()) > 1000 {
			t.Errorf("%.20q makes an error of %d bytes", answer, len(err.Error()))
		}
	}
}
