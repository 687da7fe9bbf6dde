package supervise_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
	"github.com/codepr/narwhal/supervise"
)

// withSatellite gives the job a folder of sockets, and a process that is the
// satellite sat, as long a path as the folder may have.
func (j *job) withSatellite() *exec.Cmd {
	j.t.Helper()
	dir := filepath.Join(j.dir, strings.Repeat("long", 40))
	j.task.SocketDir = filepath.Join(dir, supervise.SocketsDir)
	if err := os.MkdirAll(j.task.SocketDir, 0o755); err != nil {
		j.t.Fatal(err)
	}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), satelliteEnv+"="+dir)
	child.Stderr = new(bytes.Buffer)
	if err := child.Start(); err != nil {
		j.t.Fatal(err)
	}
	j.t.Cleanup(func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	})
	return child
}

// ends waits for the satellite to end by itself.
func ends(t *testing.T, child *exec.Cmd) {
	t.Helper()
	waitGone(t, child.Process.Pid)
	if err := child.Wait(); err != nil || child.Stderr.(*bytes.Buffer).Len() > 0 {
		t.Errorf("the satellite ended with %v: %s", err, child.Stderr)
	}
}

func TestSatellite(t *testing.T) {
	j := newJob(t,
		"echo $BELOW $OVER $MORE $PPID",
		"echo $BELOW $OVER $MORE $PPID; echo $TOKEN; pwd; printf half; sleep 0.2; echo ' more'; echo err >&2; sh -c 'i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done; dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null'",
		"echo here",
		"echo x >> tries; [ $(wc -l < tries) -ge 2 ]; exit 6")
	child := j.withSatellite()
	j.task.Env = append(j.task.Env, "OVER=task")
	j.task.SecretValues = map[string]string{"TOKEN": "s3cret-value"}
	for _, i := range []int{1, 3} {
		j.task.Steps[i].Satellite = "sat"
		j.task.Steps[i].Env = []string{"MORE=step"}
		j.task.Steps[i].Secrets = []string{"TOKEN"}
	}
	j.task.Steps[3].Retry = &pipeline.Retry{Max: 3, ExitCodes: []int{1}}
	o := j.run(t.Context())
	expect(t, o, fsm.Failed, fsm.CauseFailure, 6, "step s3: exit code 6")
	want := fmt.Sprintf("0 task %d\n1 satellite task step %d\n1 ***\n1 %s\n1 half\n1  more\n1 err\n2 here\n", os.Getpid(), child.Process.Pid, j.dir)
	if got := j.printed(); got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	if s := o.Steps[3]; s.Tries != 2 || o.Steps[1].CPUTime < time.Millisecond || o.Steps[1].PeakMemory == 0 {
		t.Errorf("steps %+v", o.Steps)
	}
	ends(t, child)
}

func TestSatelliteStops(t *testing.T) {
	for name, c := range map[string]struct {
		command string
		status  fsm.Status
		cause   fsm.Cause
		exit    int
		message string
	}{
		"cancel":  {"trap 'echo tidy; exit 3' TERM; echo up; while :; do sleep 0.05; done", fsm.Canceled, fsm.CauseCanceled, 3, "canceled"},
		"ignored": {"trap '' TERM; echo up; sleep 600; sleep 600", fsm.Canceled, fsm.CauseCanceled, 137, "canceled"},
		"step":    {"echo up; sleep 600", fsm.Failed, fsm.CauseTimeout, 143, "step s0: it took longer than its timeout"},
		"job":     {"echo up; sleep 600", fsm.Failed, fsm.CauseTimeout, 143, "the job took longer than its timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJob(t, c.command, "echo later", "echo tell")
			child := j.withSatellite()
			j.task.Steps[0].Satellite = "sat"
			j.task.Steps[2].On = pipeline.OnFailure
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			var stopping chan struct{}
			now := make(chan struct{})
			switch name {
			case "step":
				j.task.Steps[0].Timeout = time.Second
			case "job":
				j.task.Timeout = time.Second
			default:
				stopping = make(chan struct{})
				go func() {
					defer close(stopping)
					j.until(ctx, "up")
					cancel(&supervise.Stop{Grace: time.Hour, Now: now})
					if name == "ignored" {
						close(now)
					}
				}()
			}
			o := j.run(ctx)
			if stopping != nil {
				<-stopping
			}
			expect(t, o, c.status, c.cause, c.exit, c.message)
			if told := strings.Contains(j.printed(), "2 tell"); told != (name == "step") {
				t.Errorf("printed %q", j.printed())
			}
			ends(t, child)
		})
	}
}

