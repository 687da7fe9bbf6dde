package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/junit"
)

// BuildTests are what a build's jobs told of their tests.
type BuildTests struct {
	Build   fsm.BuildID `json:"build"`
	Passed  int         `json:"passed"`
	Failed  int         `json:"failed"`
	Skipped int         `json:"skipped"`
	Jobs    []JobTests  `json:"jobs"`
}

// JobTests are those of a job's newest attempt that has reports.
type JobTests struct {
	Job     fsm.JobID      `json:"job"`
	Name    string         `json:"name"`
	Attempt int            `json:"attempt"`
	Report  fsm.TestReport `json:"report"`
	// Flaky failed in one run of the job at this commit, and passed in another.
	Flaky []fsm.TestCase `json:"flaky,omitempty" doc:"Failed in one run of this job at the same commit, and passed in another"`
}

// sameCommit bounds the builds that are looked through for other runs of a commit.
const sameCommit = 500

func (s *Server) testRoutes(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "build-tests", Method: http.MethodGet, Path: prefix + "/builds/{id}/tests", Tags: []string{"builds"},
		Summary: "Show what a build's JUnit reports say", Middlewares: s.placed(withState),
	}, s.buildTests)
}

func (s *Server) buildTests(ctx context.Context, in *buildInput) (*struct{ Body BuildTests }, error) {
	state := stateOf(ctx)
	b, ok := state.Build(in.ID)
	if !ok {
		return nil, noBuild(in.ID)
	}
	out := BuildTests{Build: b.ID, Jobs: []JobTests{}}
	others := runsOf(state, b)
	for j := range state.Jobs(b.ID) {
		n, report := newestReport(j)
		if report == nil {
			continue
		}
		t := JobTests{Job: j.ID, Name: j.Name, Attempt: n, Report: *report}
		t.Flaky = flaky(*report, others[j.Name])
		out.Passed, out.Failed, out.Skipped = out.Passed+report.Passed, out.Failed+report.Failed, out.Skipped+report.Skipped
		out.Jobs = append(out.Jobs, t)
	}
	return &struct{ Body BuildTests }{out}, nil
}

func newestReport(j *fsm.Job) (n int, report *fsm.TestReport) {
	for i := range j.Attempts {
		if a := &j.Attempts[i]; a.Tests != nil {
			n, report = a.N, a.Tests
		}
	}
	return n, report
}

// runsOf are the reports of all runs of a build's commit, by the jobs' names: its
// own attempts, and those of the newest builds around it of the same commit.
func runsOf(s *fsm.State, b *fsm.Build) map[string][]fsm.TestReport {
	runs := make(map[string][]fsm.TestReport)
	looked := 0
	for other := range s.Builds(b.ID + sameCommit/2) {
		if looked++; looked > sameCommit {
			break
		}
		if other.Commit.Repo != b.Commit.Repo || other.Commit.SHA != b.Commit.SHA {
			continue
		}
		for j := range s.Jobs(other.ID) {
			for _, a := range j.Attempts {
				if a.Tests != nil {
					runs[j.Name] = append(runs[j.Name], *a.Tests)
				}
			}
		}
	}
	return runs
}

// flaky are a report's own, and those that another run of the commit contradicts.
func flaky(report fsm.TestReport, others []fsm.TestReport) []fsm.TestCase {
	var out []fsm.TestCase
	seen := make(map[[2]string]bool)
	for _, other := range append(others, report) {
		for _, c := range junit.Flaky(report, other) {
			if key := [2]string{c.Suite, c.Name}; !seen[key] {
				seen[key] = true
				out = append(out, c)
			}
		}
	}
	return out
}
