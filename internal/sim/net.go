package sim

import (
	"slices"
	"time"

	"github.com/codepr/narwhal/link"
)

// cuts are the directed links that carry nothing now.
type cuts map[[2]*member]int

// reaches reports whether messages from a get to b.
func (w *world) reaches(a, b *member) bool { return a == b || w.cut[[2]*member{a, b}] == 0 }

// connected reports whether a and b can talk: TCP needs both ways.
func (w *world) connected(a, b *member) bool { return w.reaches(a, b) && w.reaches(b, a) }

// stalled is how long a connection that gets nothing through lives.
const stalled = 15 * time.Second

// stream is one connection of a node to its leader.
type stream struct {
	w            *world
	node, leader *member
	up, down     pipe
	session      *session // the leader's side
	nodeGen      int
	leaderGen    int
	nodeClosed   bool
	leaderClosed bool
	broken       bool // nothing is delivered any more
}

// pipe is one direction: in order, and stuck while the link is cut.
type pipe struct {
	queue   []any // *link.Up, *link.Down, or eof
	busy    bool
	blocked time.Duration // since when nothing gets through; 0 when it does
}

type eof struct{}

func (s *stream) nodeAlive() bool {
	return s.node.up && s.node.gen == s.nodeGen && !s.nodeClosed
}

func (s *stream) leaderAlive() bool {
	return s.leader.up && s.leader.gen == s.leaderGen && !s.leaderClosed
}

func (s *stream) sendUp(m any) {
	if !s.nodeClosed {
		s.push(&s.up, m, s.node, s.leader, s.gotUp)
	}
}

func (s *stream) sendDown(m any) {
	if !s.leaderClosed {
		s.push(&s.down, m, s.leader, s.node, s.gotDown)
	}
}

func (s *stream) push(p *pipe, m any, from, to *member, got func(any)) {
	p.queue = append(p.queue, m)
	if !p.busy {
		p.busy = true
		s.w.after(s.delay(), func() { s.deliver(p, from, to, got) })
	}
}

func (s *stream) delay() time.Duration {
	if s.node == s.leader {
		return 10 * time.Microsecond
	}
	if s.w.chance(0.02) {
		return s.w.between(0, 300*time.Millisecond)
	}
	return s.w.between(50*time.Microsecond, 3*time.Millisecond)
}

func (s *stream) deliver(p *pipe, from, to *member, got func(any)) {
	if s.broken {
		return
	}
	if !s.w.reaches(from, to) {
		if p.blocked == 0 {
			p.blocked = s.w.now
		}
		if s.w.now-p.blocked > stalled {
			s.abort()
			return
		}
		s.w.after(s.w.between(100*time.Millisecond, 700*time.Millisecond), func() { s.deliver(p, from, to, got) })
		return
	}
	p.blocked = 0
	m := p.queue[0]
	p.queue = p.queue[1:]
	got(m)
	if len(p.queue) > 0 {
		s.w.after(s.delay()/4, func() { s.deliver(p, from, to, got) })
		return
	}
	p.busy = false
}

func (s *stream) gotUp(m any) {
	if !s.leaderAlive() {
		return
	}
	up, ok := m.(*link.Up)
	if !ok {
		s.closeLeader()
		return
	}
	s.leader.takeUp(s, up)
}

func (s *stream) gotDown(m any) {
	if !s.nodeAlive() {
		return
	}
	down, ok := m.(*link.Down)
	if !ok {
		s.closeNode()
		return
	}
	s.node.node.takeDown(s, down)
}

// closeNode ends the node's side; the leader hears of it when it can.
func (s *stream) closeNode() {
	if s.nodeClosed {
		return
	}
	s.sendUp(eof{})
	s.nodeClosed = true
	if s.node.up && s.node.gen == s.nodeGen {
		s.node.node.streamEnded(s)
	}
}

func (s *stream) closeLeader() {
	if s.leaderClosed {
		return
	}
	s.sendDown(eof{})
	s.leaderClosed = true
	if s.session != nil && s.leader.up && s.leader.gen == s.leaderGen {
		s.session.ended()
	}
}

// abort breaks the connection: either side finds out in its own time, and what
// is on its way is gone.
func (s *stream) abort() {
	s.broken = true
	s.w.after(s.w.between(0, 500*time.Millisecond), s.closeNode)
	s.w.after(s.w.between(0, 500*time.Millisecond), s.closeLeader)
}

// breakStreams loses what a machine without power had not got out.
func (w *world) breakStreams(m *member) {
	for _, s := range w.streams {
		if s.node == m || s.leader == m {
			s.broken = true
		}
	}
}

// dropStreams lets the peers of a member whose process has ended find out.
func (w *world) dropStreams(m *member, after time.Duration) {
	for _, s := range w.streams {
		if s.nodeClosed && s.leaderClosed {
			continue
		}
		switch {
		case s.node == m && s.leader == m:
			s.nodeClosed, s.leaderClosed = true, true
		case s.node == m:
			s.nodeClosed = true
			w.after(after, s.closeLeader)
		case s.leader == m:
			s.leaderClosed = true
			w.after(after, s.closeNode)
		}
	}
}

// cutOff stops messages from a to b for a while. A leader that has no majority
// then is followed by another.
func (w *world) cutOff(a, b *member, d time.Duration) {
	k := [2]*member{a, b}
	links := w.cut // a new one when all is mended
	links[k]++
	w.after(d, func() { links[k]-- })
	w.electSoon()
}

// openStreams drops what both sides have closed.
func (w *world) openStreams() []*stream {
	return slices.DeleteFunc(w.streams, func(s *stream) bool { return s.nodeClosed && s.leaderClosed })
}
