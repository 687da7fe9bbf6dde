package sim

import (
	"time"
)

// fault makes one thing go wrong, and plans the next.
func (w *world) fault() {
	if w.mended {
		return
	}
	m := w.members[w.rng.IntN(len(w.members))]
	if l := w.raft.leader; l != nil && w.chance(0.2) {
		m = l
	} else if n := len(w.check.running); n > 0 && w.chance(0.5) {
		m = w.check.running[w.rng.IntN(n)].m
	}
	w.faults[w.rng.IntN(len(w.faults))](m)
	if w.patient {
		w.after(w.between(2*time.Second, 8*time.Second), w.fault)
		return
	}
	w.after(w.between(100*time.Millisecond, 3*time.Second), w.fault)
}

// chooseFaults draws which kinds of faults this run has: one that has all of them
// never gets where only some lead, such as past a lease under one leader.
func (w *world) chooseFaults() {
	all := []func(*member){
		w.killed, w.poweredOff, w.isolated, w.oneWay, w.deposed, w.shaken, w.streamBroken,
		w.slowed, w.clockStepped, w.drained, w.aimed, w.destroyed, w.cutFromLeader, w.choked, w.leaves,
	}
	if w.chance(0.3) { // few faults and long jobs: leases run out, and nodes come back
		all = []func(*member){w.killed, w.isolated, w.cutFromLeader, w.cutFromLeader, w.choked, w.choked, w.clockStepped, w.streamBroken}
		w.patient = true
	}
	p := 0.2 + 0.6*w.rng.Float64()
	for _, f := range all {
		if w.chance(p) {
			w.faults = append(w.faults, f)
		}
	}
	if len(w.faults) == 0 {
		w.faults = all
	}
}

// pause draws how long something is away: shorter and longer than the leases.
func (w *world) pause() time.Duration {
	if w.chance(0.35) {
		return w.between(14*time.Second, 28*time.Second)
	}
	return w.between(100*time.Millisecond, 8*time.Second)
}

func (w *world) killed(m *member) {
	m.kill("fault")
	w.after(w.pause(), m.start)
}

func (w *world) poweredOff(m *member) {
	m.crash()
	w.after(w.pause(), m.start)
}

// destroyed takes a machine away for good, one a run.
func (w *world) destroyed(m *member) {
	for _, o := range w.members {
		if o.dead {
			return
		}
	}
	if w.chance(0.4) {
		m.crash()
		m.dead = true
	}
}

func (w *world) isolated(m *member) {
	d := w.pause()
	w.logf("%s is cut off for %s", m.id, d)
	for _, o := range w.members {
		if o != m {
			w.cutOff(m, o, d)
			w.cutOff(o, m, d)
		}
	}
}

// cutFromLeader leaves a node and the leader without each other, while both reach
// the others: mostly no election follows.
func (w *world) cutFromLeader(m *member) { w.cutFromLeaderFor(m, w.pause()) }

func (w *world) cutFromLeaderFor(m *member, d time.Duration) {
	l := w.raft.leader
	if l == nil || l == m {
		return
	}
	w.logf("%s and %s are cut off from each other for %s", m.id, l.id, d)
	if w.chance(0.4) { // a lease that went by the wall clock would not run out
		w.after(w.between(0, 10*time.Second), func() { w.stepClock(m, -time.Hour, d) })
	}
	w.cutOff(m, l, d)
	w.cutOff(l, m, d)
}

func (w *world) oneWay(m *member) {
	d := w.pause()
	l := w.raft.leader
	if l == nil || l == m {
		l = w.members[w.rng.IntN(len(w.members))]
	}
	from, to := m, l
	if w.chance(0.5) {
		from, to = l, m
	}
	if from == to {
		return
	}
	w.logf("nothing gets from %s to %s for %s", from.id, to.id, d)
	w.cutOff(from, to, d)
}

func (w *world) deposed(*member) {
	if l := w.raft.leader; l != nil {
		w.logf("%s is deposed", l.id)
		w.changeLeader()
		w.after(w.between(0, 400*time.Millisecond), w.clients.lookAtAll)
	}
}

