package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/codepr/narwhal/fsm"
)

func (s *Server) jobRoutes(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "list-jobs", Method: http.MethodGet, Path: prefix + "/jobs", Tags: []string{"jobs"},
		Summary: "List jobs, the newest build's first", Middlewares: s.placed(withState),
	}, s.listJobs)
	huma.Register(api, huma.Operation{
		OperationID: "show-job", Method: http.MethodGet, Path: prefix + "/jobs/{id}", Tags: []string{"jobs"},
		Summary: "Show a job with its attempts", Middlewares: s.placed(withState),
	}, s.showJob)
	huma.Register(api, huma.Operation{
		OperationID: "explain-job", Method: http.MethodGet, Path: prefix + "/jobs/{id}/why", Tags: []string{"jobs"},
		Summary: "Say, per node, why a job does not run", Description: "The leader answers; other nodes pass the request on.",
		Middlewares: s.placed(atLeader),
	}, s.explainJob)
	huma.Register(api, huma.Operation{
		OperationID: "approve-job", Method: http.MethodPost, Path: prefix + "/jobs/{id}/approve", Tags: []string{"jobs"},
		Summary: "Let a job, or a step of it, go on that waits for a person", Middlewares: s.placed(redirect),
	}, func(ctx context.Context, in *decisionInput) (*jobOutput, error) { return s.decideJob(ctx, in, true) })
	huma.Register(api, huma.Operation{
		OperationID: "reject-job", Method: http.MethodPost, Path: prefix + "/jobs/{id}/reject", Tags: []string{"jobs"},
		Summary: "End a job that waits for a person, or fail its step", Middlewares: s.placed(redirect),
	}, func(ctx context.Context, in *decisionInput) (*jobOutput, error) { return s.decideJob(ctx, in, false) })
}

type jobList struct {
	Body struct {
		Jobs []Job       `json:"jobs"`
		Next fsm.BuildID `json:"next,omitempty" doc:"Give it as before for the next page; absent on the last one"`
	}
}

// listJobs ends a page after the build that fills it, so that a page is a little
// longer than its limit, and no build's jobs are on two.
func (s *Server) listJobs(ctx context.Context, in *struct {
	ReadInput
	Before fsm.BuildID `query:"before" doc:"Only jobs of builds with a smaller number"`
	Limit  int         `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"A page ends with the build that fills it"`
	Status fsm.Status  `query:"status" enum:"blocked,held,queued,assigned,running,passed,failed,errored,canceled,skipped"`
	Node   string      `query:"node" doc:"The ID or name of the node of the current attempt"`
	Build  fsm.BuildID `query:"build"`
},
) (*jobList, error) {
	out := &jobList{}
	out.Body.Jobs = []Job{}
	state := stateOf(ctx)
	node := nodeID(state, in.Node)
	for b := range state.Builds(in.Before) {
		if in.Build != 0 && b.ID != in.Build {
			continue
		}
		if len(out.Body.Jobs) >= in.Limit {
			out.Body.Next = b.ID + 1
			break
		}
		for j := range state.Jobs(b.ID) {
			a, _ := j.Current()
			if in.Status != "" && j.Status != in.Status || in.Node != "" && a.Node != node {
				continue
			}
			out.Body.Jobs = append(out.Body.Jobs, jobView(state, j))
		}
	}
	return out, nil
}

// nodeID finds the node that people mean by its ID or its name.
func nodeID(s *fsm.State, text string) fsm.NodeID {
	if _, ok := s.Node(fsm.NodeID(text)); ok {
		return fsm.NodeID(text)
	}
	for n := range s.Nodes() {
		if n.Name == text {
			return n.ID
		}
	}
	return fsm.NodeID(text)
}

type jobInput struct {
	ReadInput
	ID string `path:"id" pattern:"^[0-9]+\\.[0-9]+$" example:"42.1"`
}

func (s *Server) showJob(ctx context.Context, in *jobInput) (*struct{ Body Job }, error) {
	state := stateOf(ctx)
	j, err := findJob(state, in.ID)
	if err != nil {
		return nil, err
	}
	return &struct{ Body Job }{jobView(state, j)}, nil
}

