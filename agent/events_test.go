package agent

import (
	"encoding/json"
	"testing"

	"github.com/codepr/narwhal/fsm"
)

// TestEventTellsOfTests: a job's end brings what failed, with its text, where the state
// has it, and nothing else does.
func TestEventTellsOfTests(t *testing.T) {
	report := &fsm.TestReport{Passed: 3, Failed: 1, Failures: []fsm.TestCase{{Name: "TestSum", Text: "want 4"}}}
	counts := &fsm.TestCounts{Passed: 3, Failed: 1}
	e := &Events{Publisher: &Publisher{}, Tests: func(job fsm.JobID, attempt int) *fsm.TestReport {
		if job.Seq == 2 && attempt == 3 {
			return report
		}
		return nil
	}}
	job := func(seq uint32) *fsm.JobID { return &fsm.JobID{Build: 1, Seq: seq} }
	for name, tt := range map[string]struct {
		told fsm.Transition
		want int
	}{
		"the end of a job":   {fsm.Transition{Kind: "job", Job: job(2), N: 3, Tests: counts}, 1},
		"one without tests":  {fsm.Transition{Kind: "job", Job: job(2), N: 3}, 0},
		"one that is pruned": {fsm.Transition{Kind: "job", Job: job(7), N: 1, Tests: counts}, 0},
		"a build":            {fsm.Transition{Kind: "build"}, 0},
	} {
		req, err := e.request(&tt.told)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Report struct {
				Failures []struct{ Name, Text string }
			} `json:"test_report"`
		}
		if err := json.Unmarshal(req.publishing.Body, &got); err != nil {
			t.Fatal(err)
		}
		if len(got.Report.Failures) != tt.want || tt.want > 0 && got.Report.Failures[0].Text != "want 4" {
			t.Errorf("%s: %s", name, req.publishing.Body)
		}
	}
}
