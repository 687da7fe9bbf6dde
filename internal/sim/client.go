package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// clients is who pushes commits, cancels, drains and looks.
type clients struct {
	w          *world
	deliveries []*delivery
	open       int // requests that have no answer yet
	pushed     int
	plans      map[string]*pipeline.Pipeline // by SHA
	asked      map[fsm.JobID]bool            // whether to let them go on; no answer has come
}

// delivery is a commit that a forge tells of, maybe more than once.
type delivery struct {
	commit   fsm.Commit
	key      string
	retryOf  fsm.BuildID
	tries    int
	accepted fsm.BuildID // 0 until it was answered
}

func (c *clients) begin(w *world) {
	c.w, c.plans, c.asked = w, make(map[string]*pipeline.Pipeline), make(map[fsm.JobID]bool)
	n := 6 + w.rng.IntN(12)
	if w.opt.Calm {
		n = 2
	}
	for range n {
		w.after(w.between(0, w.opt.Faults), c.push)
	}
	w.after(w.between(time.Second, 4*time.Second), c.decideHeld)
}

// push is a new commit, of which the cluster is told.
func (c *clients) push() {
	if c.w.mended {
		return
	}
	c.pushed++
	d := &delivery{commit: fsm.Commit{
		Repo: fmt.Sprintf("acme/r%d", c.w.rng.IntN(3)), SHA: fmt.Sprintf("%040x", c.pushed), Ref: "refs/heads/main", Event: fsm.EventPush,
	}}
	d.key = d.commit.Key()
	c.deliver(d)
}

// ask has a command carried to the log, over whoever leads, until it is
// answered. refused tells whether an answer of Apply is one that ends it.
func (c *clients) ask(command func() fsm.Command, done func(fsm.Result)) {
	c.open++
	c.try(command, func(r fsm.Result) { c.open--; done(r) })
}

func (c *clients) try(command func() fsm.Command, done func(fsm.Result)) {
	w, answered := c.w, false
	again := func() {
		if !answered {
			answered = true
			w.after(w.between(50*time.Millisecond, 400*time.Millisecond), func() { c.try(command, done) })
		}
	}
	m := w.members[w.rng.IntN(len(w.members))]
	if l := m.believes(); l != nil {
		m = l
	}
	if !m.up {
		again()
		return
	}
	w.after(3*time.Second, again) // the connection broke, or nobody answers
	m.propose([]fsm.Command{command()}, func(results []fsm.Result, err error) {
		switch {
		case err != nil:
			again()
		case !answered:
			answered = true
			done(results[0])
		}
	})
}

func (c *clients) deliver(d *delivery) {
	w := c.w
	c.deliveries = append(c.deliveries, d)
	if w.opt.Bugs.AckBuildEarly {
		c.deliverOnce(d)
		return
	}
	c.ask(func() fsm.Command {
		d.tries++
		add := &fsm.AddBuild{Key: d.key, Commit: d.commit, RetryOf: d.retryOf}
		if w.opt.Bugs.NewKeyOnRetry && d.tries > 1 {
			add.Key = fmt.Sprintf("%s-%d", d.key, d.tries)
		}
		return fsm.Command{AddBuild: add}
	}, func(r fsm.Result) { c.answered(d, r) })
}

func (c *clients) deliverOnce(d *delivery) {
	if l := c.w.raft.leader; l != nil {
		d.accepted = 1
		l.propose([]fsm.Command{{AddBuild: &fsm.AddBuild{Key: d.key, Commit: d.commit}}}, func([]fsm.Result, error) {})
		return
	}
	c.w.after(200*time.Millisecond, func() { c.deliverOnce(d) })
}

func (c *clients) answered(d *delivery, r fsm.Result) {
	w := c.w
	switch {
	case r.Err != nil:
		w.fail("commit %s is refused: %v", d.commit.SHA, r.Err)
		return
	case d.accepted != 0 && d.accepted != r.Build:
		w.fail("commit %s was accepted as build %d, its redelivery as build %d", d.commit.SHA, d.accepted, r.Build)
		return
	}
	first := d.accepted == 0
	d.accepted = r.Build
	w.logf("commit %s is accepted as build %d (known: %v)", d.commit.SHA[36:], r.Build, r.Known)
	if !first || w.mended {
		return
	}
	w.result.Builds++
	if w.chance(0.25) {
		w.after(w.between(0, 8*time.Second), func() { c.deliver(d) })
	}
	if w.chance(0.2) {
		w.after(w.between(0, 10*time.Second), func() { c.cancel(r.Build) })
	}
	if w.chance(0.1) {
		again := &delivery{commit: d.commit, key: d.key + "-retry", retryOf: r.Build}
		w.after(w.between(0, 10*time.Second), func() { c.deliver(again) })
	}
	if w.chance(0.6) {
		w.after(w.between(0, 2*time.Second), func() { c.look(d) })
	}
}

