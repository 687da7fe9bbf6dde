package fsm

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/codepr/narwhal/pipeline"
)

// TestAnyLog applies logs of any commands, mostly such as make sense: the
// invariants hold after every entry, an entry applied twice changes nothing
// more, a snapshot taken anywhere restores to the same state, and what comes
// after gives the same on both.
func TestAnyLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		a := New()
		a.history = 3
		b := a
		for index := uint64(1); index <= uint64(rapid.IntRange(1, 120).Draw(t, "entries")); index++ {
			entry := drawEntry(t, a, at.Add(time.Duration(index)*time.Second))
			ended := endedBuilds(a)
			a, _ = Apply(a, index, entry)
			b, _ = Apply(b, index, entry)
			if err := a.Verify(); err != nil {
				t.Fatalf("after entry %d: %v", index, err)
			}
			for id, line := range ended {
				if now, ok := a.Build(id); ok && buildLine(now) != line {
					t.Fatalf("ended build %d changed: %s, was %s", id, buildLine(now), line)
				}
			}
			if rapid.IntRange(0, 9).Draw(t, "restart") == 0 {
				b = restored(t, b)
			}
			if x, y := hash(t, a), hash(t, b); x != y {
				t.Fatalf("entry %d: two nodes differ", index)
			}
		}
	})
}

func drawEntry(t *rapid.T, s *State, at time.Time) []Command {
	entry := make([]Command, rapid.IntRange(1, 4).Draw(t, "batch"))
	for i := range entry {
		entry[i] = drawCommand(t, s)
		entry[i].At = at
	}
	return entry
}

func drawCommand(t *rapid.T, s *State) Command {
	node := NodeID(rapid.SampledFrom([]string{"n1", "n2", "n3"}).Draw(t, "node"))
	build := BuildID(rapid.Uint64Range(1, 8).Draw(t, "build"))
	job := JobID{Build: build, Seq: rapid.Uint32Range(0, 3).Draw(t, "job")}
	var ref AttemptRef
	n := 1
	if j, ok := s.Job(job); ok {
		if a, ok := j.Current(); ok {
			ref = j.Ref(a)
		}
		n = len(j.Attempts) + 1
	}
	if rapid.IntRange(0, 9).Draw(t, "stale") == 0 {
		ref.N--
	}
	switch rapid.IntRange(0, 11).Draw(t, "kind") {
	case 0, 1:
		c := Commit{Repo: "r", SHA: fmt.Sprint(rapid.IntRange(0, 9).Draw(t, "sha")), Event: EventPush}
		return Command{AddBuild: &AddBuild{Key: c.Key(), Commit: c}}
	case 2:
		return Command{UpsertNode: &UpsertNode{Node: Node{ID: node, Incarnation: rapid.Uint64Range(1, 2).Draw(t, "start"),
			Capacity: pipeline.Resources{CPU: 2000, Memory: 2 << 30}}}}
	case 3, 4, 5:
		return Command{AssignJob: &AssignJob{Job: job, N: n, Node: node, Incarnation: rapid.Uint64Range(1, 2).Draw(t, "start")}}
	case 6:
		return Command{StartAttempt: &StartAttempt{Ref: ref}}
	case 7, 8:
		return Command{FinishAttempt: &FinishAttempt{Ref: ref, Outcome: drawOutcome(t, job)}}
	case 9:
		return Command{LoseAttempt: &LoseAttempt{Ref: ref, NeverStarted: rapid.Bool().Draw(t, "never")}}
	case 10:
		return Command{CancelBuild: &CancelBuild{Build: build, By: "p"}}
	default:
		return rapid.SampledFrom([]Command{
			{DrainNode: &DrainNode{Node: node, Drain: true}}, {DrainNode: &DrainNode{Node: node}},
			{RemoveNode: &RemoveNode{Node: node}}, {SetSinks: &SetSinks{Events: true}}, {AckEvents: &AckEvents{Seq: 5}},
		}).Draw(t, "other")
	}
}

func drawOutcome(t *rapid.T, job JobID) Outcome {
	if rapid.Bool().Draw(t, "pass") {
		o := Outcome{Status: Passed}
		if job.Seq == 0 {
			o.Plan = plan("a,b:a,c:a+b", rapid.Int64Range(1, 3000).Draw(t, "cpu"), pipeline.NodeLossRerun)
		}
		return o
	}
	return Outcome{
		Status: rapid.SampledFrom([]Status{Failed, Errored, Canceled}).Draw(t, "status"),
		Cause:  rapid.SampledFrom([]Cause{CauseFailure, CauseImagePull, CauseNodeLost, CauseCheckout}).Draw(t, "cause"),
	}
}

func endedBuilds(s *State) map[BuildID]string {
	m := make(map[BuildID]string)
	for b := range s.Builds(0) {
		if b.Status.Terminal() {
			m[b.ID] = buildLine(b)
		}
	}
	return m
}

func restored(t *rapid.T, s *State) *State {
	var buf bytes.Buffer
	if _, err := s.WriteTo(&buf); err != nil {
		t.Fatal(err)
	}
	r, err := Restore(&buf)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func hash(t *rapid.T, s *State) string {
	h, err := s.Hash()
	if err != nil {
		t.Fatal(err)
	}
	return h
}
