package sched

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
)

// The plain road: a hello, the plan, the job, their acknowledgements.
func TestStreamCarriesABuild(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		n := s.dial(hello("n1", 1))
		n.wish(0)
		s.push("aaaa")
		plan := n.wish(1)[0]
		if plan.Work == nil || plan.Work.Kind != fsm.KindPlan || plan.Work.Commit.SHA != "aaaa" {
			t.Fatalf("the plan's work: %+v", plan.Work)
		}
		if ack := n.report(ended(plan.Ref, onePlan)); ack.Stale {
			t.Fatal("the plan was refused")
		}
		job := n.wish(1)[0]
		if job.Ref.Job.String() != "1.1" || job.Work == nil || job.Work.Spec.Name != "test" {
			t.Fatalf("the job: %+v", job)
		}
		if ack := n.report(link.Report{Ref: job.Ref, Started: true}); ack.Stale {
			t.Fatal("the start was refused")
		}
		if j := s.job("1.1"); j.Status != fsm.Running {
			t.Fatalf("the job is %s", j.Status)
		}
		if ack := n.report(ended(job.Ref, fsm.Outcome{Status: fsm.Passed})); ack.Stale {
			t.Fatal("the result was refused")
		}
		if j := s.job("1.1"); j.Status != fsm.Passed {
			t.Fatalf("the job is %s", j.Status)
		}
		stale := job.Ref
		stale.N++
		if ack := n.report(ended(stale, fsm.Outcome{Status: fsm.Failed})); !ack.Stale {
			t.Fatal("a result with another number counted")
		}
	})
}

// A silent node gets no new jobs after 6 s, and its attempts are lost after 15 s:
// by time alone, since its stream is still open.
func TestSilentNodeIsLost(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		silent := s.dial(hello("n1", 1))
		silent.wish(0)
		s.push("aaaa")
		silent.wish(1)
		began := time.Now()
		time.Sleep(7 * time.Second)
		s.push("bbbb")
		if j := s.job("2.0"); j.Status != fsm.Queued {
			t.Errorf("a suspect node was given a job: %s", j.Status)
		}
		n2 := s.dial(hello("n2", 1))
		n2.wish(1)
		for s.job("1.0").Losses() == 0 {
			time.Sleep(100 * time.Millisecond)
			n2.beat()
		}
		if after := time.Since(began); after < 15*time.Second || after > 16*time.Second {
			t.Errorf("lost after %s", after)
		}
		if a, _ := s.job("1.0").Current(); a.Node != "n2" {
			t.Errorf("it runs on %s now", a.Node)
		}
	})
}

// What an earlier start never began is queued again at once, and no loss counts;
// what it kept is kept.
func TestRestartedNode(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		n := s.dial(hello("n1", 1))
		n.wish(0)
		s.push("aaaa")
		s.push("bbbb")
		set := n.wish(2)
		n.Close()
		if err := n.over(); !errors.Is(err, io.EOF) {
			t.Fatalf("the stream ended with %v", err)
		}
		again := s.dial(hello("n1", 2, set[0].Ref))
		next := again.wish(2)
		kept, anew := next[0], next[1]
		if kept.Ref != set[0].Ref {
			t.Errorf("%s is not kept", set[0].Ref)
		}
		if anew.Ref.Job != set[1].Ref.Job || anew.Ref.N != 2 {
			t.Errorf("%s was not placed anew: %s", set[1].Ref, anew.Ref)
		}
		if s.job("2.0").Losses() != 0 {
			t.Error("a loss was counted")
		}
	})
}

// A node that dials again takes the place of its old stream.
func TestSecondStreamReplacesFirst(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		old := s.dial(hello("n1", 1))
		old.wish(0)
		fresh := s.dial(hello("n1", 1))
		fresh.wish(0)
		if err := old.over(); !errors.Is(err, errReplaced) {
			t.Fatalf("the old stream ended with %v", err)
		}
		s.push("aaaa")
		fresh.wish(1)
	})
}

// A node that has left gives its jobs back and is forgotten.
func TestDepartedNode(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		n := s.dial(hello("n1", 1))
		n.wish(0)
		s.push("aaaa")
		n.wish(1)
		n.Close()
		if err := n.over(); !errors.Is(err, io.EOF) {
			t.Fatalf("the stream ended with %v", err)
		}
		s.log.mu.Lock()
		s.log.left = []fsm.NodeID{"n1"}
		close(s.log.changed)
		s.log.changed = make(chan struct{})
		s.log.mu.Unlock()
		if j := s.job("1.0"); j.Status != fsm.Queued {
			t.Errorf("the job is %s", j.Status)
		}
		state, _ := s.log.Watch()
		if _, ok := state.Node("n1"); ok {
			t.Error("the node is still known")
		}
	})
}
