package api_test

import (
	"testing"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

type schedulePage struct{ Schedules []api.Schedule }

// scheduled plans a build of main whose file has these lines.
func (w *world) scheduled(repo string, lines ...pipeline.Schedule) fsm.BuildID {
	w.t.Helper()
	id := w.must(fsm.Command{AddBuild: &fsm.AddBuild{Key: "of " + repo, Commit: fsm.Commit{
		Repo: repo, CloneURL: "https://example.org/x.git", SHA: sha, Ref: "refs/heads/main", Event: fsm.EventPush,
	}}}).Build
	plan := fsm.JobID{Build: id}
	w.assign(plan, w.order[0])
	w.finish(plan, fsm.Outcome{Status: fsm.Passed, Plan: &pipeline.Pipeline{
		Schedules: lines,
		Jobs: []pipeline.Job{{
			Name: "test", Image: "alpine", Resources: pipeline.Resources{CPU: 100, Memory: 1 << 20}, Steps: []pipeline.Step{{Name: "step"}},
		}},
	}})
	return id
}

func TestSchedules(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	nightly := pipeline.Schedule{Cron: "30 3 * * *", Timezone: "Asia/Kolkata", Branch: "main", Inputs: map[string]string{"suite": "full"}}
	from := w.scheduled("acme/api", nightly)
	w.scheduled("acme/web",
		pipeline.Schedule{Cron: "@hourly", Timezone: "UTC", Branch: "main"},
		pipeline.Schedule{Cron: "@daily", Timezone: "UTC", Branch: "release"}) // not of this branch

	// At another node, which follows the log.
	n := w.nodes["b"]
	list := func(query string) []api.Schedule {
		var page schedulePage
		n.call("GET", "/api/v1/schedules"+query, "").want(200).into(&page)
		return page.Schedules
	}
	if got := list(""); len(got) != 2 {
		t.Fatalf("there are %+v", got)
	}
	if got := list("?repo=acme/nothing"); got == nil || len(got) != 0 {
		t.Errorf("of a repository without any: %+v", got)
	}
	before := time.Now()
	got := list("?repo=acme/api")
	if len(got) != 1 || got[0].Cron != nightly.Cron || got[0].Timezone != nightly.Timezone || got[0].Branch != "main" || got[0].Inputs["suite"] != "full" || got[0].From != from || got[0].SHA != sha {
		t.Fatalf("listed as %+v", got)
	}
	// Half past three in the zone, five and a half hours ahead, is 22:00 UTC.
	if next := got[0].Next; next == nil || next.Format("15:04 MST") != "22:00 UTC" || !next.After(before) || next.After(before.Add(24*time.Hour+time.Minute)) {
		t.Errorf("next at %v", next)
	}
	if got[0].Last != nil || got[0].Build != 0 {
		t.Errorf("it has never started a build, and did so at %v: %d", got[0].Last, got[0].Build)
	}

	due := time.Now().Add(24 * time.Hour).UTC().Truncate(time.Minute)
	started := w.must(fsm.Command{FireSchedule: &fsm.FireSchedule{Repo: "acme/api", Branch: "main", Spec: nightly, Due: due}}).Build
	got = list("?repo=acme/api")
	if started == 0 || got[0].Build != started || got[0].Last == nil || !got[0].Last.Equal(due) {
		t.Errorf("after build %d: %+v", started, got[0])
	}
}
