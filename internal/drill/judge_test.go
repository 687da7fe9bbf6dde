package drill

import (
	"testing"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
)

var (
	noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	job  = fsm.JobID{Build: 7, Seq: 1}
)

// happened is a moment of the job's first attempt, seconds after noon.
func happened(turn fsm.Turn, term uint64, seconds float64) api.Moment {
	return api.Moment{What: turn.String(), Term: term, At: noon.Add(time.Duration(seconds * float64(time.Second))), Job: &job, Attempt: 1}
}

// tried is a build whose job had attempts that ended so, on the nodes named.
func tried(status fsm.Status, moments []api.Moment, attempts ...api.Attempt) history {
	return history{api.Build{ID: 7, Status: status, Jobs: []api.Job{{ID: job, Attempts: attempts}}}, moments}
}

func TestJudge(t *testing.T) {
	passed := api.Attempt{N: 1, Node: "other", Status: fsm.Passed}
	lost := api.Attempt{N: 1, Node: "other", Status: fsm.Errored, Cause: fsm.CauseNodeLost}
	onVictim := lost
	onVictim.Node = "victim"
	again := api.Attempt{N: 2, Node: "other", Status: fsm.Passed}
	across := []api.Moment{happened(fsm.TurnStarted, 3, -1), happened(fsm.TurnLost, 4, 1)}
	for _, tt := range []struct {
		name      string
		build     history
		takesJobs bool

		lost, doubled, disturbed int
	}{
		{name: "a job that noticed nothing", build: tried(fsm.Passed, []api.Moment{happened(fsm.TurnStarted, 3, -1), happened(fsm.TurnFinished, 4, 1)}, passed)},
		{name: "a build that is lost", build: tried(fsm.Errored, nil), lost: 1},
		{name: "two results", build: tried(fsm.Passed, nil, passed, again), doubled: 1},
		{name: "a job elsewhere that had to run again", build: tried(fsm.Passed, across, lost, again), disturbed: 1},
		{name: "the victim's, which runs on without it", build: tried(fsm.Passed, across, onVictim, again), disturbed: 1},
		{name: "the victim's, which goes with it", build: tried(fsm.Passed, across, onVictim, again), takesJobs: true},
		{name: "one that was over before", build: tried(fsm.Passed, []api.Moment{happened(fsm.TurnStarted, 3, -2), happened(fsm.TurnFinished, 3, -1)}, lost, again)},
		{name: "one that started after", build: tried(fsm.Passed, []api.Moment{happened(fsm.TurnStarted, 4, 1), happened(fsm.TurnLost, 4, 2)}, lost, again)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, f := range map[string]fault{
				"by terms":     {victim: "victim", takesJobs: tt.takesJobs, term: 3, at: noon.Add(time.Hour)},
				"by the clock": {victim: "victim", takesJobs: tt.takesJobs, at: noon},
			} {
				var r Round
				r.judge(tt.build, f)
				if r.Builds != 1 || r.Lost != tt.lost || r.Doubled != tt.doubled || r.Disturbed != tt.disturbed {
					t.Errorf("%s: %+v", name, r)
				}
			}
		})
	}
}

func TestDispatched(t *testing.T) {
	b := history{moments: []api.Moment{
		{What: "accepted", Term: 3, At: noon}, happened(fsm.TurnAssigned, 3, 1), happened(fsm.TurnStarted, 4, 2),
		happened(fsm.TurnAssigned, 4, 4), happened(fsm.TurnAssigned, 4, 3),
	}}
	if got := term([]history{b}); got != 3 {
		t.Errorf("accepted in term %d", got)
	}
	if at, ok := dispatched([]history{b}, 3); !ok || at.Sub(noon) != 3*time.Second {
		t.Errorf("dispatched at %s, %v", at, ok)
	}
	if at, ok := dispatched([]history{b}, 4); ok {
		t.Errorf("dispatched at %s, by nobody", at)
	}
}

func TestReruns(t *testing.T) {
	b := tried(fsm.Passed, nil,
		api.Attempt{N: 1, Node: "victim", Status: fsm.Errored, Cause: fsm.CauseNodeLost, EndedAt: noon},
		api.Attempt{N: 2, Node: "other", Status: fsm.Passed, StartedAt: noon.Add(time.Second)})
	if got := reruns(b, "victim"); len(got) != 1 || !got[0].lost.Equal(noon) || got[0].started.Sub(noon) != time.Second {
		t.Errorf("%+v", got)
	}
	if got := reruns(b, "other"); got != nil {
		t.Errorf("of a node that lost nothing: %+v", got)
	}
}

func TestSpread(t *testing.T) {
	var values []time.Duration
	for n := 40; n > 0; n-- {
		values = append(values, time.Duration(n)*time.Second)
	}
	if got := *newSpread(values); got != (spread{N: 40, P50: 20, P95: 38, Max: 40}) {
		t.Errorf("%+v", got)
	}
	if newSpread(nil) != nil {
		t.Error("a spread of nothing")
	}
}
