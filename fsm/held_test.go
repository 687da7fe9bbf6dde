package fsm

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/codepr/narwhal/pipeline"
)

// held has a world with n builds of a branch whose job waits for a person.
func held(t *testing.T, n int, ref func(i int) string) *world {
	w := &world{t: t, state: New(), at: time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)}
	w.apply([]Command{{At: w.at, UpsertNode: &UpsertNode{Node: Node{ID: "n1", Incarnation: 1, Capacity: pipeline.Resources{CPU: 4000}}}}})
	for i := range n {
		w.hold(i, ref(i))
	}
	return w
}

func (w *world) hold(i int, ref string) BuildID {
	w.t.Helper()
	c := Commit{Repo: "r", SHA: fmt.Sprint("s", i), Ref: ref, Event: EventPush}
	w.apply([]Command{{At: w.at, AddBuild: &AddBuild{Key: c.Key(), Commit: c}}})
	id := w.state.nextBuild - 1
	w.apply([]Command{{At: w.at, AssignJob: &AssignJob{Job: JobID{Build: id}, N: 1, Node: "n1", Incarnation: 1}}})
	plan, _ := w.state.Job(JobID{Build: id})
	w.apply([]Command{{At: w.at, FinishAttempt: &FinishAttempt{Ref: plan.Ref(plan.Attempts[0]), Outcome: Outcome{Status: Passed,
		Plan: &pipeline.Pipeline{Jobs: []pipeline.Job{{Name: "deploy", When: pipeline.When{Manual: true}}}}}}}})
	return id
}

func (w *world) statuses() string {
	var out []string
	for id := BuildID(1); id < w.state.nextBuild; id++ {
		j, _ := w.state.Job(JobID{Build: id, Seq: 1})
		out = append(out, string(j.Status))
	}
	return strings.Join(out, " ")
}

// TestFewJobsOfARefAreHeld: each push brings one that nobody decides on.
func TestFewJobsOfARefAreHeld(t *testing.T) {
	w := held(t, maxHeld+2, func(i int) string {
		if i == 1 {
			return "refs/heads/other"
		}
		return "refs/heads/main"
	})
	want := "canceled " + strings.TrimSpace(strings.Repeat("held ", maxHeld+1))
	if got := w.statuses(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	b, _ := w.state.Build(1)
	if b.Status != Canceled || !strings.Contains(b.Message, "20 newer builds") {
		t.Errorf("build 1 is %s: %s", b.Status, b.Message)
	}
}

// TestHeldJobsExpire when the next build comes after a month.
func TestHeldJobsExpire(t *testing.T) {
	w := held(t, 2, func(int) string { return "refs/heads/main" })
	w.at = w.at.Add(heldFor / 2)
	w.hold(2, "refs/heads/main")
	w.at = w.at.Add(heldFor/2 + time.Second)
	w.hold(3, "refs/heads/main")
	if got := w.statuses(); got != "canceled canceled held held" {
		t.Error(got)
	}
	j, _ := w.state.Job(JobID{Build: 2, Seq: 1})
	if j.Cause != CauseRejected || !strings.Contains(j.Message, "30 days") {
		t.Errorf("%s: %s", j.Cause, j.Message)
	}
	if w.state.LiveBuilds() != 2 {
		t.Errorf("%d builds live", w.state.LiveBuilds())
	}
}
