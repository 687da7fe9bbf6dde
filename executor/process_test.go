package executor_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
	"github.com/codepr/narwhal/supervise"
)

// leavesBehind has a narwhal killed in the middle of a job with processes of all
// kinds, and returns how many of them live.
func leavesBehind(t *testing.T, k *kit) (task executor.Task, alive func() int) {
	t.Helper()
	task = k.task(t, "sleep 600 & echo $! > ../a; setsid sleep 600 & echo $! > ../c; env -i sleep 600 & echo $! > ../d; echo up; wait")
	k.startElsewhere(t, task)
	return task, func() (n int) {
		procs, err := supervise.Processes()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"a", "c", "d"} {
			text, err := os.ReadFile(filepath.Join(task.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range procs {
				if fmt.Sprint(p.Pid) == strings.TrimSpace(string(text)) {
					n++
				}
			}
		}
		return n
	}
}

func awaitNone(t *testing.T, alive func() int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); alive() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d leftovers are there still", alive())
		}
	}
}

func TestProcessLeftoversAreSwept(t *testing.T) {
	k, other := newProcess(t), newProcess(t)
	_, alive := leavesBehind(t, k)
	if err := other.ex.Sweep(t.Context(), none); err != nil { // another node's sweep is none of its business
		t.Fatal(err)
	}
	mine := k.task(t, "echo up; while [ ! -e go ]; do sleep 0.05; done")
	run := k.start(t, mine)
	until(t, mine, "up")
	if n := alive(); n != 3 {
		t.Fatalf("%d leftovers before the sweep, want 3", n)
	}
	if err := k.ex.Sweep(t.Context(), none); err != nil {
		t.Fatal(err)
	}
	awaitNone(t, alive)
	if err := os.WriteFile(filepath.Join(mine.Workspace, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	expect(t, wait(t, run), fsm.Passed, "", "") // what runs here was left alone
}

// TestProcessIsGoneOnceItsLeftoversAre: who hears that an attempt is gone runs it
// elsewhere, and it must not run twice at a time.
func TestProcessIsGoneOnceItsLeftoversAre(t *testing.T) {
	k := newProcess(t)
	task, alive := leavesBehind(t, k)
	if n := alive(); n != 3 {
		t.Fatalf("%d processes before, want 3", n)
	}
	if _, err := k.ex.Adopt(t.Context(), task); !errors.Is(err, executor.ErrGone) {
		t.Fatalf("adopted: %v", err)
	}
	awaitNone(t, alive)
}

// limited fails the test where narwhal may make no control groups.
func limited(t *testing.T, k *kit) {
	t.Helper()
	if !k.ex.(*executor.Process).Limits() {
		t.Fatal("this process may make no control groups: run the tests as root")
	}
}

func TestProcessIsLimited(t *testing.T) {
	k := newProcess(t)
	limited(t, k)
	task := k.task(t, "echo first", "dd if=/dev/zero of=/dev/null bs=200M count=1 && echo got out")
	task.Work.Spec.Resources.Memory = 64 << 20
	o := k.run(t, task)
	expect(t, o, fsm.Failed, fsm.CauseOOM, "memory limit of 64 MiB")
	if got := printed(t, task); got != "first\n" && strings.Contains(got, "got out") {
		t.Errorf("printed %q", got)
	}
	if o.PeakMemory < 48<<20 {
		t.Errorf("its peak is said to be %d bytes", o.PeakMemory)
	}
	task = k.task(t, "grep memory /proc/self/cgroup || cat /proc/self/cgroup")
	expect(t, k.run(t, task), fsm.Passed, "", "")
	if got := printed(t, task); !strings.Contains(got, "/narwhal-"+string(k.node)+"/"+task.Ref.Job.String()) {
		t.Errorf("its group is %q", got)
	}
}

// TestProcessGroupIsLeftByNobody: no session, no output and no environment of the
// job's, and still it is found.
func TestProcessGroupIsLeftByNobody(t *testing.T) {
	k := newProcess(t)
	limited(t, k)
	task := k.task(t, "env -i setsid sh -c 'echo $$ > ../pid; exec sleep 600' >/dev/null 2>&1 & until [ -s ../pid ]; do sleep 0.01; done")
	expect(t, k.run(t, task), fsm.Passed, "", "")
	text, err := os.ReadFile(filepath.Join(task.Dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	awaitNone(t, func() int {
		if _, err := os.Stat("/proc/" + strings.TrimSpace(string(text)) + "/exe"); err == nil {
			return 1
		}
		return 0
	})
}

func TestProcessForkBombIsContained(t *testing.T) {
	t.Parallel()
	k := newProcess(t, func(c *executor.ProcessConfig) { c.Pids = 64 })
	limited(t, k)
	task := k.task(t, "i=0; while [ $i -lt 200 ]; do sleep 100 & i=$((i+1)); done; echo got out")
	if o := k.run(t, task); o.Status == fsm.Passed || strings.Contains(printed(t, task), "got out") {
		t.Errorf("200 processes were started: %+v", o)
	}
	usual := newProcess(t)
	task = usual.task(t, "cat /sys/fs/cgroup/pids$(sed -n 's/.*:pids://p' /proc/self/cgroup)/pids.max || cat /sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)/pids.max")
	expect(t, usual.run(t, task), fsm.Passed, "", "")
	if got := printed(t, task); !strings.HasSuffix(got, "2048\n") {
		t.Errorf("the usual limit is %q", got)
	}
}

func TestProcessHasNoContainers(t *testing.T) {
	k := newProcess(t)
	task := k.task(t, "echo not reached")
	task.Work.Spec.Services = []pipeline.Service{{Name: "db", Image: busybox}}
	expect(t, k.run(t, task), fsm.Errored, fsm.CauseConfig, "service db: this node runs jobs as plain processes")
	task = k.task(t, "echo not reached", "echo nor this")
	task.Work.Spec.Steps[1].Image = "another"
	expect(t, k.run(t, task), fsm.Errored, fsm.CauseConfig, "step s1: this node runs jobs as plain processes and has no image another")
}
