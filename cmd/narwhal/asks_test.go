package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
)

// waits is a build of which one job is held and another one has two steps that wait.
func waits(attempts int) api.Build {
	b := api.Build{ID: 4, Status: fsm.Running, Jobs: []api.Job{
		{ID: fsm.JobID{Build: 4, Seq: 1}, Name: "ship", Kind: fsm.KindRun, Status: fsm.Held},
		{ID: fsm.JobID{Build: 4, Seq: 2}, Name: "test", Kind: fsm.KindRun, Status: fsm.Running, Waiting: []string{"deploy", "it's on"}},
	}}
	for n := range attempts {
		b.Jobs[1].Attempts = append(b.Jobs[1].Attempts, api.Attempt{N: n + 1, Status: fsm.Running})
	}
	return b
}

var askLines = []string{
	`job 4.1, ship, waits for a person: narwhal approve 4.1`,
	`step deploy of job 4.2, test, waits for a person: narwhal approve 4.2 --step deploy`,
	`step it's on of job 4.2, test, waits for a person: narwhal approve 4.2 --step 'it'\''s on'`,
}

func TestShowBuildSaysWhatWaits(t *testing.T) {
	var out bytes.Buffer
	showBuild(&out, waits(1))
	for _, want := range append(askLines, "running, steps deploy, it's on wait for a person") {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it has no line %q:\n%s", want, out.String())
		}
	}
}

// TestAskOnce: what waits is told once, and again where another attempt asks anew.
func TestAskOnce(t *testing.T) {
	var said []string
	a := asker{say: func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }}
	for _, attempts := range []int{1, 1, 2} {
		a.tell(waits(attempts))
	}
	want := append(append([]string{}, askLines...), askLines[1:]...)
	if got := strings.Join(said, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("it said\n%s", got)
	}
}
