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
