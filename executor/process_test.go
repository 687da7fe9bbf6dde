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
