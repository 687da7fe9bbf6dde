package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// atRest reports whether nothing is left to do: after the last fault every run
// must come to this.
func (w *world) atRest() bool {
	if w.clients.open > 0 || w.check.newest.LiveBuilds() > 0 || len(w.check.running) > 0 {
		return false
	}
	for _, m := range w.members {
		if m.dead {
			continue
		}
		if m.node == nil || len(m.disk.entries) > 0 || len(m.node.out) > 0 || m.voter != nil && m.voter.applied < len(w.raft.log) {
			return false
		}
	}
	return w.now > w.opt.Faults+5*time.Second && w.check.unfired() == ""
}

// end says what is wrong with the world at rest, or why it never came to rest.
func (c *check) end() {
	for _, d := range c.w.clients.deliveries {
		if b := c.buildOf(d); d.accepted != 0 && (b == nil || !b.Status.Terminal()) {
			c.w.fail("commit %s was accepted, and %s", d.commit.SHA, c.story(b))
			return
		}
	}
	if what := c.unfired(); what != "" {
		c.w.fail("in the end %s", what)
	}
	for b := range c.newest.Builds(0) {
		if !b.Status.Terminal() {
			c.w.fail("in the end %s", c.story(b))
			return
		}
		c.verdict(b)
		if b.CanceledBy != "" && b.Status != fsm.Canceled && b.Status != fsm.Passed {
			c.w.fail("build %d was canceled, and is %s", b.ID, b.Status)
		}
	}
	for _, m := range c.w.members {
		c.endMember(m)
	}
	if c.w.clients.open > 0 {
		c.w.fail("in the end %d requests have no answer", c.w.clients.open)
	}
}

func (c *check) endMember(m *member) {
	if m.dead {
		if _, ok := c.newest.Node(m.id); ok && slices.Contains(c.w.departed, m.id) {
			c.w.fail("node %s has left, and is still in the state", m.id)
		}
		return
	}
	if n, ok := c.newest.Node(m.id); !ok || n.Reserved != (pipeline.Resources{}) || n.Placed != 0 || n.Capacity != m.room {
		c.w.fail("in the end node %s is %+v", m.id, n)
		return
	}
	for _, r := range c.running {
		if r.m == m {
			c.w.fail("in the end attempt %s still runs on %s, placed there: %v", r.ref, m.id, c.placed(r.ref))
			return
		}
	}
	if len(m.disk.entries) > 0 {
		c.w.fail("in the end %s holds attempt %s open", m.id, m.disk.entries[0].ref)
		return
	}
	if m.voter != nil {
		c.compare(m, m.voter.state, true)
	}
}

// buildOf finds what a delivery has made, or nil: by the commit, whatever the key
// under which it is known.
func (c *check) buildOf(d *delivery) *fsm.Build {
	for b := range c.newest.Builds(0) {
		if b.Commit.SHA == d.commit.SHA && b.RetryOf == d.retryOf && b.Commit.Event == d.commit.Event {
			return b
		}
	}
	return nil
}

// story tells where a build hangs.
func (c *check) story(b *fsm.Build) string {
	if b == nil {
		return "there is no build of it"
	}
	out := fmt.Sprintf("build %d is %s", b.ID, b.Status)
	for j := range c.newest.Jobs(b.ID) {
		if j.Status.Terminal() {
			continue
		}
		out += fmt.Sprintf(", job %s is %s", j.ID, j.Status)
		if a, ok := j.Current(); ok {
			out += fmt.Sprintf(" (%s on %s, start %d, %s)", j.Ref(a), a.Node, a.Incarnation, a.Status)
		}
	}
	return out
}

// trace tells of a command that was applied.
func (c *check) trace(index uint64, cmd *fsm.Command, r fsm.Result) {
	if c.w.opt.Trace == nil {
		return
	}
	what := ""
	switch {
	case cmd.AddBuild != nil:
		what = fmt.Sprintf("add build %d", r.Build)
	case cmd.AssignJob != nil:
		what = fmt.Sprintf("assign %s#%d to %s", cmd.AssignJob.Job, cmd.AssignJob.N, cmd.AssignJob.Node)
	case cmd.StartAttempt != nil:
		what = "started " + cmd.StartAttempt.Ref.String()
	case cmd.FinishAttempt != nil:
		what = fmt.Sprintf("finished %s %s %s", cmd.FinishAttempt.Ref, cmd.FinishAttempt.Outcome.Status, cmd.FinishAttempt.Outcome.Cause)
	case cmd.LoseAttempt != nil:
		what = fmt.Sprintf("lost %s, never begun: %v", cmd.LoseAttempt.Ref, cmd.LoseAttempt.NeverStarted)
	case cmd.CancelBuild != nil:
		what = fmt.Sprintf("cancel build %d", cmd.CancelBuild.Build)
	case cmd.UpsertNode != nil:
		what = fmt.Sprintf("node %s, start %d", cmd.UpsertNode.Node.ID, cmd.UpsertNode.Node.Incarnation)
	case cmd.DecideJob != nil:
		what = fmt.Sprintf("decide %s: %v", cmd.DecideJob.Job, cmd.DecideJob.Approve)
	case cmd.ExpireAttempt != nil:
		what = "expired " + cmd.ExpireAttempt.Ref.String()
	case cmd.FireSchedule != nil:
		what = fmt.Sprintf("schedule of %s at %s: build %d", cmd.FireSchedule.Repo, cmd.FireSchedule.Due.Format(time.TimeOnly), r.Build)
	case cmd.DrainNode != nil:
		what = fmt.Sprintf("drain %s: %v", cmd.DrainNode.Node, cmd.DrainNode.Drain)
	}
	if r.Err != nil {
		what += ": " + r.Err.Error()
	}
	c.w.logf("  %d: %s", index, what)
}
