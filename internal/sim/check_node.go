package sim

import (
	"slices"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/pipeline"
)

// tells is told of every report that a node makes: it stands by its word.
func (c *check) tells(m *member, p link.Report) {
	if p.Outcome == nil {
		return
	}
	if slices.ContainsFunc(c.running, func(r *container) bool { return r.ref == p.Ref }) {
		c.w.fail("%s tells that %s is %s %s, and it still runs there", m.id, p.Ref, p.Outcome.Status, p.Outcome.Cause)
	}
	if c.refused[p.Ref] {
		return // nothing counts any more
	}
	if was, ok := c.told[p.Ref]; ok && (was.Status != p.Outcome.Status || was.Cause != p.Outcome.Cause) {
		c.w.fail("%s tells that %s is %s %s, and told before that it is %s %s", m.id, p.Ref, p.Outcome.Status, p.Outcome.Cause, was.Status, was.Cause)
	}
	c.told[p.Ref] = *p.Outcome
}

// tick looks for containers that run on although a leader says otherwise.
func (c *check) tick() {
	for _, r := range c.running {
		if c.placed(r.ref) || !c.heeds(r.m) {
			delete(c.loose, r)
			continue
		}
		if c.loose[r] == 0 {
			c.loose[r] = c.w.now
		}
		if c.w.now-c.loose[r] > grace+4*time.Second {
			c.w.fail("attempt %s runs on %s, and should not for %s", r.ref, r.m.id, c.w.now-c.loose[r])
		}
	}
	if c.w.mended {
		c.w.setClocks()
	}
	c.w.after(time.Second, c.tick)
}

// heeds reports whether a node has an undisturbed stream to the leader.
func (c *check) heeds(m *member) bool {
	l := c.w.raft.leader
	if m.node == nil || m.node.stream == nil || l == nil || l.lead == nil {
		return false
	}
	s := m.node.stream
	return s.leader == l && c.w.connected(m, l) && s.session != nil && s.session.arrived && !s.session.over && l.voter.applied >= len(c.w.raft.log)
}

// planned is a job as its file has it, whatever the state makes of it.
func (c *check) planned(id fsm.JobID) *pipeline.Job {
	b, ok := c.newest.Build(id.Build)
	if !ok || id.Seq == 0 {
		return nil
	}
	return &c.w.planOf(b.Commit.SHA).Jobs[id.Seq-1]
}

func (c *check) exclusive(id fsm.JobID) bool {
	spec := c.planned(id)
	return spec != nil && spec.OnNodeLoss == pipeline.NodeLossFail
}

// started is told of every container that starts.
func (c *check) started(ct *container) {
	c.w.logf("%s starts a container for %s", ct.m.id, ct.ref)
	if on, ok := c.begun[ct.ref]; ok {
		c.w.fail("attempt %s is started a second time, on %s; before on %s", ct.ref, ct.m.id, on)
	}
	c.begun[ct.ref], c.startedAt[ct.ref] = ct.m.id, c.w.now
	used := c.planned(ct.ref.Job).Resources.CPU
	for _, r := range c.running {
		if r.ref.Job == ct.ref.Job && c.exclusive(ct.ref.Job) {
			c.w.fail("job %s, on_node_loss: fail, runs on %s (%s) and %s (%s)", ct.ref.Job, r.m.id, r.ref, ct.m.id, ct.ref)
		}
		if r.m == ct.m && c.placed(r.ref) {
			used += c.planned(r.ref.Job).Resources.CPU
		}
	}
	if used > ct.m.room.CPU && c.placed(ct.ref) {
		c.w.fail("node %s has %d milli-CPU, what runs on it takes %d", ct.m.id, ct.m.room.CPU, used)
	}
	c.running = append(c.running, ct)
}

func (c *check) stopped(ct *container) {
	c.w.logf("%s: the container of %s ends", ct.m.id, ct.ref)
	c.running = slices.DeleteFunc(c.running, func(o *container) bool { return o == ct })
}

// placed reports whether an attempt is one that should run.
func (c *check) placed(ref fsm.AttemptRef) bool {
	j, ok := c.newest.Job(ref.Job)
	if !ok {
		return false
	}
	a, ok := j.Current()
	return ok && j.Ref(a) == ref && a.Status.Placed()
}
