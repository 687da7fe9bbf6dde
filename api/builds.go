package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/codepr/narwhal/fsm"
)

const (
	maxBody      = 1 << 20 // of JSON, bytes
	bodyWithin   = 30 * time.Second
	maxList      = 200
	maxIdemKey   = 255
	byAPI        = "admin" // the only one there is who holds the token
	keyNamespace = "api:"
)

func (s *Server) buildRoutes(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "list-builds", Method: http.MethodGet, Path: prefix + "/builds", Tags: []string{"builds"},
		Summary: "List builds, the newest first", Middlewares: s.placed(withState),
	}, s.listBuilds)
	huma.Register(api, huma.Operation{
		OperationID: "show-build", Method: http.MethodGet, Path: prefix + "/builds/{id}", Tags: []string{"builds"},
		Summary: "Show a build with its jobs", Middlewares: s.placed(withState),
	}, s.showBuild)
	huma.Register(api, huma.Operation{
		OperationID: "create-build", Method: http.MethodPost, Path: prefix + "/builds", Tags: []string{"builds"}, DefaultStatus: http.StatusCreated,
		Summary: "Build a commit", Middlewares: s.placed(redirect), MaxBodyBytes: maxBody, BodyReadTimeout: bodyWithin,
	}, s.createBuild)
	huma.Register(api, huma.Operation{
		OperationID: "cancel-build", Method: http.MethodPost, Path: prefix + "/builds/{id}/cancel", Tags: []string{"builds"},
		Summary: "Cancel a build", Description: "What waits ends at once; what runs is told to stop.", Middlewares: s.placed(redirect),
	}, s.cancelBuild)
	huma.Register(api, huma.Operation{
		OperationID: "retry-build", Method: http.MethodPost, Path: prefix + "/builds/{id}/retry", Tags: []string{"builds"}, DefaultStatus: http.StatusCreated,
		Summary: "Build the same commit again", Middlewares: s.placed(redirect),
	}, s.retryBuild)
}

// ReadInput is what every read takes; route looks at it. It is exported, like all
// that is embedded in an input, since huma overlooks embedded fields that aren't.
type ReadInput struct {
	Consistent bool   `query:"consistent" doc:"Ask the leader, which makes sure that it still is"`
	Index      uint64 `query:"index" doc:"Wait until the answer holds this index, such as an earlier write's X-Narwhal-Index"`
}

type buildList struct {
	Body struct {
		Builds []Build     `json:"builds"`
		Next   fsm.BuildID `json:"next,omitempty" doc:"Give it as before for the next page; absent on the last one"`
	}
}

func (s *Server) listBuilds(ctx context.Context, in *struct {
	ReadInput
	Before fsm.BuildID `query:"before" doc:"Only builds with a smaller number"`
	Limit  int         `query:"limit" minimum:"1" maximum:"200" default:"50"`
	Repo   string      `query:"repo"`
	Status fsm.Status  `query:"status" enum:"queued,running,passed,failed,errored,canceled"`
	Branch string      `query:"branch"`
},
) (*buildList, error) {
	out := &buildList{}
	out.Body.Builds = []Build{}
	for b := range stateOf(ctx).Builds(in.Before) {
		if in.Repo != "" && b.Commit.Repo != in.Repo || in.Status != "" && b.Status != in.Status ||
			in.Branch != "" && b.Commit.Branch() != in.Branch {
			continue
		}
		if n := len(out.Body.Builds); n == in.Limit {
			out.Body.Next = out.Body.Builds[n-1].ID
			break
		}
		out.Body.Builds = append(out.Body.Builds, buildView(b))
	}
	return out, nil
}

type buildInput struct {
	ReadInput
	ID fsm.BuildID `path:"id"`
}

type buildOutput struct {
	Index uint64 `header:"X-Narwhal-Index"`
	Body  Build
}

func (s *Server) showBuild(ctx context.Context, in *buildInput) (*buildOutput, error) {
	state := stateOf(ctx)
	b, ok := state.Build(in.ID)
	if !ok {
		return nil, noBuild(in.ID)
	}
	return &buildOutput{Index: state.Index(), Body: buildWithJobs(state, b)}, nil
}

func noBuild(id fsm.BuildID) *Problem {
	return problem(http.StatusNotFound, CodeNotFound, "there is no build %d: it never was, or it is older than the history that is kept", id)
}

// Idempotency lets a client that got no answer send its request again.
type Idempotency struct {
	Key string `header:"Idempotency-Key" maxLength:"255" doc:"The same key makes one build, however often it is sent"`
}

// key is what the build is known by: the client's own, or a random one.
func (i Idempotency) key() string {
	if i.Key == "" {
		return keyNamespace + randomText(16)
	}
	sum := sha256.Sum256([]byte(i.Key))
	return keyNamespace + hex.EncodeToString(sum[:16])
}

// NewBuild is what a build is started by hand with.
type NewBuild struct {
	Repo     string `json:"repo" doc:"The repository's name" example:"acme/api"`
	CloneURL string `json:"clone_url" doc:"Where git fetches it from" example:"https://github.com/acme/api.git"`
	SHA      string `json:"sha" doc:"40 or 64 hexadecimal digits"`
	Ref      string `json:"ref,omitempty" default:"refs/heads/main" example:"refs/heads/main"`
	Message  string `json:"message,omitempty"`
	Author   string `json:"author,omitempty"`
	Before   string `json:"before,omitempty" doc:"The SHA that changed files are counted from"`

	Inputs map[string]string `json:"inputs,omitempty" doc:"What its narwhal.yml asks for"`
}

