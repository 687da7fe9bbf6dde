package runner

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// aLog is what one entry of the replicated log takes.
const aLog = 256 << 10

func encodedSize(t *testing.T, o fsm.Outcome) int {
	t.Helper()
	data, err := fsm.EncodeCommand(fsm.Command{FinishAttempt: &fsm.FinishAttempt{Ref: ref(1, 1, 7), Outcome: o}})
	if err != nil {
		t.Fatal(err)
	}
	return len(data)
}

// manySteps are as many as a file may have, with names as long as they may be; the
// one before the last has failed.
func manySteps() []fsm.StepResult {
	steps := make([]fsm.StepResult, 1000)
	at := time.Date(2026, 3, 1, 0, 0, 0, 123456789, time.UTC)
	for i := range steps {
		steps[i] = fsm.StepResult{Name: fmt.Sprintf("%d%s", i, strings.Repeat("s", 97)), Status: fsm.Passed,
			StartedAt: at, EndedAt: at, Tries: 3, PeakMemory: 1 << 40, CPUTime: time.Hour}
	}
	steps[998].Status, steps[998].Cause, steps[998].ExitCode = fsm.Failed, fsm.CauseFailure, 2
	return steps
}

func manyTests(n, size int) *fsm.TestReport {
	r := &fsm.TestReport{Passed: 7, Failed: n}
	for i := range n {
		r.Failures = append(r.Failures, fsm.TestCase{Suite: "s", Name: fmt.Sprint(i, strings.Repeat("n", 200)), Text: strings.Repeat("t", size)})
	}
	return r
}

// A result goes into the log, whatever a job has made of it: what is shed to make it
// fit is said, and how the job ended stays.
func TestLargeOutcomes(t *testing.T) {
	for name, c := range map[string]struct {
		o    fsm.Outcome
		said []string
		look func(o fsm.Outcome) bool
	}{
		"message": {fsm.Outcome{Status: fsm.Failed, Message: strings.Repeat("é", 300<<10)}, []string{"ééé"},
			func(o fsm.Outcome) bool { return len(o.Message) < 20<<10 }},
		"no text": {fsm.Outcome{Status: fsm.Failed, Message: "a\xffb", Steps: []fsm.StepResult{{Name: "c\xff", Status: fsm.Passed}}}, []string{"a\ufffdb"},
			func(o fsm.Outcome) bool { return o.Steps[0].Name == "c\ufffd" }},
		"names": {fsm.Outcome{Status: fsm.Failed, Steps: []fsm.StepResult{{Name: strings.Repeat("n", 300<<10), Status: fsm.Failed}}}, nil,
			func(o fsm.Outcome) bool { return len(o.Steps) == 1 && len(o.Steps[0].Name) < 1000 }},
		"steps": {fsm.Outcome{Status: fsm.Failed, ExitCode: 2, Message: "step 998 failed", Steps: manySteps()}, []string{"step 998 failed", "steps are left out"},
			func(o fsm.Outcome) bool {
				n := len(o.Steps)
				return o.ExitCode == 2 && n > 100 && o.Steps[0].Name[0] == '0' && o.Steps[n-1].Status == fsm.Failed
			}},
		"texts": {fsm.Outcome{Status: fsm.Failed, Tests: manyTests(100, 4000)}, []string{"what the tests say"},
			func(o fsm.Outcome) bool {
				return o.Tests.Passed == 7 && len(o.Tests.Failures) == 100 && o.Tests.Failures[0].Text == ""
			}},
		"tests": {fsm.Outcome{Status: fsm.Failed, Tests: manyTests(2000, 1), Steps: manySteps()[:300]}, []string{"the tests' names"},
			func(o fsm.Outcome) bool {
				return o.Tests.Failed == 2000 && len(o.Tests.Failures) == 0 && len(o.Steps) == 300
			}},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.start()
			a := ref(1, 1, 7)
			n.leader.want(job(a))
			n.m.awaitRun(t, a)
			n.m.exit(a, c.o)
			o := n.leader.awaitOutcome(t, a)
			if size := encodedSize(t, o); size > aLog*7/8 || o.Status != c.o.Status || !c.look(o) || !utf8.ValidString(o.Message) {
				t.Errorf("%d bytes: %s, %d steps, %.300s…", size, o.Status, len(o.Steps), o.Message)
			}
			for _, said := range c.said {
				if !strings.Contains(o.Message, said) {
					t.Errorf("it does not say %q: %.300s…", said, o.Message)
				}
			}
			n.end()
		})
	}
}

// A plan of the largest size goes through as it is.
func TestLargePlanIsNotShed(t *testing.T) {
	p := pipeline.Pipeline{Jobs: []pipeline.Job{{Name: strings.Repeat("j", maxPlan-1000)}}}
	if o := fit(fsm.Outcome{Status: fsm.Passed, Plan: &p}); o.Plan == nil || o.Message != "" {
		t.Errorf("%s %s", o.Status, o.Message)
	}
}

// A ledger of an earlier version may hold results that no log takes: they are made
// to fit when the node starts.
func TestLedgerWithAnOutcomeTooLarge(t *testing.T) {
	n := newNode(t)
	l := mustOpen(t, filepath.Join(n.dir, "ledger"))
	a := ref(1, 1, 7)
	large := fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseConfig, Message: strings.Repeat("x", 300<<10)}
	if err := l.append(record{Accepted: &accepted{Ref: a, Work: *job(a).Work}}, record{Ended: &outcome{Ref: a, Outcome: large}}); err != nil {
		t.Fatal(err)
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	n.start()
	if o := n.leader.awaitOutcome(t, a); encodedSize(t, o) > aLog || o.Status != fsm.Errored || o.Cause != fsm.CauseConfig {
		t.Errorf("%s with %d bytes", o.Status, encodedSize(t, o))
	}
	n.settled()
	n.end()
}
