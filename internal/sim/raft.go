package sim

import (
	"errors"
	"time"

	"github.com/codepr/narwhal/fsm"
)

var (
	errNotLeader = errors.New("not the leader")
	// errLeadershipLost leaves open whether the entry is committed.
	errLeadershipLost = errors.New("leadership lost while committing the entry")
)

// raft is the log as a fact: what is committed, who may commit, and what it has
// submitted. A leader that was deposed may not know it yet.
type raft struct {
	term    uint64
	leader  *member     // nil while there is none
	log     [][]byte    // nil for the entry with which a term begins
	pending []*proposal // the leader's, in order; of a dead one until the next is elected
	voting  bool        // an election is planned
}

type proposal struct {
	by    *member
	gen   int
	data  []byte
	ready time.Duration
	done  func([]fsm.Result, error)
}

// call is a ProposeAll that waits to be joined with others.
type call struct {
	commands [][]byte
	done     func([]fsm.Result, error)
}

// propose carries commands to the log: what waits together travels in one entry.
func (m *member) propose(commands []fsm.Command, done func([]fsm.Result, error)) {
	c := call{done: done}
	for _, cmd := range commands {
		cmd.At = m.wall().UTC()
		data, err := fsm.EncodeCommand(cmd)
		if err != nil {
			m.w.fail("encode %+v: %v", cmd, err)
			return
		}
		c.commands = append(c.commands, data)
	}
	m.queue = append(m.queue, c)
	if len(m.queue) == 1 {
		m.after(m.w.between(100*time.Microsecond, time.Millisecond), m.flush)
	}
}

func (m *member) flush() {
	calls := m.queue
	m.queue = nil
	var all [][]byte
	for _, c := range calls {
		all = append(all, c.commands...)
	}
	data, err := fsm.JoinEntry(all)
	if err != nil {
		m.w.fail("join entry: %v", err)
		return
	}
	m.w.submit(m, data, func(results []fsm.Result, err error) {
		for _, c := range calls {
			if err != nil {
				c.done(nil, err)
				continue
			}
			c.done(results[:len(c.commands)], nil)
			results = results[len(c.commands):]
		}
	})
}

func (w *world) submit(m *member, data []byte, done func([]fsm.Result, error)) {
	if !m.claims {
		done(nil, errNotLeader)
		return
	}
	p := &proposal{by: m, gen: m.gen, data: data, done: done}
	if w.raft.leader != m { // it has not noticed yet: the entry goes nowhere
		m.after(w.between(10*time.Millisecond, staleMax), func() { done(nil, errLeadershipLost) })
		return
	}
	wait := w.between(time.Millisecond, 8*time.Millisecond)
	if w.chance(0.05) {
		wait += w.between(0, 200*time.Millisecond)
	}
	p.ready = w.now + wait
	w.raft.pending = append(w.raft.pending, p)
	w.after(wait, w.commitReady)
}

// commitReady commits what the leader has submitted and a majority has by now.
func (w *world) commitReady() {
	r := &w.raft
	for r.leader != nil && len(r.pending) > 0 && r.pending[0].ready <= w.now {
		p := r.pending[0]
		if p.by != r.leader || !w.quorum(r.leader) {
			w.after(w.between(50*time.Millisecond, 200*time.Millisecond), w.commitReady)
			return
		}
		r.pending = r.pending[1:]
		w.append(p)
		results := p.by.voter.advance(len(r.log))
		if w.failure != nil {
			return
		}
		if p.by.up && p.by.gen == p.gen {
			p.done(results, nil)
		}
		w.followers()
		if p.by.lead != nil {
			p.by.lead.changed()
		}
	}
}

func (w *world) append(p *proposal) {
	w.raft.log = append(w.raft.log, p.data)
}

func (w *world) followers() {
	for _, m := range w.members {
		if m.voter != nil && m != w.raft.leader {
			m.voter.followSoon()
		}
	}
}

// quorum reports whether m is in touch with a majority of the voters.
func (w *world) quorum(m *member) bool {
	if !m.up {
		return false
	}
	n, all := 0, 0
	for _, o := range w.members {
		if o.voter == nil {
			continue
		}
		all++
		if o.up && w.connected(m, o) {
			n++
		}
	}
	return n > all/2
}

func (r *raft) memberDown(m *member) {
	if r.leader == m {
		r.leader = nil
	}
	m.w.electSoon()
}

func (w *world) electSoon() {
	if !w.raft.voting {
		w.raft.voting = true
		w.after(w.between(500*time.Millisecond, 1500*time.Millisecond), w.elect)
	}
}

func (w *world) elect() {
	w.raft.voting = false
	if l := w.raft.leader; l != nil && w.quorum(l) {
		return
	}
	w.changeLeader()
}

// changeLeader elects another leader than there is. Of what the old one had
// submitted a prefix survives: those entries commit although it never hears so.
func (w *world) changeLeader() {
	old := w.raft.leader
	var able []*member
	for _, m := range w.members {
		if m.voter != nil && m != old && w.quorum(m) {
			able = append(able, m)
		}
	}
	if len(able) == 0 {
		if old != nil && !w.quorum(old) {
			w.raft.leader = nil
			w.settle(old)
		}
		if w.raft.leader == nil {
			w.electSoon()
		}
		return
	}
	next := able[w.rng.IntN(len(able))]
	for _, p := range w.raft.pending[:w.rng.IntN(len(w.raft.pending)+1)] {
		w.logf("entry %d of %s survives its term", len(w.raft.log)+1, p.by.id)
		w.append(p)
	}
	w.settle(old)
	w.raft.term++
	w.raft.leader, w.raft.pending = next, nil
	w.raft.log = append(w.raft.log, nil)
	next.claims = true
	w.logf("%s is elected, term %d", next.id, w.raft.term)
	w.followers()
	w.barrier(next, w.raft.term)
	w.tellNodes(next)
}

// settle lets the old leader find out, and whoever waits on it.
func (w *world) settle(old *member) {
	waiting := w.raft.pending
	w.raft.pending = nil
	if old == nil || !old.up {
		return
	}
	limit := staleMax
	if w.opt.Bugs.NeverStepsDown {
		limit = 40 * time.Second
	}
	if w.chance(0.5) {
		limit = w.between(0, limit)
	}
	old.after(limit, func() {
		if w.raft.leader != old {
			old.stepDown()
		}
		for _, p := range waiting {
			if p.by == old && p.gen == old.gen {
				p.done(nil, errLeadershipLost)
			}
		}
	})
}

// barrier opens the term once the new leader has applied all that came before.
func (w *world) barrier(m *member, term uint64) {
	still := func() bool { return w.raft.leader == m && w.raft.term == term && m.claims }
	if w.opt.Bugs.NoBarrier {
		m.openTerm()
		m.after(w.between(50*time.Millisecond, 600*time.Millisecond), func() {
			if still() {
				m.voter.advance(len(w.raft.log))
			}
		})
		return
	}
	m.after(w.between(2*time.Millisecond, 40*time.Millisecond), func() {
		switch {
		case !still():
		case !w.quorum(m):
			w.barrier(m, term)
		default:
			m.voter.advance(len(w.raft.log))
			if !m.point("elected, before the first round") {
				m.openTerm()
			}
		}
	})
}

func (m *member) stepDown() {
	m.w.logf("%s steps down", m.id)
	m.claims = false
	if t := m.lead; t != nil {
		m.lead = nil
		t.close()
	}
}