func findJob(s *fsm.State, text string) (*fsm.Job, error) {
	id, err := fsm.ParseJobID(text)
	if err != nil {
		return nil, problem(http.StatusUnprocessableEntity, CodeInvalid, "%s", err)
	}
	j, ok := s.Job(id)
	if !ok {
		return nil, problem(http.StatusNotFound, CodeNotFound, "there is no job %s: see the jobs of build %d", id, id.Build)
	}
	return j, nil
}

// Explanation is why a job does not run.
type Explanation struct {
	Job     fsm.JobID    `json:"job"`
	Status  fsm.Status   `json:"status"`
	Reasons []fsm.Reason `json:"reasons"`
}

func (s *Server) explainJob(ctx context.Context, in *jobInput) (*struct{ Body Explanation }, error) {
	j, err := findJob(stateOf(ctx), in.ID)
	if err != nil {
		return nil, err
	}
	reasons, err := s.deps.Explainer.Why(ctx, j.ID)
	if err != nil {
		return nil, s.asProblem(err)
	}
	return &struct{ Body Explanation }{Explanation{Job: j.ID, Status: j.Status, Reasons: reasons}}, nil
}

type decisionInput struct {
	ID      string `path:"id" pattern:"^[0-9]+\\.[0-9]+$" example:"42.1"`
	Attempt int    `query:"attempt" minimum:"0" doc:"With a step: the attempt that is decided on. The decision is refused where another one is on its way by then; by default it is the one that this node knows of"`
	Step    string `query:"step" maxLength:"100" doc:"Decide on this manual step of the job's current attempt, instead of on the job"`
}

// undecided says why a decision was refused.
func (s *Server) undecided(err error, j *fsm.Job, step string) error {
	switch {
	case errors.Is(err, fsm.ErrNotHeld):
		if a, ok := j.Current(); ok && len(a.Asks()) > 0 {
			return problem(http.StatusConflict, CodeConflict, "job %s is %s, and its step %s waits for a person: name the step", j.ID, j.Status, a.Asks()[0])
		}
		return problem(http.StatusConflict, CodeConflict, "job %s does not wait for a person: it is %s", j.ID, j.Status)
	case errors.Is(err, fsm.ErrNoStep):
		return problem(http.StatusNotFound, CodeNotFound, "job %s has no step %q: see the steps of the job", j.ID, step)
	case errors.Is(err, fsm.ErrStale):
		return problem(http.StatusConflict, CodeConflict, "step %q of job %s: another attempt is on its way by now, which asks anew: see the job, then decide on that", step, j.ID)
	case errors.Is(err, fsm.ErrNotManual), errors.Is(err, fsm.ErrDecided), errors.Is(err, fsm.ErrNotPlaced), errors.Is(err, fsm.ErrJobEnded):
		return problem(http.StatusConflict, CodeConflict, "step %q of job %s: %s; the job is %s", step, j.ID, err, j.Status)
	}
	return s.asProblem(err)
}

type jobOutput struct {
	Index uint64 `header:"X-Narwhal-Index"`
	Body  Job
}

func (s *Server) decideJob(ctx context.Context, in *decisionInput, approve bool) (*jobOutput, error) {
	j, err := findJob(stateOf(ctx), in.ID)
	if err != nil {
		return nil, err
	}
	decide := fsm.Command{DecideJob: &fsm.DecideJob{Job: j.ID, Approve: approve, By: byAPI}}
	if in.Step != "" {
		n := in.Attempt
		if a, ok := j.Current(); ok && n == 0 {
			n = a.N
		}
		decide = fsm.Command{DecideStep: &fsm.DecideStep{Job: j.ID, Step: in.Step, N: n, Approve: approve, By: byAPI}}
	}
	result, err := s.deps.Proposer.Propose(ctx, decide)
	if err != nil {
		return nil, s.undecided(err, j, in.Step)
	}
	state := s.deps.State.State()
	if j, err = findJob(state, in.ID); err != nil {
		return nil, err
	}
	return &jobOutput{Index: result.Index, Body: jobView(state, j)}, nil
}
