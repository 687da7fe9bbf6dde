package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// Schedule is a line of a file's schedule, with its times.
type Schedule struct {
	Repo     string            `json:"repo"`
	Branch   string            `json:"branch"`
	Cron     string            `json:"cron"`
	Timezone string            `json:"timezone"`
	Inputs   map[string]string `json:"inputs,omitempty"`
	SHA      string            `json:"sha" doc:"The commit that is built: the newest of the branch"`
	From     fsm.BuildID       `json:"from" doc:"The build whose file says so"`
	Next     *time.Time        `json:"next,omitempty" doc:"When it starts a build next; absent where this version can't read it"`
	Last     *time.Time        `json:"last,omitempty" doc:"When it last started a build; absent where it never has, or where that build is not kept"`
	Build    fsm.BuildID       `json:"build,omitempty" doc:"The build that it started then"`
}

func (s *Server) scheduleRoutes(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "list-schedules", Method: http.MethodGet, Path: prefix + "/schedules", Tags: []string{"builds"},
		Summary: "List what the clock starts, and when", Middlewares: s.placed(withState),
	}, s.listSchedules)
	huma.Register(api, huma.Operation{
		OperationID: "remove-schedules", Method: http.MethodDelete, Path: prefix + "/schedules", Tags: []string{"builds"},
		Summary: "Forget a branch's schedules, until its next commit brings some", DefaultStatus: http.StatusNoContent, Middlewares: s.placed(redirect),
	}, s.removeSchedules)
}

func (s *Server) removeSchedules(ctx context.Context, in *struct {
	Repo   string `query:"repo" required:"true" minLength:"1" maxLength:"200"`
	Branch string `query:"branch" required:"true" minLength:"1" maxLength:"255"`
},
) (*empty, error) {
	for line := range stateOf(ctx).Schedules() {
		if line.Repo == in.Repo && line.Branch == in.Branch {
			return s.change(ctx, fsm.Command{DropSchedules: &fsm.DropSchedules{Repo: in.Repo, Branch: in.Branch, By: byAPI, Pending: true}})
		}
	}
	return nil, problem(http.StatusNotFound, CodeNotFound, "branch %.100q of %.100q has no schedules: `narwhal schedules` lists what there is", in.Branch, in.Repo)
}

type scheduleList struct {
	Body struct {
		Schedules []Schedule `json:"schedules"`
	}
}

func (s *Server) listSchedules(ctx context.Context, in *struct {
	ReadInput
	Repo string `query:"repo" doc:"Only this repository's"`
},
) (*scheduleList, error) {
	out := &scheduleList{}
	out.Body.Schedules = []Schedule{}
	state, now := stateOf(ctx), time.Now()
	for line := range state.Schedules() {
		if in.Repo == "" || line.Repo == in.Repo {
			out.Body.Schedules = append(out.Body.Schedules, scheduleView(state, line, now))
		}
	}
	return out, nil
}

func scheduleView(s *fsm.State, line *fsm.Schedule, now time.Time) Schedule {
	v := Schedule{
		Repo: line.Repo, Branch: line.Branch, Cron: line.Spec.Cron, Timezone: line.Spec.Timezone, Inputs: line.Spec.Inputs,
		SHA: line.Commit.SHA, From: line.Build,
	}
	if next := nextTime(&line.Spec, now); !next.IsZero() {
		v.Next = &next
	}
	// What has dealt with the newest time has started a build, but for a line that is
	// new: its time is that of the commit that brought it.
	fired := fsm.FireSchedule{Repo: line.Repo, Branch: line.Branch, Spec: line.Spec, Due: line.Last}
	if b, ok := s.BuildByKey(fired.Key()); ok {
		v.Last, v.Build = &line.Last, b.ID
	}
	return v
}

// nextTime is the first time after now, in UTC; zero where the line can't be read.
func nextTime(spec *pipeline.Schedule, now time.Time) time.Time {
	times, err := pipeline.ParseCron(spec.Cron)
	if err != nil {
		return time.Time{}
	}
	zone, err := time.LoadLocation(spec.Timezone)
	if err != nil {
		return time.Time{}
	}
	at := times.Next(now.In(zone))
	if at.IsZero() {
		return at
	}
	return at.UTC()
}
