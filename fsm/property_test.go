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
// after gives the same on both. In the end all builds can be brought to an end.
func TestAnyLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		a := New()
		a.history = 3
		b := a
		for index := uint64(1); index <= uint64(rapid.IntRange(1, 120).Draw(t, "entries")); index++ {
			entry := drawEntry(t, a, at.Add(time.Duration(index)*time.Second))
			ended := endedBuilds(a)
			a, _ = Apply(a, index, 1, entry)
			b, _ = Apply(b, index, 1, entry)
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
				if err := b.Verify(); err != nil {
					t.Fatalf("restored after entry %d: %v", index, err)
				}
			}
			if x, y := hash(t, a), hash(t, b); x != y {
				t.Fatalf("entry %d: two nodes differ", index)
			}
		}
		finishAll(t, a)
	})
}

func drawEntry(t *rapid.T, s *State, at time.Time) []Command {
	entry := make([]Command, rapid.IntRange(1, 4).Draw(t, "batch"))
	for i := range entry {
		c, ok := drawNext(t, s)
		if !ok || rapid.IntRange(0, 2).Draw(t, "any") == 0 {
			c = drawCommand(t, s)
		}
		entry[i] = c
		entry[i].At = at
	}
	return entry
}

// drawNext takes some open job one step on.
func drawNext(t *rapid.T, s *State) (Command, bool) {
	var open []*Job
	for b := range s.Builds(0) {
		for j := range s.Jobs(b.ID) {
			if !j.Status.Terminal() && j.Status != Blocked {
				open = append(open, j)
			}
		}
	}
	var nodes []*Node
	for n := range s.Nodes() {
		nodes = append(nodes, n)
	}
	if len(open) == 0 || len(nodes) == 0 {
		return Command{}, false
	}
	j := rapid.SampledFrom(open).Draw(t, "open")
	a, _ := j.Current()
	switch {
	case j.Status == Queued:
		n := rapid.SampledFrom(nodes).Draw(t, "on")
		return Command{AssignJob: &AssignJob{Job: j.ID, N: len(j.Attempts) + 1, Node: n.ID, Incarnation: n.Incarnation}}, true
	case j.Status == Held:
		return Command{DecideJob: &DecideJob{Job: j.ID, Approve: rapid.IntRange(0, 3).Draw(t, "no") > 0, By: "p"}}, true
	case j.Status == Assigned && rapid.Bool().Draw(t, "starts"):
		return Command{StartAttempt: &StartAttempt{Ref: j.Ref(a)}}, true
	case j.Status == Running && rapid.IntRange(0, 4).Draw(t, "expires") == 0:
		return Command{ExpireAttempt: &ExpireAttempt{Ref: j.Ref(a), Message: "its time was up"}}, true
	}
	return Command{FinishAttempt: &FinishAttempt{Ref: j.Ref(a), Outcome: drawOutcome(t, j.ID)}}, true
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
	switch rapid.IntRange(0, 13).Draw(t, "kind") {
	case 0, 1:
		c := Commit{Repo: rapid.SampledFrom([]string{"r", "r", "q"}).Draw(t, "repo"), SHA: fmt.Sprint(rapid.IntRange(0, 9).Draw(t, "sha")),
			CloneURL: rapid.SampledFrom([]string{"git://a", "git://b"}).Draw(t, "url"),
			Event:    EventPush, Ref: "refs/heads/main", Fork: rapid.IntRange(0, 5).Draw(t, "fork") == 0}
		return Command{AddBuild: &AddBuild{Key: c.Key(), Commit: c}}
	case 2:
		return Command{UpsertNode: &UpsertNode{Node: Node{ID: node, Incarnation: rapid.Uint64Range(1, 2).Draw(t, "start"),
			Capacity: pipeline.Resources{CPU: 4000, Memory: 8 << 30}}}}
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
	case 11:
		return Command{DecideJob: &DecideJob{Job: job, Approve: rapid.Bool().Draw(t, "approve"), By: "p"}}
	case 12:
		return drawStored(t, s, ref)
	default:
		return rapid.SampledFrom([]Command{
			{DrainNode: &DrainNode{Node: node, Drain: true}}, {DrainNode: &DrainNode{Node: node}},
			{DrainNode: &DrainNode{Node: node, Drain: true, Until: s.now.Add(time.Minute)}}, {MoveAttempt: &MoveAttempt{Ref: ref}},
			{RemoveNode: &RemoveNode{Node: node}}, {SetSinks: &SetSinks{Events: true}}, {AckEvents: &AckEvents{Seq: 5}},
		}).Draw(t, "other")
	}
}

func drawOutcome(t *rapid.T, job JobID) Outcome {
	if rapid.IntRange(0, 3).Draw(t, "pass") > 0 {
		o := Outcome{Status: Passed}
		if job.Seq == 0 {
			o.Plan = drawPlan(t)
		}
		return o
	}
	return Outcome{
		Status: rapid.SampledFrom([]Status{Failed, Errored, Canceled}).Draw(t, "status"),
		Cause:  rapid.SampledFrom([]Cause{CauseFailure, CauseImagePull, CauseNodeLost, CauseCheckout, CauseTimeout}).Draw(t, "cause"),
	}
}

