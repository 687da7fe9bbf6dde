package executor_test

import (
	"testing"

	"github.com/codepr/narwhal/fsm"
)

// TestCauseIsThatOfTheStepThatDecided: that an earlier step was killed for want of
// memory, which may fail or got over it, is not why the job failed.
func TestCauseIsThatOfTheStepThatDecided(t *testing.T) {
	const greedy = "dd if=/dev/zero of=/dev/null bs=200M count=1"
	for name, open := range map[string]func(*testing.T) *kit{
		"process": func(t *testing.T) *kit { k := newProcess(t); limited(t, k); return k },
		"docker":  func(t *testing.T) *kit { return newDocker(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := open(t)
			task := k.task(t, "sh -c '"+greedy+"'; exit 9", greedy+" || true", "exit 3")
			task.Work.Spec.Resources.Memory = 64 << 20
			task.Work.Spec.Steps[0].AllowFailure = true
			o := k.run(t, task)
			expect(t, o, fsm.Failed, fsm.CauseFailure, "step s2: exit code 3")
			if len(o.Steps) != 3 || o.Steps[0].Cause != fsm.CauseOOM || !o.Steps[0].Allowed {
				t.Errorf("steps %+v", o.Steps)
			}
		})
	}
}

// TestSatelliteThatGotOverIt is the same for a step in a container of its own.
func TestSatelliteThatGotOverIt(t *testing.T) {
	t.Parallel()
	k := newDocker(t)
	task := k.task(t, "tail /dev/zero || true", "exit 3")
	task.Work.Spec.Resources.Memory = 64 << 20
	task.Work.Spec.Steps[0].Image = derive(t, "ENV MARK=another")
	expect(t, k.run(t, task), fsm.Failed, fsm.CauseFailure, "step s1: exit code 3")
}

// TestOneOfTwoStepsIsOutOfMemory: beside a step whose process was killed another fails
// for a reason of its own, at the same time or with what an earlier one has left running.
func TestOneOfTwoStepsIsOutOfMemory(t *testing.T) {
	const (
		untilKilled = "while [ ! -e killed ]; do sleep 0.02; done; "
		greedy      = "dd if=/dev/zero of=/dev/null bs=200M count=1"
	)
	for name, open := range map[string]func(*testing.T) *kit{
		"process": func(t *testing.T) *kit { k := newProcess(t); limited(t, k); return k },
		"docker":  func(t *testing.T) *kit { return newDocker(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := open(t)
			for what, c := range map[string]struct {
				first, second string
				parallel      bool
				causes        [2]fsm.Cause
				message       string // of the second step
			}{
				"beside":            {greedy + " || { touch killed; exit 137; }", untilKilled + "exit 3", true, [2]fsm.Cause{fsm.CauseOOM, fsm.CauseFailure}, ""},
				"beside, by a tool": {"sh -c 'tail /dev/zero' || { touch killed; exit 2; }", untilKilled + "exit 3", true, [2]fsm.Cause{fsm.CauseOOM, fsm.CauseFailure}, ""},
				"left running": {"(" + greedy + " || true; touch killed) > /dev/null 2>&1 &", untilKilled + "exit 3", false, [2]fsm.Cause{"", fsm.CauseFailure},
					"step s1: exit code 3; meanwhile a process of the job was killed for going beyond the memory limit of 64 MiB, and whether it was this step's can't be told"},
			} {
				if what == "beside, by a tool" && name == "process" {
					continue // a process starts with the peak of who forked it, which may be more than all of the job's
				}
				task := k.task(t, c.first, c.second)
				task.Work.Spec.Resources.Memory = 64 << 20
				task.Work.Spec.Steps[1].Parallel = c.parallel
				o := k.run(t, task)
				if len(o.Steps) != 2 || o.Steps[0].Cause != c.causes[0] || o.Steps[1].Cause != c.causes[1] || o.Steps[1].ExitCode != 3 {
					t.Errorf("%s: steps %+v, %q", what, o.Steps, o.Message)
				}
				if c.message != "" && o.Message != c.message {
					t.Errorf("%s: %q", what, o.Message)
				}
			}
		})
	}
}
