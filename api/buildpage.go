package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/codepr/narwhal/fsm"
)

const (
	maxExplained  = 6           // jobs whose waiting a page explains; the leader is asked for each
	explainWithin = time.Second // in all: the page does not wait for a leader that is away
	maxReasons    = 8           // that are shown of a job
	maxPageTests  = 10          // failed tests that are shown of a job
	maxForm       = 4 << 10     // bytes
)

// buildPage is a build as a page.
type buildPage struct {
	Build Build
	Graph *graph
	Jobs  []jobCard
	Live  bool
	Key   string // makes one build of a form that is sent twice
}

// jobCard is a job on its build's page.
type jobCard struct {
	Job
	Current   Attempt
	Steps     []logStep
	Blockers  []string // the jobs that it waits for
	Reasons   []fsm.Reason
	More      int    // reasons that are left out
	Unknown   string // why it can't be said what it waits for
	Tests     *fsm.TestReport
	Failures  []fsm.TestCase
	Artifacts *fsm.Artifacts
}

func (s *Server) buildPage(w http.ResponseWriter, r *http.Request) {
	state := stateOf(r.Context())
	id, _ := strconv.ParseUint(r.PathValue("id"), 10, 64) // there is no build 0
	b, ok := state.Build(fsm.BuildID(id))
	if !ok {
		s.problemPage(w, noBuild(fsm.BuildID(id)))
		return
	}
	v := buildPage{Build: buildWithJobs(state, b), Live: !b.Status.Terminal(), Key: randomText(12)}
	v.Graph = drawGraph(v.Build.Jobs)
	status := make(map[string]fsm.Status)
	for _, j := range v.Build.Jobs {
		status[j.Name] = j.Status
	}
	ctx, cancel := context.WithTimeout(r.Context(), explainWithin)
	defer cancel()
	explained := 0
	for j := range state.Jobs(b.ID) {
		card := jobCard{Job: jobView(state, j)}
		a, _ := j.Current()
		card.Steps = stepsOf(card.Job.Steps, a, -1)
		if n := len(card.Attempts); n > 0 {
			card.Current = card.Attempts[n-1]
		}
		for _, need := range card.Needs {
			if !status[need].Terminal() {
				card.Blockers = append(card.Blockers, need)
			}
		}
		if j.Status == fsm.Queued && explained < maxExplained {
			explained++
			s.explain(ctx, &card)
		}
		card.results()
		v.Jobs = append(v.Jobs, card)
	}
	if n := len(v.Jobs); n > 1 && v.Jobs[0].Status == fsm.Passed { // the plan: who looks at jobs wants those that it brought
		v.Jobs = append(v.Jobs[1:n:n], v.Jobs[0])
	}
	s.show(w, http.StatusOK, "build", fmt.Sprintf("Build %d", b.ID), v)
}

// results are what the newest attempt that has some has left.
func (c *jobCard) results() {
	for _, a := range c.Attempts {
		if a.Tests != nil {
			c.Tests = a.Tests
		}
		if a.Artifacts != nil {
			c.Artifacts = a.Artifacts
		}
	}
	if c.Tests != nil {
		c.Failures = c.Tests.Failures[:min(len(c.Tests.Failures), maxPageTests)]
	}
}

func (s *Server) explain(ctx context.Context, c *jobCard) {
	reasons, err := s.why(ctx, c.ID)
	if err != nil {
		c.Unknown = fmt.Sprintf("What it waits for can't be said now: %s.", err)
		return
	}
	c.More = max(0, len(reasons)-maxReasons)
	c.Reasons = reasons[:len(reasons)-c.More]
}

