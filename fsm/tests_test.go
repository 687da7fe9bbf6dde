package fsm

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/codepr/narwhal/pipeline"
)

// reporting is a build of n jobs that are placed, and how to end one.
func reporting(t *testing.T, n int) (finish func(seq int, r *TestReport) *Job) {
	t.Helper()
	s := New()
	do := func(commands ...Command) {
		t.Helper()
		at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(s.Index()) * time.Second)
		for i := range commands {
			commands[i].At = at
		}
		next, results := Apply(s, s.Index()+1, 1, commands)
		for i, r := range results {
			if r.Err != nil {
				t.Fatalf("%+v: %v", commands[i], r.Err)
			}
		}
		if s = next; s.Verify() != nil {
			t.Fatal(s.Verify())
		}
	}
	place := func(seq int) {
		t.Helper()
		id := JobID{Build: 1, Seq: uint32(seq)}
		j, _ := s.Job(id)
		do(Command{AssignJob: &AssignJob{Job: id, N: len(j.Attempts) + 1, Node: "n1", Incarnation: 1}})
	}
	end := func(seq int, o Outcome) *Job {
		t.Helper()
		j, _ := s.Job(JobID{Build: 1, Seq: uint32(seq)})
		a, _ := j.Current()
		do(Command{FinishAttempt: &FinishAttempt{Ref: j.Ref(a), Outcome: o}})
		j, _ = s.Job(j.ID)
		return j
	}
	do(Command{UpsertNode: &UpsertNode{Node: Node{ID: "n1", Name: "n1", Incarnation: 1, Capacity: pipeline.Resources{CPU: 1 << 20}}}},
		Command{AddBuild: &AddBuild{Key: "k", Commit: Commit{Repo: "acme/api", SHA: "a"}}})
	place(0)
	plan := &pipeline.Pipeline{}
	for i := range n {
		plan.Jobs = append(plan.Jobs, pipeline.Job{Name: fmt.Sprint("j", i+1), Retry: &pipeline.Retry{Max: 100}})
	}
	end(0, Outcome{Status: Passed, Plan: plan})
	return func(seq int, r *TestReport) *Job {
		t.Helper()
		place(seq)
		return end(seq, Outcome{Status: Failed, Cause: CauseFailure, Tests: r})
	}
}

func failing(size int) *TestReport {
	r := &TestReport{Passed: 3, Failed: 1, Time: time.Second, Failures: []TestCase{{Suite: "s", Name: "n", Text: "x"}}}
	r.Failures[0].Text = strings.Repeat("x", size-r.Size()+1)
	return r
}

// The reports of a build have a bound together, its jobs' earlier attempts included:
// beyond it the counts stay.
func TestReportsOfABuildAreBounded(t *testing.T) {
	finish := reporting(t, 40)
	kept, size := 0, 0
	for i := range 40 {
		r := failing(20 << 10)
		j := finish(1+i/2, r)
		a := j.Attempts[len(j.Attempts)-1]
		size += a.Tests.Size()
		if a.Tests.Passed != 3 || a.Tests.Failed != 1 || a.Tests.Time != time.Second {
			t.Fatalf("report %d has lost its counts: %+v", i, a.Tests)
		}
		switch full := len(a.Tests.Failures) == 1; {
		case full && kept == i:
			kept++
		case full || len(a.Tests.Broken) != 1 || !strings.Contains(a.Tests.Broken[0], "128 KiB"):
			t.Errorf("report %d, after %d whole ones: %d failures, %q", i, kept, len(a.Tests.Failures), a.Tests.Broken)
		}
		if len(r.Failures) != 1 {
			t.Error("what the command brought was changed")
		}
	}
	if kept != 6 || size > MaxBuildReports+40*200 {
		t.Errorf("%d reports were kept, of %d bytes", kept, size)
	}
}

// A report that is larger than those of this version's nodes can be is not kept.
func TestReportIsBounded(t *testing.T) {
	finish := reporting(t, 2)
	if r := finish(1, failing(MaxReport)).Attempts[0].Tests; len(r.Failures) != 1 {
		t.Errorf("the largest one is not kept: %q", r.Broken)
	}
	if r := finish(2, failing(MaxReport+1)).Attempts[0].Tests; len(r.Failures) > 0 || r.Failed != 1 || len(r.Broken) != 1 {
		t.Errorf("one that is larger is kept: %d failures, %q", len(r.Failures), r.Broken)
	}
}

// Jobs that pass leave room for one that doesn't.
func TestFailuresComeFirst(t *testing.T) {
	finish := reporting(t, 201)
	for i := range 200 {
		r := &TestReport{Passed: 10, Passes: bytes.Repeat([]byte("pass"), 100)}
		for range MaxSlowest {
			r.Slowest = append(r.Slowest, TestCase{Name: strings.Repeat("n", 200), Time: time.Second})
		}
		finish(1+i, r)
	}
	if r := finish(201, failing(30<<10)).Attempts[0].Tests; len(r.Failures) != 1 {
		t.Errorf("the failure is left out: %q", r.Broken)
	}
}

// What is known of tests that passed is cut where a build has no room for more, and
// comes back from a snapshot.
func TestPassesAreBounded(t *testing.T) {
	finish := reporting(t, 6)
	size := 0
	for i := range 6 {
		r := finish(1+i, &TestReport{Passed: MaxPasses, Passes: bytes.Repeat([]byte("pass"), MaxPasses)}).Attempts[0].Tests
		if size += len(r.Passes); len(r.Passes)%4 != 0 || len(r.Broken) > 0 || (i < 4) != (len(r.Passes) == 4*MaxPasses) {
			t.Errorf("of report %d %d bytes are kept: %q", i, len(r.Passes), r.Broken)
		}
	}
	if size != MaxBuildReports/2 {
		t.Errorf("%d bytes are kept", size)
	}
	data, err := encMode.Marshal(TestReport{Passes: []byte("pass")})
	if err != nil {
		t.Fatal(err)
	}
	var r TestReport
	if err := decMode.Unmarshal(data, &r); err != nil || string(r.Passes) != "pass" {
		t.Errorf("%q came back, %v", r.Passes, err)
	}
}
