package sched

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// TestPlanAgainstOracle lets Plan and a dumb judge look at the same random
// states: nothing that Plan proposes is refused, nothing is placed on a node
// that is not there, and nothing that could run was left lying.
func TestPlanAgainstOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, fleet := drawState(t)
		now := s.Now().Add(time.Second)
		place, _ := Plan(s, fleet, now)
		commands := make([]fsm.Command, len(place))
		for i := range place {
			commands[i] = fsm.Command{At: now, AssignJob: &place[i]}
			if !fleet[place[i].Node].Connected {
				t.Fatalf("%s placed on %s, which is not there", place[i].Job, place[i].Node)
			}
		}
		after, results := fsm.Apply(s, s.Index()+1, 1, commands)
		for i, r := range results {
			if r.Err != nil {
				t.Fatalf("%+v: %v", place[i], r.Err)
			}
		}
		if err := after.Verify(); err != nil {
			t.Fatal(err)
		}
		for n := range after.Nodes() {
			if n.Reserved.CPU > n.Capacity.CPU || n.Reserved.Memory > n.Capacity.Memory {
				t.Fatalf("node %s is booked over: %+v of %+v", n.ID, n.Reserved, n.Capacity)
			}
		}
		left(t, after, fleet)
	})
}

// left is the oracle: a job that stayed queued fits no node that is there.
// (No job here has waited long enough for a node to be kept free.)
func left(t *rapid.T, s *fsm.State, fleet Fleet) {
	for j := range s.Queued() {
		for n := range s.Nodes() {
			if p := fleet[n.ID]; !p.Connected || p.Full || n.Drained || p.Incarnation != n.Incarnation {
				continue
			}
			fits := j.Kind == fsm.KindPlan && plansOn(s, n.ID) < plansPerNode
			if j.Kind == fsm.KindRun {
				fits = n.Matches(j.Spec.Labels) && n.Fits(j.Request()) && hasTurn(s, j)
			}
			if fits {
				t.Fatalf("%s was left queued, though node %s has room", j.ID, n.ID)
			}
			for _, r := range Why(s, fleet, s.Now(), j) {
				if r.Node == n.ID && r.Code == fsm.ReasonFits {
					t.Fatalf("why %s says that it fits %s", j.ID, n.ID)
				}
			}
		}
	}
}

// hasTurn counts, the dumb way, who is before j in its group: each that holds a
// place, and each older one that waits and that some node could take.
func hasTurn(s *fsm.State, j *fsm.Job) bool {
	c := j.Spec.Concurrency
	if c == nil {
		return true
	}
	before, shares := make(map[fsm.JobID]bool), false
	for b := range s.Builds(0) {
		for o := range s.Jobs(b.ID) {
			if o.ID == j.ID || o.Spec == nil || o.Spec.Concurrency == nil || o.Spec.Concurrency.Group != c.Group {
				continue
			}
			older := o.ID.Build < j.ID.Build || o.ID.Build == j.ID.Build && o.ID.Seq < j.ID.Seq
			if o.Status.Placed() || o.Status == fsm.Queued && older && fitsEmpty(s, o) {
				id := o.ID
				if c.PerBuild {
					id.Seq = 0
				}
				before[id] = true
				shares = shares || c.PerBuild && o.Status.Placed() && id.Build == j.ID.Build
			}
		}
	}
	delete(before, fsm.JobID{Build: j.ID.Build})
	return len(before) < c.Limit || shares
}

func fitsEmpty(s *fsm.State, j *fsm.Job) bool {
	for n := range s.Nodes() {
		empty := *n
		empty.Reserved = pipeline.Resources{}
		if empty.Matches(j.Spec.Labels) && empty.Fits(j.Request()) {
			return true
		}
	}
	return false
}