func (c *clients) cancel(id fsm.BuildID) {
	c.ask(func() fsm.Command { return fsm.Command{CancelBuild: &fsm.CancelBuild{Build: id, By: "somebody"}} },
		func(r fsm.Result) {
			if r.Err != nil && !errors.Is(r.Err, fsm.ErrEnded) {
				c.w.fail("cancel of build %d is refused: %v", id, r.Err)
			}
			c.w.logf("build %d is canceled: %v", id, r.Err)
		})
}

// look reads consistently, from a leader that dispatches: it must know what was
// accepted.
func (c *clients) look(d *delivery) {
	l := c.w.raft.leader
	if l == nil || l.lead == nil || !c.w.quorum(l) {
		return
	}
	if _, ok := l.voter.state.Build(d.accepted); !ok {
		c.w.fail("leader %s does not know build %d, which was accepted", l.id, d.accepted)
	}
}

func (c *clients) lookAtAll() {
	for _, d := range c.deliveries {
		if d.accepted != 0 {
			c.look(d)
		}
	}
}

// moveAfter is the deadline of a drain.
const moveAfter = 5 * time.Second

func (c *clients) drain(id fsm.NodeID, on bool) {
	c.ask(func() fsm.Command {
		d := &fsm.DrainNode{Node: id, Drain: on && !c.w.mended, By: "somebody"}
		if d.Drain && c.w.opt.Seed%2 == 0 { // of every other seed's, so that both are tried
			d.Until = epoch().Add(c.w.now + moveAfter)
		}
		return fsm.Command{DrainNode: d}
	},
		func(r fsm.Result) { c.w.logf("%s is drained: %v %v", id, on, r.Err) })
}

// planOf is the file of a commit: the same whoever reads it.
func (w *world) planOf(sha string) *pipeline.Pipeline {
	if p := w.clients.plans[sha]; p != nil {
		return p
	}
	n, err := strconv.ParseUint(sha, 16, 64)
	if err != nil {
		w.fail("commit %s is none of push's: %v", sha, err)
	}
	rng := rand.New(rand.NewPCG(w.opt.Seed, n+7))
	p := &pipeline.Pipeline{Name: "ci"}
	for i := range 1 + rng.IntN(4) {
		j := pipeline.Job{
			Name: string(rune('a' + i)), Image: "debian", Timeout: time.Hour, OnNodeLoss: pipeline.NodeLossRerun,
			Resources: pipeline.Resources{CPU: 250 + 250*rng.Int64N(8), Memory: 1 << 28},
			Steps:     []pipeline.Step{{Name: "s", Command: []string{"make"}}},
		}
		if rng.IntN(3) == 0 {
			j.OnNodeLoss = pipeline.NodeLossFail
		}
		for k := range i {
			if rng.IntN(3) == 0 {
				j.Needs = append(j.Needs, string(rune('a'+k)))
			}
		}
		dress(rng, &j)
		p.Jobs = append(p.Jobs, j)
	}
	dressAll(rng, p)
	w.clients.plans[sha] = p
	return p
}

func (w *world) planOutcome(c fsm.Commit) fsm.Outcome {
	switch n := w.rng.IntN(100); {
	case n < 4:
		return fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseConfig, Message: "narwhal.yml:1:1: no steps"}
	case n < 8:
		return fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseCheckout, Message: "no such host"}
	}
	return fsm.Outcome{Status: fsm.Passed, Plan: w.planOf(c.SHA)}
}

func (w *world) jobOutcome() fsm.Outcome {
	switch n := w.rng.IntN(100); {
	case n < 12:
		return fsm.Outcome{Status: fsm.Failed, Cause: fsm.CauseFailure, ExitCode: 1}
	case n < 16:
		return fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseOOM}
	}
	return fsm.Outcome{Status: fsm.Passed}
}