// shaken deposes the leader and then breaks streams, while the old one may not
// know yet: nodes come back to it.
func (w *world) shaken(m *member) {
	w.deposed(m)
	for range 1 + w.rng.IntN(3) {
		w.after(w.between(0, 300*time.Millisecond), w.clients.push)
	}
	for _, o := range w.members {
		for range 2 {
			w.after(w.between(50*time.Millisecond, staleMax), func() {
				if o.node != nil && o.node.stream != nil {
					o.node.stream.closeNode()
				}
			})
		}
	}
}

// choked holds a leader's answers back, lets them through when the last beat is
// old, and then cuts the two off: the node has heard late, and then nothing. It
// goes for a node with a job that must not run on after that.
func (w *world) choked(m *member) {
	l := w.raft.leader
	for _, r := range w.check.running {
		if r.m != l && w.check.exclusive(r.ref.Job) {
			m = r.m
			break
		}
	}
	if l == nil || l == m || m.node == nil || m.node.stream == nil {
		return
	}
	heal := m.node.beatAt + 2*beatEvery + w.between(1100*time.Millisecond, 1500*time.Millisecond) - w.now
	away := w.between(17*time.Second, 28*time.Second)
	if heal <= 0 {
		return // its beats have long been in vain
	}
	w.logf("nothing gets from %s to %s for %s, then the other way", l.id, m.id, heal)
	w.cutOff(l, m, heal)
	w.after(heal, func() {
		if !w.mended {
			w.cutOff(m, l, away)
		}
	})
	w.after(heal+800*time.Millisecond, func() {
		if !w.mended {
			w.cutFromLeaderFor(m, away)
		}
	})
}

// leaves takes a node out of the cluster for good, as narwhal leave does: what it
// runs it has stopped before.
func (w *world) leaves(m *member) {
	if m.voter != nil || m.dead || !w.chance(0.3) {
		return
	}
	m.crash()
	m.dead = true
	w.departed = append(w.departed, m.id)
}

func (w *world) streamBroken(m *member) {
	if m.node != nil && m.node.stream != nil {
		w.logf("the stream of %s breaks", m.id)
		m.node.stream.abort()
	}
}

func (w *world) slowed(m *member) {
	if v := m.voter; v != nil {
		v.slow = w.between(200*time.Millisecond, 3*time.Second)
		w.logf("%s applies %s late", m.id, v.slow)
		w.after(w.pause(), func() { v.slow = 0 })
	}
}

func (w *world) clockStepped(m *member) {
	step := time.Hour
	if w.chance(0.5) {
		step = -time.Hour
	}
	w.stepClock(m, step, w.pause())
}

// stepClock puts a wall clock wrong for a while.
func (w *world) stepClock(m *member, step, d time.Duration) {
	if w.mended {
		return
	}
	w.logf("the wall clock of %s steps by %s", m.id, step)
	m.wallOff += step
	w.after(d, func() {
		if !w.mended {
			m.wallOff -= step
		}
	})
}

func (w *world) drained(m *member) {
	w.clients.drain(m.id, true)
	w.after(w.pause(), func() { w.clients.drain(m.id, false) })
}

// points are the places at which a member is killed on purpose; member.point
// names them.
var points = []string{
	"attempts are on the disk, before they start",
	"a container has started",
	"an attempt has ended, before it is on the disk",
	"an outcome is on the disk, before it is told",
	"a hello is sent",
	"elected, before the first round",
	"a round is submitted",
	"a node is announced, before what it forgot",
	"reports are applied, before the acknowledgement",
}

func (w *world) aimed(m *member) { m.armed = points[w.rng.IntN(len(points))] }

// mend ends every fault. What was destroyed stays so.
func (w *world) mend() {
	w.logf("all is mended")
	w.mended = true
	w.cut = make(cuts)
	for _, m := range w.members {
		m.armed, m.wallOff = "", 0
		if m.voter != nil {
			m.voter.slow = 0
		}
		m.start()
		if n, ok := w.check.newest.Node(m.id); ok && n.Drained {
			w.clients.drain(m.id, false)
		}
	}
	w.setClocks()
	w.electSoon()
}

// setClocks puts every wall clock right, and lets the hour pass by which one was
// ahead: the state's time never goes back, and a retry may wait for it.
func (w *world) setClocks() {
	ahead := max(0, w.check.newest.Now().Sub(epoch().Add(w.now)))
	for _, m := range w.members {
		m.wallOff = max(m.wallOff, ahead)
	}
}