func TestWhatIsLeftInASatelliteIsKilled(t *testing.T) {
	j := newJob(t, "(trap '' TERM; while :; do echo beat; sleep 0.05; done) & echo $! > loud; sleep 600 >/dev/null 2>&1 & echo $! > silent",
		"kill -0 $(cat loud) $(cat silent); while [ $(grep -c beat log) -lt 5 ]; do sleep 0.01; done; echo heard")
	child := j.withSatellite()
	j.task.Steps[0].Satellite = "sat"
	expect(t, j.run(t.Context()), fsm.Passed, "", 0, "")
	ends(t, child)
	for _, name := range []string{"loud", "silent"} {
		text, err := os.ReadFile(filepath.Join(j.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		waitGone(t, pid)
	}
	if !strings.Contains(j.printed(), "0 beat\n") || !strings.Contains(j.printed(), "1 heard\n") {
		t.Errorf("printed %q", j.printed())
	}
}

// brief is a step that runWithout ends.
const brief = "echo $$ > shell; echo $PPID; sleep 600"

// runWithout runs the job, whose step is brief, and has the satellite die under it with
// all that runs there, as a container does.
func (j *job) runWithout(child *exec.Cmd) fsm.Outcome {
	var dying sync.WaitGroup
	dying.Go(func() {
		j.until(j.t.Context(), strconv.Itoa(child.Process.Pid))
		_ = child.Process.Kill()
		text, err := os.ReadFile(filepath.Join(j.dir, "shell"))
		if err != nil {
			j.t.Error(err)
			return
		}
		shell, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err == nil {
			err = syscall.Kill(-shell, syscall.SIGKILL)
		}
		if err != nil {
			j.t.Errorf("end the step %q: %v", text, err)
		}
	})
	o := j.run(j.t.Context())
	dying.Wait()
	return o
}

func TestSatelliteGoesAway(t *testing.T) {
	j := newJob(t, brief, "echo tidy")
	child := j.withSatellite()
	j.task.Steps[0].Satellite = "sat"
	j.task.Steps[1].On = pipeline.Always
	o := j.runWithout(child)
	expect(t, o, fsm.Errored, "", 0, "step s0: its container ended before it did")
	if !strings.Contains(j.printed(), "1 tidy\n") {
		t.Errorf("printed %q", j.printed())
	}
}

func TestErrorOfAStepIsAllowed(t *testing.T) {
	j := newJob(t, brief, "echo goes on")
	child := j.withSatellite()
	j.task.Steps[0].Satellite, j.task.Steps[0].AllowFailure = "sat", true
	o := j.runWithout(child)
	if expect(t, o, fsm.Passed, "", 0, ""); statuses(o) != "errored! passed" || !strings.HasSuffix(j.printed(), "1 goes on\n") {
		t.Errorf("steps %s, printed %q", statuses(o), j.printed())
	}
}

func TestSatelliteThatNeverComes(t *testing.T) {
	j := newJob(t, "echo not", "echo neither")
	j.task.Steps[1].Satellite = "sat"
	expect(t, j.run(t.Context()), fsm.Errored, "", 0, "step s1 is to run in a container of its own, and there is none here")
	j.task.SocketDir = j.dir
	j.task.Timeout = 100 * time.Millisecond
	expect(t, j.run(t.Context()), fsm.Failed, fsm.CauseTimeout, 0, "the job took longer")
	if j.printed() != "" {
		t.Errorf("printed %q", j.printed())
	}
}

// TestHostileSatellite answers as a job could that has put itself in its place.
func TestHostileSatellite(t *testing.T) {
	for name, answer := range map[string]string{
		"nothing":    "",
		"no frame":   "HTTP/1.1 400 Bad Request\r\n\r\n",
		"too long":   "o\xff\xff\xff\xff",
		"no report":  "e\x00\x00\x00\x02[]",
		"no status":  "e\x00\x00\x00\x02{}",
		"a nonsense": "e\x00\x00\x00\x14{\"status\":\"running\"} ",
		"skipped":    "e\x00\x00\x00\x14{\"status\":\"skipped\"} ",
	} {
		t.Run(name, func(t *testing.T) {
			j := newJob(t, "true")
			j.task.Steps[0].Satellite, j.task.SocketDir = "sat", j.dir
			l, err := net.Listen("unix", filepath.Join(j.dir, "sat.sock"))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			served := make(chan struct{})
			go func() {
				defer close(served)
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Read(make([]byte, 1))
				_, _ = conn.Write([]byte(answer))
				_ = conn.Close()
			}()
			expect(t, j.run(t.Context()), fsm.Errored, "", 0, "step s0: ")
			<-served
		})
	}
}