// drawPlan makes a file of three jobs that need each other, wait for persons,
// fail, and stand in each other's way.
func drawPlan(t *rapid.T) *pipeline.Pipeline {
	traits := []string{"", "", "", "skip=tag", "manual", "on_failure", "always", "allow", "retry=1", "retry=3/failure/1/1m",
		"group=g/1/cancel", "group=g/1", "group=h/2", "group=p/1/build", "group=p/1/build/cancel"}
	text := ""
	for i, needs := range []string{"", "a", "a+b"} {
		if i > 0 {
			text += ","
		}
		text += string(rune('a' + i))
		if rapid.IntRange(0, 3).Draw(t, "needs") > 0 {
			text += ":" + needs
		}
		for range 2 {
			text += ";" + rapid.SampledFrom(traits).Draw(t, "trait")
		}
	}
	loss := rapid.SampledFrom([]pipeline.NodeLoss{pipeline.NodeLossRerun, pipeline.NodeLossFail}).Draw(t, "loss")
	p := plan(text, rapid.Int64Range(1, 3000).Draw(t, "cpu"), loss)
	p.Schedules = crons(rapid.SampledFrom([]string{"", "x", "x,y", "y@dev"}).Draw(t, "cron"))
	return p
}

func drawStored(t *rapid.T, s *State, ref AttemptRef) Command {
	name := rapid.SampledFrom([]string{"a", "ab"}).Draw(t, "name")
	scope := rapid.SampledFrom([]string{"repo", "pull/1"}).Draw(t, "scope")
	due := s.Now().Add(time.Duration(rapid.IntRange(-3, 3).Draw(t, "due")) * time.Second)
	return rapid.SampledFrom([]Command{
		{ExpireAttempt: &ExpireAttempt{Ref: ref, Message: "its time was up"}},
		{SeeHeads: drawSeen(t)}, {SeeHeads: drawSeen(t)},
		{FireSchedule: &FireSchedule{Repo: "r", Branch: "main", Spec: cron(rapid.SampledFrom([]string{"x", "y"}).Draw(t, "spec"), "main"), Due: due}},
		{SetSecret: &SetSecret{Secret: Secret{Repo: "r", Name: name, Sealed: []byte(scope)}}}, {RemoveSecret: &RemoveSecret{Repo: "r", Name: name}},
		{SaveCache: &SaveCache{Entry: CacheEntry{Repo: "r", Scope: scope, Key: name, Blob: Blob{Digest: scope}}}},
		{UseCache: &UseCache{Repo: "r", Scope: scope, Key: name}}, {DropCache: &DropCache{Repo: "r", Scope: "repo", Key: name, Digest: scope}},
	}).Draw(t, "stored")
}

func drawSeen(t *rapid.T) *SeeHeads {
	c := &SeeHeads{Repo: rapid.SampledFrom([]string{"r", "q", "x"}).Draw(t, "of"), CloneURL: rapid.SampledFrom([]string{"git://a", "git://b"}).Draw(t, "at"), Done: rapid.Bool().Draw(t, "done")}
	for range rapid.IntRange(0, 3).Draw(t, "refs") {
		sha := rapid.SampledFrom([]string{"", "", "0", "1", "2"})
		ref := rapid.SampledFrom([]string{"refs/heads/main", "refs/heads/dev", "refs/tags/v1"}).Draw(t, "ref")
		c.Heads = append(c.Heads, SeenHead{Ref: ref, Was: sha.Draw(t, "was"), SHA: sha.Draw(t, "is")})
	}
	return c
}

// finishAll gives every job what it waits for: then no build may stay open.
func finishAll(t *rapid.T, s *State) {
	do := func(c Command) { s, _ = Apply(s, s.Index()+1, 1, []Command{c}) }
	do(Command{UpsertNode: &UpsertNode{Node: Node{ID: "big", Incarnation: 1, Capacity: pipeline.Resources{CPU: 1 << 40, Memory: 1 << 60}}}})
	for range 200 {
		if s.LiveBuilds() == 0 {
			return
		}
		for b := range s.Builds(0) {
			for j := range s.Jobs(b.ID) {
				a, _ := j.Current()
				switch {
				case j.Status == Held:
					do(Command{DecideJob: &DecideJob{Job: j.ID, Approve: true, By: "p"}})
				case j.Status == Queued:
					do(Command{AssignJob: &AssignJob{Job: j.ID, N: len(j.Attempts) + 1, Node: "big", Incarnation: 1}})
				case j.Status.Placed() && j.Kind == KindPlan:
					do(Command{FinishAttempt: &FinishAttempt{Ref: j.Ref(a), Outcome: Outcome{Status: Passed, Plan: plan("a", 1, "")}}})
				case j.Status.Placed():
					do(Command{FinishAttempt: &FinishAttempt{Ref: j.Ref(a), Outcome: Outcome{Status: Passed}}})
				}
			}
		}
	}
	t.Fatalf("%d builds do not come to an end", s.LiveBuilds())
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
