package sched

import (
	"testing"

	"github.com/codepr/narwhal/fsm"
)

// TestWhyAStepWaits: the reason is a line to type, whatever the step is called.
func TestWhyAStepWaits(t *testing.T) {
	job := fsm.JobID{Build: 4, Seq: 2}
	for want, waiting := range map[string][]string{
		"attempt 1 is running": nil,
		"attempt 1 is running; step ship waits for a person: narwhal approve 4.2 --step ship":            {"ship"},
		`attempt 1 is running; step it's on waits for a person: narwhal approve 4.2 --step 'it'\''s on'`: {"it's on"},
		`attempt 1 is running; step a$(id)b waits for a person: narwhal approve 4.2 --step 'a$(id)b'`:    {"a$(id)b"},
	} {
		if got := placedWhy(job, fsm.Attempt{N: 1, Status: fsm.Running, Waiting: waiting}); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	decided := fsm.Attempt{N: 1, Status: fsm.Running, Waiting: []string{"ship"}, Decisions: []fsm.StepDecision{{Step: "ship", Approve: true}}}
	if got, want := placedWhy(job, decided), "attempt 1 is running"; got != want {
		t.Errorf("decided on: got %s, want %s", got, want)
	}
}
