package sched

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// night is a cluster that has schedules, and a log of what was fired.
type night struct {
	t     *testing.T
	state *fsm.State
	index uint64
	past  []*fsm.State // all states there were: deciders may be behind
	fired map[string]int
}

// newNight plans a commit with these schedules at at.
func newNight(t *testing.T, at time.Time, schedules ...pipeline.Schedule) *night {
	n := &night{t: t, state: fsm.New(), fired: make(map[string]int)}
	c := fsm.Commit{Repo: "acme/api", SHA: "aaaa", Ref: "refs/heads/main", Event: fsm.EventPush}
	n.apply(at, fsm.Command{UpsertNode: &fsm.UpsertNode{Node: fsm.Node{ID: "n1"}}})
	n.apply(at, fsm.Command{AddBuild: &fsm.AddBuild{Key: "k", Commit: c}})
	id := fsm.JobID{Build: 1}
	n.apply(at, fsm.Command{AssignJob: &fsm.AssignJob{Job: id, N: 1, Node: "n1"}})
	p := &pipeline.Pipeline{Jobs: []pipeline.Job{{Name: "a"}}, Schedules: schedules}
	ref := fsm.AttemptRef{Job: id, N: 1, Token: fsm.Token{Index: n.index}}
	n.apply(at, fsm.Command{FinishAttempt: &fsm.FinishAttempt{Ref: ref, Outcome: fsm.Outcome{Status: fsm.Passed, Plan: p}}})
	return n
}

func (n *night) apply(at time.Time, commands ...fsm.Command) {
	n.index++
	for i := range commands {
		commands[i].At = at
	}
	next, results := fsm.Apply(n.state, n.index, 1, commands)
	for i, r := range results {
		if r.Err != nil {
			n.t.Fatalf("%+v refused: %v", commands[i], r.Err)
		}
		if f := commands[i].FireSchedule; f != nil && r.Build != 0 {
			n.fired[shown(f.Spec.Cron, f.Due)]++
		}
	}
	n.state = next
	n.past = append(n.past, next)
}

func shown(cron string, at time.Time) string {
	return fmt.Sprintf("%s at %s", cron, at.UTC().Format(time.DateTime))
}

func at(text string) time.Time {
	t, err := time.Parse(time.DateTime, text)
	if err != nil {
		panic(err)
	}
	return t
}

// The promise: over 100 changes of leader, whose terms overlap and whose
// states are behind, no run is missed and none is doubled.
func TestSchedulesOverLeaders(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 14))
	specs := []pipeline.Schedule{
		{Cron: "*/7 * * * *", Timezone: "UTC", Branch: "main"},
		{Cron: "13 */2 * * *", Timezone: "Europe/Berlin", Branch: "main"},
		{Cron: "0 9 * * 1-5", Timezone: "America/New_York", Branch: "main"},
	}
	began := at("2026-05-04 10:00:00")
	n := newNight(t, began, specs...)
	now := began
	old := NewCalendar() // of the leader that does not know yet that it is none
	for range 100 {
		calendar := NewCalendar()
		for range 1 + rng.IntN(6) {
			now = now.Add(time.Duration(rng.IntN(20*60)) * time.Second)
			for _, c := range []*Calendar{old, calendar} {
				seen := n.past[len(n.past)-1-rng.IntN(min(len(n.past), 5))]
				commands, _ := Decide(seen, Sight{}, c, now.Add(-time.Duration(rng.IntN(3))*time.Second))
				n.apply(now, commands...)
			}
		}
		old = calendar
	}
	commands, next := Decide(n.state, Sight{}, old, now)
	n.apply(now, commands...)
	if next.IsZero() && len(commands) == 0 {
		t.Error("nothing comes due any more")
	}
	want := make(map[string]bool)
	for minute := began.Add(time.Minute); !minute.After(now); minute = minute.Add(time.Minute) {
		for _, s := range specs {
			if dumbly(t, &s, minute) {
				want[shown(s.Cron, minute)] = true
			}
		}
	}
	if len(want) < 200 {
		t.Fatalf("only %d runs were due", len(want))
	}
	for run := range want {
		if n.fired[run] != 1 {
			t.Errorf("%s was started %d times", run, n.fired[run])
		}
	}
	for run := range n.fired {
		if !want[run] {
			t.Errorf("%s was started, and is none", run)
		}
	}
	if builds := n.state.BuildCount() - 1; builds != len(want) {
		t.Errorf("%d builds of %d runs", builds, len(want))
	}
}

// dumbly reports whether the minute is one of the test's schedules, with no cron
// at all.
func dumbly(t *testing.T, s *pipeline.Schedule, minute time.Time) bool {
	zone, err := time.LoadLocation(s.Timezone)
	if err != nil {
		t.Fatal(err)
	}
	m := minute.In(zone)
	switch s.Cron {
	case "*/7 * * * *":
		return m.Minute()%7 == 0
	case "13 */2 * * *":
		return m.Minute() == 13 && m.Hour()%2 == 0
	}
	return m.Minute() == 0 && m.Hour() == 9 && m.Weekday() != time.Saturday && m.Weekday() != time.Sunday
}

// What a cluster missed that stood still makes one build of all that is older
// than an hour; it does not take going through every minute of a year.
func TestMissedForLong(t *testing.T) {
	began := at("2025-03-01 00:00:00")
	n := newNight(t, began,
		pipeline.Schedule{Cron: "* * * * *", Timezone: "UTC", Branch: "main"},
		pipeline.Schedule{Cron: "0 0 1 5 *", Timezone: "UTC", Branch: "main"},
		pipeline.Schedule{Cron: "no cron", Timezone: "UTC", Branch: "main"},
		pipeline.Schedule{Cron: "1 * * * *", Timezone: "Nowhere/Atall", Branch: "main"})
	now := at("2026-06-01 12:00:30")
	commands, _ := Decide(n.state, Sight{}, NewCalendar(), now)
	n.apply(now, commands...)
	if n.fired[shown("0 0 1 5 *", at("2026-05-01 00:00:00"))] != 1 {
		t.Error("the newest of two years was not started")
	}
	if n.fired[shown("* * * * *", at("2026-06-01 11:00:00"))] != 1 || n.fired[shown("* * * * *", at("2026-06-01 12:00:00"))] != 1 {
		t.Error("the edges of the last hour were not started")
	}
	if len(n.fired) != 62 {
		t.Errorf("%d builds were started", len(n.fired))
	}
	if commands, next := Decide(n.state, Sight{}, NewCalendar(), now); len(commands) > 0 || !next.Equal(at("2026-06-01 12:01:00")) {
		t.Errorf("then %d more, and the next at %s", len(commands), next)
	}
}
