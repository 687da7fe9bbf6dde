package chaos

import (
	"testing"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
)

// TestJudge gives the judge builds that broke a promise. None has passed, so that no log is
// looked for.
func TestJudge(t *testing.T) {
	id := fsm.JobID{Build: 5, Seq: 1}
	lostNode := api.Attempt{N: 1, Status: fsm.Errored, Cause: fsm.CauseNodeLost}
	again := lostNode
	again.N = 2
	build := func(status fsm.Status, attempts ...api.Attempt) api.Build {
		cause := fsm.Cause("")
		if len(attempts) > 0 {
			cause = attempts[len(attempts)-1].Cause
		}
		return api.Build{ID: 5, Status: status, Jobs: []api.Job{{ID: id, Kind: fsm.KindRun, Status: status, Cause: cause, Attempts: attempts}}}
	}
	const shared, alone = 0, 3 // kinds
	for _, tt := range []struct {
		name  string
		order order
		build api.Build
		ran   map[string]int

		lost, doubled, canceled, givenUp int
	}{
		{name: "quarantined", build: build(fsm.Errored, lostNode, again), ran: map[string]int{"5.1 1": 1, "5.1 2": 1}, givenUp: 1},
		{name: "given up too soon", build: build(fsm.Errored, lostNode), givenUp: 1, lost: 1},
		{name: "one that may not run twice", order: order{kind: alone}, build: build(fsm.Errored, lostNode), ran: map[string]int{"5.1 1": 1}, givenUp: 1},
		{name: "which did", order: order{kind: alone}, build: build(fsm.Errored, lostNode, again), ran: map[string]int{"5.1 1": 1, "5.1 2": 1}, givenUp: 1, doubled: 1},
		{name: "an attempt that ran twice", build: build(fsm.Errored, lostNode, again), ran: map[string]int{"5.1 1": 2}, givenUp: 1, doubled: 1},
		{name: "failed, and no step fails", build: build(fsm.Failed), lost: 1},
		{name: "still running", build: build(fsm.Running), lost: 1},
		{name: "passed by nothing", build: build(fsm.Passed), lost: 1},
		{name: "canceled", order: order{canceled: true}, build: build(fsm.Canceled), canceled: 1},
		{name: "canceled by nobody", build: build(fsm.Canceled), lost: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &Report{}
			j := &judge{report: r, ran: tt.ran}
			if err := j.build(t.Context(), &tt.order, tt.build); err != nil {
				t.Fatal(err)
			}
			if r.Lost != tt.lost || r.Doubled != tt.doubled || r.Canceled != tt.canceled || r.GivenUp != tt.givenUp {
				t.Errorf("%+v", r)
			}
		})
	}
	if exclusive(&order{kind: shared}) || !exclusive(&order{kind: alone}) {
		t.Error("the kinds are others than this test believes")
	}
}
