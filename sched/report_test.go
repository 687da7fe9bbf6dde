package sched

import (
	"strings"
	"testing"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
)

// A result that the log can't take ends its attempt all the same, and those that
// came with it count: its node would send them all again forever.
func TestReportTooLargeForTheLog(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		s.log.most = 256 << 10
		n := s.dial(hello("n1", 1))
		n.wish(0)
		s.push("aaaa")
		s.push("bbbb")
		set := n.wish(2)
		large := fsm.Outcome{Status: fsm.Failed, Cause: fsm.CauseFailure, ExitCode: 3, LogBytes: 70, Message: strings.Repeat("x", 300<<10)}
		reports := []link.Report{ended(set[0].Ref, large), ended(set[1].Ref, onePlan), {Ref: set[0].Ref, Outcome: &large}}
		for i := range reports {
			reports[i].ID = uint64(i + 1)
		}
		n.say(&link.Up{Reports: reports})
		for heard := 0; heard < len(reports); {
			for _, ack := range n.hear().Acks {
				if heard++; ack.Stale {
					t.Errorf("report %d was refused", ack.ID)
				}
			}
		}
		j := s.job("1.0")
		if a, _ := j.Current(); j.Status != fsm.Errored || j.Cause != fsm.CauseConfig || a.ExitCode != 3 || a.LogBytes != 70 ||
			!strings.Contains(j.Message, "failed (failure)") || !strings.Contains(j.Message, "256 KiB") || len(j.Message) > 2000 {
			t.Errorf("the attempt whose result is too large is %s (%s): %.2000s", j.Status, j.Cause, j.Message)
		}
		if j := s.job("2.0"); j.Status != fsm.Passed {
			t.Errorf("the other one is %s: %s", j.Status, j.Message)
		}
	})
}

// A result that an older node could not read ends its attempt too, and says which node
// is to be upgraded.
func TestReportThatIsHeldBack(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		s.log.old = true
		n := s.dial(hello("n1", 1))
		n.wish(0)
		s.push("aaaa")
		set := n.wish(1)
		report := ended(set[0].Ref, onePlan)
		report.ID = 1
		n.say(&link.Up{Reports: []link.Report{report}})
		for heard := 0; heard < 1; {
			for _, ack := range n.hear().Acks {
				if heard++; ack.Stale {
					t.Errorf("report %d was refused", ack.ID)
				}
			}
		}
		s.log.old, s.log.short = false, true
		s.push("bbbb")
		for len(set) != 1 || set[0].Ref.Job.Build != 2 {
			set = n.wish(1)
		}
		plan := onePlan
		plan.Text = &fsm.CommitText{Message: "what it says"}
		report = ended(set[0].Ref, plan)
		report.ID = 2
		n.say(&link.Up{Reports: []link.Report{report}})
		for heard := 0; heard < 1; {
			heard += len(n.hear().Acks)
		}
		if j := s.job("2.0"); j.Status != fsm.Passed {
			t.Errorf("without what its commit says the plan is %s (%s): %s", j.Status, j.Cause, j.Message)
		}
		if j := s.job("1.0"); j.Status != fsm.Errored || j.Cause != fsm.CauseConfig || !strings.Contains(j.Message, "not every node knows this yet: upgrade node n3; then retry it. It ended as passed") {
			t.Errorf("the plan is %s (%s): %s", j.Status, j.Cause, j.Message)
		}
	})
}

// A plan has no timeout of its own: one whose node never tells how it ended does
// not hold its build up for good.
func TestPlanThatNeverEnds(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		n := s.dial(hello("n1", 1))
		n.wish(0)
		s.push("aaaa")
		ref := n.wish(1)[0].Ref
		n.report(link.Report{Ref: ref, Started: true})
		state, _ := s.log.Watch()
		w, began := NewStopwatch(), state.Now()
		if expire, next := w.Overdue(state, began); len(expire) > 0 || !next.Equal(began.Add(2*time.Hour)) {
			t.Errorf("at once: %v, next %v", expire, next)
		}
		expire, _ := w.Overdue(state, began.Add(2*time.Hour))
		if len(expire) != 1 || expire[0].Ref != ref || !strings.Contains(expire[0].Message, "2h") {
			t.Errorf("in the end: %+v", expire)
		}
	})
}
