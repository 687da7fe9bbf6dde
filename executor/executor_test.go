package executor_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/pipeline"
	"github.com/codepr/narwhal/supervise"
)

// busybox is made by scripts/images.sh.
const busybox = "narwhal/busybox:test"

// starterEnv makes this test binary the narwhal that starts an attempt and is
// then killed: it holds a starter as JSON.
const starterEnv = "EXECUTOR_TEST_STARTER"

type starter struct {
	Docker  *executor.DockerConfig
	Process *executor.ProcessConfig
	Task    executor.Task
	First   *executor.Task // is run before, so that Task gets a container that was made ahead
}

// supervisor is the binary that containers get.
var supervisor string

func TestMain(m *testing.M) {
	if text := os.Getenv(starterEnv); text != "" {
		startAndStay(text)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "narwhal-executor-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	supervisor = filepath.Join(dir, "supervisor")
	build := exec.Command("go", "build", "-o", supervisor, "./testdata/supervisor")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("build supervisor: %v: %s", err, out))
	}
	return m.Run()
}

func startAndStay(text string) {
	var s starter
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		panic(err)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	var ex executor.Executor
	if s.Docker != nil {
		d, err := executor.NewDocker(*s.Docker, log)
		if err != nil {
			panic(err)
		}
		ex = d
		if s.First != nil {
			runFirst(d, s)
		}
	} else {
		ex = executor.NewProcess(*s.Process, log)
	}
	if _, err := ex.Start(context.Background(), s.Task); err != nil {
		panic(err)
	}
	fmt.Println("started")
	select {}
}

// runFirst returns when Task has claimed a container.
func runFirst(d *executor.Docker, s starter) {
	run, err := d.Start(context.Background(), *s.First)
	if err == nil {
		_, err = run.Wait(context.Background())
	}
	if err == nil {
		err = os.RemoveAll(s.Task.Dir)
	}
	if err != nil {
		panic(err)
	}
	for ; ; time.Sleep(10 * time.Millisecond) {
		d.Prepare(s.Task)
		if _, err := os.Stat(s.Task.Workspace); err == nil {
			return
		}
	}
}

// kit is an executor under test.
type kit struct {
	ex       executor.Executor
	node     fsm.NodeID
	attempts string
	docker   *executor.DockerConfig
	process  *executor.ProcessConfig
	first    *executor.Task // of what startElsewhere starts
	ready    func()         // startElsewhere waits for it before it kills
	warm     bool           // each task gets a container that was made ahead
}

var numbers atomic.Uint64

const cluster = "cluster-of-tests"

func logger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// newNode is a node ID that no other test, of this or another process, has.
func newNode() fsm.NodeID {
	return fsm.NodeID(fmt.Sprintf("t%d-%d", os.Getpid(), numbers.Add(1)))
}

func newProcess(t *testing.T, change ...func(*executor.ProcessConfig)) *kit {
	k := &kit{node: newNode(), attempts: t.TempDir()}
	k.process = &executor.ProcessConfig{Node: k.node, Attempts: k.attempts}
	for _, c := range change {
		c(k.process)
	}
	p := executor.NewProcess(*k.process, logger(t))
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	k.ex = p
	return k
}