func (s *Server) createBuild(ctx context.Context, in *struct {
	Idempotency
	Body NewBuild
},
) (*buildOutput, error) {
	b := in.Body
	return s.addBuild(ctx, fsm.AddBuild{Key: in.key(), Commit: fsm.Commit{
		Repo: b.Repo, CloneURL: b.CloneURL, SHA: b.SHA, Ref: b.Ref, Event: fsm.EventManual, Message: b.Message, Author: b.Author,
		Before: b.Before,
	}, Inputs: b.Inputs})
}

func (s *Server) retryBuild(ctx context.Context, in *struct {
	Idempotency
	ID fsm.BuildID `path:"id"`
},
) (*buildOutput, error) {
	b, ok := stateOf(ctx).Build(in.ID)
	if !ok {
		return nil, noBuild(in.ID)
	}
	return s.addBuild(ctx, fsm.AddBuild{Key: in.key(), Commit: b.Commit, RetryOf: b.ID, Inputs: b.Inputs})
}

// addBuild proposes a build and shows what came of it.
func (s *Server) addBuild(ctx context.Context, c fsm.AddBuild) (*buildOutput, error) {
	if c.RetryOf == 0 {
		if err := errors.Join(s.config.Check(c.Commit), checkInputs(c.Inputs)); err != nil {
			return nil, problem(http.StatusUnprocessableEntity, CodeInvalid, "%s", err)
		}
	}
	result, err := s.deps.Proposer.Propose(ctx, fsm.Command{AddBuild: &c})
	if err != nil {
		return nil, s.asProblem(err)
	}
	state := s.deps.State.State()
	b, ok := state.Build(result.Build)
	if !ok {
		return nil, noBuild(result.Build)
	}
	if result.Known && (b.Commit.Repo != c.Commit.Repo || b.Commit.SHA != c.Commit.SHA || b.Commit.Ref != c.Commit.Ref || b.RetryOf != c.RetryOf) {
		return nil, problem(http.StatusConflict, CodeConflict, "the Idempotency-Key was used for build %d, of another commit: use a new one", b.ID)
	}
	return &buildOutput{Index: result.Index, Body: buildWithJobs(state, b)}, nil
}

// What inputs may come to: they are kept with the build.
const (
	maxInputs     = 100
	maxInputName  = 100
	maxInputValue = 4 << 10 // bytes
)

// checkInputs bounds inputs; whether they are the file's is seen when it is planned.
func checkInputs(inputs map[string]string) error {
	if len(inputs) > maxInputs {
		return fmt.Errorf("inputs: %d of them: at most %d are taken", len(inputs), maxInputs)
	}
	for name, value := range inputs {
		switch {
		case name == "" || len(name) > maxInputName:
			return fmt.Errorf("inputs: a name of %d bytes: want 1 to %d", len(name), maxInputName)
		case len(value) > maxInputValue:
			return fmt.Errorf("inputs.%s: %d bytes: at most %d are taken", name, len(value), maxInputValue)
		}
	}
	return nil
}

func (s *Server) cancelBuild(ctx context.Context, in *struct {
	ID fsm.BuildID `path:"id"`
},
) (*buildOutput, error) {
	result, err := s.deps.Proposer.Propose(ctx, fsm.Command{CancelBuild: &fsm.CancelBuild{Build: in.ID, By: byAPI}})
	switch {
	case errors.Is(err, fsm.ErrUnknownBuild):
		return nil, noBuild(in.ID)
	case errors.Is(err, fsm.ErrEnded):
		return nil, problem(http.StatusConflict, CodeConflict, "build %d has ended; it never changes again", in.ID)
	case err != nil:
		return nil, s.asProblem(err)
	}
	state := s.deps.State.State()
	b, ok := state.Build(in.ID)
	if !ok {
		return nil, noBuild(in.ID)
	}
	return &buildOutput{Index: result.Index, Body: buildWithJobs(state, b)}, nil
}

// asProblem says what a failed proposal means to who asked for it.
func (s *Server) asProblem(err error) *Problem {
	var p *Problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, ErrNotLeader):
		return problem(http.StatusServiceUnavailable, CodeNotLeader, "leadership has just moved to another node: try again")
	case errors.Is(err, ErrUncertain):
		return problem(http.StatusServiceUnavailable, CodeUncertain,
			"leadership was lost while it was written, so it may be done or not: look, or try again with the same Idempotency-Key")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return problem(http.StatusServiceUnavailable, CodeUncertain, "no majority confirmed it in time, so it may be done or not: look, or try again with the same Idempotency-Key")
	case errors.Is(err, ErrBucket):
		return problem(http.StatusServiceUnavailable, CodeBucketDown, "%s", err)
	case errors.Is(err, fsm.ErrHeldBack):
		return problem(http.StatusConflict, CodeConflict, "%s", err)
	case errors.Is(err, fsm.ErrUnknownNode):
		return problem(http.StatusNotFound, CodeNotFound, "%s", err)
	case errors.Is(err, fsm.ErrInvalid):
		return problem(http.StatusUnprocessableEntity, CodeInvalid, "%s", err)
	default:
		s.log.Error("answer request", "err", err)
		return problem(http.StatusInternalServerError, CodeInternal, "an error inside narwhal: its log has it")
	}
}

func (s *Server) writeError(w http.ResponseWriter, err error) { s.asProblem(err).write(w) }