// why asks the leader, wherever it is, why a job does not run.
func (s *Server) why(ctx context.Context, job fsm.JobID) ([]fsm.Reason, error) {
	leader, _ := s.deps.Cluster.Leader()
	switch leader.ID {
	case "":
		return nil, errors.New("the cluster has no leader")
	case s.deps.Cluster.Self():
		return s.deps.Explainer.Why(ctx, job)
	}
	target := fmt.Sprintf("http://%s%s/jobs/%s/why", leader.ID, prefix, job)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+s.deps.Auth.Token())
	req.Header.Set(headerPassed, string(s.deps.Cluster.Self()))
	resp, err := s.deps.Transport.Node(leader.ID).RoundTrip(req)
	if err != nil {
		s.log.Debug("ask the leader why a job waits", "job", job, "leader", leader.ID, "err", err)
		return nil, fmt.Errorf("the leader, node %s, does not answer", s.nodeName(leader.ID))
	}
	defer func() { _ = resp.Body.Close() }()
	var x Explanation
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the leader, node %s, answers %s", s.nodeName(leader.ID), resp.Status)
	}
	if err := json.NewDecoder(http.MaxBytesReader(nil, resp.Body, maxBody)).Decode(&x); err != nil {
		return nil, fmt.Errorf("read what the leader says: %w", err)
	}
	return x.Reasons, nil
}

// decision is what a form asks a person for: a job, or a step of its attempt.
type decision struct {
	Job     fsm.JobID
	Attempt int
	Step    string
}

// formRoutes are what the buttons of pages do. A write is the leader's, as it is at the
// API; who pressed the button is shown the page as it is after it.
func (s *Server) formRoutes() {
	form := func(path string, do func(r *http.Request) (back string, index uint64, err error)) {
		s.mux.HandleFunc("POST "+path, s.raw(redirect, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
			if err := r.ParseForm(); err != nil {
				s.problemPage(w, problem(http.StatusBadRequest, CodeInvalid, "the form can't be read: %s", err))
				return
			}
			back, index, err := do(r)
			if err != nil {
				s.problemPage(w, s.asProblem(err))
				return
			}
			http.Redirect(w, r, back+"?index="+strconv.FormatUint(index, 10), http.StatusSeeOther)
		}))
	}
	build := func(r *http.Request) fsm.BuildID {
		id, _ := strconv.ParseUint(r.PathValue("id"), 10, 64) // there is no build 0
		return fsm.BuildID(id)
	}
	of := func(out *buildOutput, err error) (string, uint64, error) {
		if err != nil {
			return "", 0, err
		}
		return fmt.Sprintf("/builds/%d", out.Body.ID), out.Index, nil
	}
	form("/builds/{id}/cancel", func(r *http.Request) (string, uint64, error) {
		return of(s.cancelBuild(r.Context(), &struct {
			ID fsm.BuildID `path:"id"`
		}{build(r)}))
	})
	form("/builds/{id}/retry", func(r *http.Request) (string, uint64, error) {
		return of(s.retryBuild(r.Context(), &struct {
			Idempotency
			ID fsm.BuildID `path:"id"`
		}{Idempotency{Key: cut(r.PostFormValue("key"), maxIdemKey)}, build(r)}))
	})
	for path, approve := range map[string]bool{"/jobs/{id}/approve": true, "/jobs/{id}/reject": false} {
		form(path, func(r *http.Request) (string, uint64, error) {
			n, _ := strconv.Atoi(r.PostFormValue("attempt")) // 0 is the current one
			out, err := s.decideJob(r.Context(), &decisionInput{ID: r.PathValue("id"), Step: r.PostFormValue("step"), Attempt: max(n, 0)}, approve)
			if err != nil {
				return "", 0, err
			}
			return fmt.Sprintf("/builds/%d", out.Body.Build), out.Index, nil
		})
	}
}

// artifactURL is where all that an attempt has left can be had.
func artifactURL(job fsm.JobID) string {
	return (&url.URL{Path: prefix + "/jobs/" + job.String() + "/artifacts/archive"}).String()
}

// size is a number of bytes for people.
func size(bytes int64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	v := float64(bytes)
	for i, unit := range units {
		if v < 1024 || i == len(units)-1 {
			if i == 0 {
				return fmt.Sprintf("%d %s", bytes, unit)
			}
			return fmt.Sprintf("%.1f %s", v, unit)
		}
		v /= 1024
	}
	return ""
}