func newDocker(t *testing.T, change ...func(*executor.DockerConfig)) *kit {
	k := &kit{node: newNode(), attempts: t.TempDir()}
	k.docker = &executor.DockerConfig{Binary: supervisor, Cluster: cluster, Node: k.node}
	for _, c := range change {
		c(k.docker)
	}
	d, err := executor.NewDocker(*k.docker, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	k.ex = d
	t.Cleanup(func() { // what a failed test leaves; engine refuses while it is used
		ctx := context.Background()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		plain := *k.docker
		if strings.Contains(plain.Host, t.Name()) { // a gate, which may be shut
			plain.Host = ""
		}
		last, err := executor.NewDocker(plain, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := last.Sweep(ctx, func(fsm.AttemptRef) bool { return false }); err != nil {
			t.Error(err)
		}
		if err := last.RemoveNetwork(ctx); err != nil {
			t.Error(err)
		}
		if err := last.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// task makes an attempt whose steps are the commands.
func (k *kit) task(t *testing.T, commands ...string) executor.Task {
	t.Helper()
	n := numbers.Add(1)
	ref := fsm.AttemptRef{Job: fsm.JobID{Build: fsm.BuildID(n), Seq: 1}, N: 1, Token: fsm.Token{Epoch: 1, Index: n}}
	dir := filepath.Join(k.attempts, fmt.Sprintf("%s-%d", ref.Job, ref.N))
	spec := &pipeline.Job{
		Name: "test", Image: busybox, Timeout: time.Minute,
		Resources: pipeline.Resources{CPU: 1000, Memory: 256 << 20},
	}
	for i, c := range commands {
		spec.Steps = append(spec.Steps, pipeline.Step{Name: fmt.Sprintf("s%d", i), Command: []string{c}})
	}
	task := executor.Task{
		Ref: ref, Cluster: cluster, Node: k.node, Dir: dir, Workspace: filepath.Join(dir, "src"),
		Work: link.Work{Kind: fsm.KindRun, Name: "test", Spec: spec, Commit: fsm.Commit{
			Repo: "acme/api", SHA: strings.Repeat("a1", 20), Ref: "refs/heads/main", Event: fsm.EventPush,
		}},
	}
	if k.warm {
		t.Cleanup(k.prepare(t, task))
	}
	if err := os.MkdirAll(task.Workspace, 0o755); err != nil {
		t.Fatal(err)
	}
	return task
}

func (k *kit) start(t *testing.T, task executor.Task) executor.Run {
	t.Helper()
	run, err := k.ex.Start(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	if k.warm && !begun(t, task) {
		t.Error("it did not run in the container that was made ahead")
	}
	return run
}

func wait(t *testing.T, run executor.Run) fsm.Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	o, err := run.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (k *kit) run(t *testing.T, task executor.Task) fsm.Outcome {
	t.Helper()
	return wait(t, k.start(t, task))
}

func expect(t *testing.T, o fsm.Outcome, status fsm.Status, cause fsm.Cause, message string) {
	t.Helper()
	if o.Status != status || o.Cause != cause || !strings.Contains(o.Message, message) {
		t.Errorf("got %s, cause %q, exit code %d, %q; want %s, %q, %q", o.Status, o.Cause, o.ExitCode, o.Message, status, cause, message)
	}
}

// printed is what the steps printed.
func printed(t *testing.T, task executor.Task) string {
	t.Helper()
	lines, err := joblog.Read(filepath.Join(task.Dir, supervise.LogFile), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, l := range lines {
		if l.Step >= 0 {
			b.WriteString(l.Text + "\n")
		}
	}
	return b.String()
}

// until follows the log to a line that a step prints.
func until(t *testing.T, task executor.Task, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for line, err := range joblog.Follow(ctx, filepath.Join(task.Dir, supervise.LogFile), 0, nil) {
		if err != nil {
			t.Fatalf("waiting for %q: %v", text, err)
		}
		if line.Step >= 0 && line.Text == text {
			return
		}
	}
}

// startElsewhere starts the attempt from another process and kills that.
func (k *kit) startElsewhere(t *testing.T, task executor.Task) {
	t.Helper()
	text, err := json.Marshal(starter{Docker: k.docker, Process: k.process, Task: task, First: k.first})
	if err != nil {
		t.Fatal(err)
	}
	other := exec.CommandContext(t.Context(), os.Args[0])
	other.Env = append(os.Environ(), starterEnv+"="+string(text))
	other.Stderr = t.Output()
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("started\n"))); err != nil {
		t.Fatalf("the other narwhal did not start the attempt: %v", err)
	}
	until(t, task, "up")
	if k.ready != nil {
		k.ready()
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait() // it says that it was killed
}

func all(fsm.AttemptRef) bool  { return true }
func none(fsm.AttemptRef) bool { return false }

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// untilOwn follows the log to a line of narwhal's own.
func untilOwn(t *testing.T, task executor.Task, text string) {
	t.Helper()
	path := filepath.Join(task.Dir, supervise.LogFile)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if data, err := os.ReadFile(path); err == nil && strings.Contains(string(data), text) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q is not said", text)
		}
	}
}

// untilThere waits for a file.
func untilThere(t *testing.T, path string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not there", filepath.Base(path))
		}
	}
}
