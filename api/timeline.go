package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/codepr/narwhal/fsm"
)

// Timeline is what happened to a build and its jobs, in the order of the log.
type Timeline struct {
	Build   fsm.BuildID `json:"build"`
	LeftOut int         `json:"left_out,omitempty" doc:"How many moments of the middle are left out, after the first 256: a timeline is bounded"`
	Moments []Moment    `json:"moments" doc:"What came before narwhal kept timelines is missing"`
}

// Moment is one transition of a build or of a job.
type Moment struct {
	Index      uint64      `json:"index" doc:"Of the log entry that brought it"`
	Term       uint64      `json:"term" doc:"Of that entry: each leader has another"`
	At         time.Time   `json:"at"`
	What       string      `json:"what" enum:"accepted,planned,queued,held,approved,rejected,assigned,started,finished,lost,returned,expired,retried,canceled,replaced,moved,ended"`
	Job        *fsm.JobID  `json:"job,omitempty" doc:"Absent where it is of the build as a whole"`
	Name       string      `json:"name,omitempty" doc:"The job's"`
	Attempt    int         `json:"attempt,omitempty"`
	Node       fsm.NodeID  `json:"node,omitempty"`
	NodeName   string      `json:"node_name,omitempty"`
	Status     fsm.Status  `json:"status,omitempty" doc:"How the attempt, the job or the build ended"`
	Cause      fsm.Cause   `json:"cause,omitempty"`
	Reason     string      `json:"reason,omitempty"`
	By         string      `json:"by,omitempty" doc:"Who asked for it; of accepted, the event that did"`
	ReplacedBy fsm.BuildID `json:"replaced_by,omitempty"`
}

func (s *Server) timelineRoutes(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "build-timeline", Method: http.MethodGet, Path: prefix + "/builds/{id}/timeline", Tags: []string{"builds"},
		Summary: "Show what happened to a build, when, where and why", Middlewares: s.placed(withState),
	}, s.buildTimeline)
	huma.Register(api, huma.Operation{
		OperationID: "list-audit", Method: http.MethodGet, Path: prefix + "/audit", Tags: []string{"nodes"},
		Summary: "List who did what, the newest first", Description: "The newest 10,000 are kept.", Middlewares: s.placed(withState),
	}, s.listAudit)
}

func (s *Server) buildTimeline(ctx context.Context, in *buildInput) (*struct{ Body Timeline }, error) {
	state := stateOf(ctx)
	b, ok := state.Build(in.ID)
	if !ok {
		return nil, noBuild(in.ID)
	}
	left, moments := state.Timeline(b)
	out := Timeline{Build: b.ID, LeftOut: left, Moments: []Moment{}}
	for m := range moments {
		v := Moment{
			Index: m.Index, Term: m.Term, At: m.At, What: m.Turn.String(), Attempt: m.N, Node: m.Node,
			Status: m.Status, Cause: m.Cause, Reason: m.Message, By: m.By, ReplacedBy: m.ReplacedBy,
		}
		if m.Job != nil {
			v.Job, v.Name = &m.Job.ID, m.Job.Name
		}
		if n, ok := state.Node(m.Node); ok {
			v.NodeName = n.Name
		}
		out.Moments = append(out.Moments, v)
	}
	return &struct{ Body Timeline }{out}, nil
}

// AuditLog is a page of who did what.
type AuditLog struct {
	Deeds []fsm.Deed `json:"deeds"`
	Next  uint64     `json:"next,omitempty" doc:"before of the next page; absent on the last"`
}

func (s *Server) listAudit(ctx context.Context, in *struct {
	ReadInput
	Before uint64 `query:"before" doc:"Only what has a smaller seq"`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
},
) (*struct{ Body AuditLog }, error) {
	out := AuditLog{Deeds: []fsm.Deed{}}
	for d := range stateOf(ctx).Deeds(in.Before) {
		if n := len(out.Deeds); n == in.Limit {
			out.Next = out.Deeds[n-1].Seq
			break
		}
		out.Deeds = append(out.Deeds, *d)
	}
	return &struct{ Body AuditLog }{out}, nil
}
