package sim

import (
	"slices"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/runner"
)

// dial opens a stream to whom the node believes to lead.
func (r *nodeRunner) dial() {
	w, m := r.m.w, r.m
	l := m.believes()
	if r.stream != nil {
		return
	}
	if l == nil || !w.connected(m, l) {
		r.redial()
		return
	}
	s := &stream{w: w, node: m, leader: l, nodeGen: m.gen, leaderGen: l.gen}
	w.streams = append(w.openStreams(), s)
	r.stream, r.wanted, r.works = s, nil, make(map[fsm.AttemptRef]*link.Work)
	clear(r.sent)
	hello := &link.Hello{Node: fsm.Node{ID: m.id, Name: string(m.id), Incarnation: uint64(m.gen),
		Capacity: m.room, Executor: "process", Version: "sim"}}
	for _, a := range r.attempts {
		hello.Runs = append(hello.Runs, a.ref)
	}
	s.sendUp(&link.Up{Hello: hello}) // alone: the leader answers it first
	s.sendUp(&link.Up{Beat: r.beat()})
	if !w.opt.Bugs.NotResentOnNewStream {
		r.sendReports(r.out)
	}
	m.after(beatEvery, func() { r.keepBeating(s) })
	m.point("a hello is sent")
}

// believes is who leads, as far as the member knows: sometimes one that does no
// longer.
func (m *member) believes() *member {
	w := m.w
	if w.chance(0.5) {
		for _, o := range w.members {
			if o.up && o.claims && o != w.raft.leader {
				return o
			}
		}
	}
	return w.raft.leader
}

func (r *nodeRunner) redial() {
	r.m.after(r.m.w.between(r.backoff/2, r.backoff), r.dial)
	r.backoff = min(2*r.backoff, 2*time.Second)
}

func (r *nodeRunner) streamEnded(s *stream) {
	if r.stream == s {
		r.stream = nil
		r.redial()
	}
}

// tellNodes lets the nodes find out who leads now.
func (w *world) tellNodes(l *member) {
	for _, m := range w.members {
		if m.node == nil {
			continue
		}
		m.after(w.between(10*time.Millisecond, 400*time.Millisecond), func() {
			if s := m.node.stream; s != nil && s.leader != l && w.raft.leader == l && w.connected(m, l) {
				s.closeNode()
			}
		})
	}
}

func (r *nodeRunner) beat() *link.Beat {
	r.seq++
	r.sent[r.seq], r.beatAt = r.clock(), r.m.w.now
	return &link.Beat{Seq: r.seq}
}

// keepBeating beats on a stream, and gives it up when nobody answers.
func (r *nodeRunner) keepBeating(s *stream) {
	if r.stream != s {
		return
	}
	if len(r.sent) >= 4 {
		s.closeNode()
		return
	}
	s.sendUp(&link.Up{Beat: r.beat()})
	r.m.after(beatEvery, func() { r.keepBeating(s) })
}

func (r *nodeRunner) report(p link.Report) {
	r.m.w.check.tells(r.m, p)
	r.lastID++
	p.ID = r.lastID
	r.out = append(r.out, p)
	r.sendReports([]link.Report{p})
}

func (r *nodeRunner) sendReports(reports []link.Report) {
	if r.stream == nil || len(reports) == 0 {
		return
	}
	r.stream.sendUp(&link.Up{Reports: slices.Clone(reports)})
	if r.m.w.opt.Bugs.ClosedWhenSent {
		for _, p := range slices.Clone(reports) {
			r.acknowledged(link.Ack{ID: p.ID})
		}
	}
}

// takeDown takes what the leader says, in the order in which runner does.
func (r *nodeRunner) takeDown(s *stream, d *link.Down) {
	if r.stream != s {
		return
	}
	r.backoff = 50 * time.Millisecond
	if at, ok := r.sent[d.Beat]; ok {
		if r.m.w.opt.Bugs.LeaseFromAnswer {
			at = r.clock()
		}
		r.until = at.Add(lease)
		for seq := range r.sent {
			if seq <= d.Beat {
				delete(r.sent, seq)
			}
		}
		r.step() // what waited for a lease may start
	}
	for _, ack := range d.Acks {
		r.acknowledged(ack)
	}
	if d.Desired != nil {
		r.want(*d.Desired)
	}
}

func (r *nodeRunner) want(w link.Wanted) {
	if r.wanted != nil && w.Index < r.wanted.Index {
		return
	}
	works := make(map[fsm.AttemptRef]*link.Work)
	w.Attempts = slices.Clone(w.Attempts)
	for i := range w.Attempts {
		a := &w.Attempts[i]
		if a.Work == nil {
			a.Work = r.works[a.Ref]
		}
		if a.Work != nil && r.find(a.Ref) == nil {
			works[a.Ref] = a.Work
		}
	}
	r.wanted, r.works = &w, works
	r.step()
}

func (r *nodeRunner) acknowledged(ack link.Ack) {
	at := slices.IndexFunc(r.out, func(p link.Report) bool { return p.ID == ack.ID })
	if at < 0 {
		return
	}
	p := r.out[at]
	r.out = slices.Delete(r.out, at, at+1)
	a := r.find(p.Ref)
	switch {
	case a == nil:
	case a.state == runner.Ended && ack.Stale:
		r.out = slices.DeleteFunc(r.out, func(o link.Report) bool { return o.Ref == a.ref })
		r.bury(a, runner.Dropped)
	case a.state == runner.Ended && p.Outcome != nil:
		r.bury(a, runner.Closed)
	case ack.Stale && a.alive():
		r.halt(a, runner.Aborting)
	}
}