func drawState(t *rapid.T) (*fsm.State, Fleet) {
	s, index := fsm.New(), uint64(0)
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	apply := func(c fsm.Command) {
		c.At = at
		index++
		s, _ = fsm.Apply(s, index, 1, []fsm.Command{c})
	}
	fleet := make(Fleet)
	for i := range rapid.IntRange(1, 5).Draw(t, "nodes") {
		id := fsm.NodeID(fmt.Sprintf("n%d", i))
		apply(fsm.Command{UpsertNode: &fsm.UpsertNode{Node: fsm.Node{ID: id, Incarnation: 1, Labels: drawLabels(t),
			Capacity: pipeline.Resources{CPU: rapid.Int64Range(0, 4).Draw(t, "cpu") * 1000, Memory: rapid.Int64Range(0, 4).Draw(t, "mem") << 30}}}})
		fleet[id] = Presence{Incarnation: rapid.Uint64Range(1, 2).Draw(t, "start"), Connected: rapid.Bool().Draw(t, "there"),
			Full: rapid.IntRange(0, 5).Draw(t, "full") == 0}
		if rapid.IntRange(0, 5).Draw(t, "drain") == 0 {
			apply(fsm.Command{DrainNode: &fsm.DrainNode{Node: id, Drain: true}})
		}
	}
	apply(fsm.Command{UpsertNode: &fsm.UpsertNode{Node: fsm.Node{ID: "planner"}}})
	for i := range rapid.IntRange(0, 12).Draw(t, "builds") {
		c := fsm.Commit{Repo: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "repo"), SHA: fmt.Sprint(i)}
		apply(fsm.Command{AddBuild: &fsm.AddBuild{Key: c.Key(), Commit: c}})
		if rapid.IntRange(0, 3).Draw(t, "planned") == 0 {
			continue
		}
		job := fsm.JobID{Build: fsm.BuildID(i + 1)}
		apply(fsm.Command{AssignJob: &fsm.AssignJob{Job: job, N: 1, Node: "planner"}})
		ref := fsm.AttemptRef{Job: job, N: 1, Token: fsm.Token{Index: index}}
		apply(fsm.Command{FinishAttempt: &fsm.FinishAttempt{Ref: ref, Outcome: fsm.Outcome{Status: fsm.Passed, Plan: drawPlan(t)}}})
	}
	return s, fleet
}

func drawPlan(t *rapid.T) *pipeline.Pipeline {
	p := &pipeline.Pipeline{}
	for i := range rapid.IntRange(1, 4).Draw(t, "jobs") {
		p.Jobs = append(p.Jobs, pipeline.Job{Name: fmt.Sprint(i), Labels: drawLabels(t), Priority: rapid.IntRange(-1, 1).Draw(t, "priority"),
			Resources:   pipeline.Resources{CPU: rapid.Int64Range(0, 5).Draw(t, "cpu") * 500, Memory: rapid.Int64Range(0, 5).Draw(t, "mem") << 29},
			Concurrency: concurrency(rapid.SampledFrom([]string{"", "", "g/1", "h/2", "p/1/build", "q/2/build"}).Draw(t, "group"))})
	}
	return p
}

func drawLabels(t *rapid.T) map[string]string {
	if rapid.Bool().Draw(t, "labelled") {
		return map[string]string{"zone": rapid.SampledFrom([]string{"x", "y"}).Draw(t, "zone")}
	}
	return nil
}

// BenchmarkPlan places what fits of a long queue on a large, busy fleet.
func BenchmarkPlan(b *testing.B) {
	for _, size := range []struct{ nodes, builds int }{{3, 500}, {100, 1000}, {1000, 10_000}} {
		b.Run(fmt.Sprintf("nodes=%d/queued=%d", size.nodes, size.builds), func(b *testing.B) {
			y := &yard{t: &testing.T{}, state: fsm.New()}
			y.leases = NewLeases(y.state, time.Hour, time.Hour, y.now)
			for i := range size.nodes {
				y.line([]string{"node", fmt.Sprintf("n%04d", i), "cpu=2000", "mem=4096"})
			}
			for i := range size.builds {
				y.index++
				c := fsm.Commit{Repo: fmt.Sprint(i % 20), SHA: fmt.Sprint(i)}
				y.state, _ = fsm.Apply(y.state, y.index, 1, []fsm.Command{{AddBuild: &fsm.AddBuild{Key: c.Key(), Commit: c}}})
			}
			fleet := y.leases.Fleet(y.now)
			b.ResetTimer()
			for b.Loop() {
				Plan(y.state, fleet, y.now)
			}
		})
	}
}
