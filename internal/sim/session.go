package sim

import (
	"errors"
	"slices"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/sched"
)

// session is one node's stream, at the leader: the model of sched's session
// around the real Announce, Forgotten and Wanted.
type session struct {
	t       *term
	id      fsm.NodeID
	stream  *stream
	hello   *link.Hello
	knows   map[fsm.AttemptRef]bool
	arrived bool
	over    bool

	waiting []*link.Up   // came before it had arrived
	out     []*link.Down // beats and acks, to be sent
	first   bool         // nothing has been sent yet
	pumping bool
	again   bool
	sent    []link.Assignment
	worked  map[fsm.AttemptRef]bool
}

func (m *member) takeUp(s *stream, up *link.Up) {
	switch ses := s.session; {
	case up.Hello != nil && m.lead != nil && ses == nil:
		ses = &session{t: m.lead, id: up.Hello.Node.ID, stream: s, hello: up.Hello, first: true,
			knows: make(map[fsm.AttemptRef]bool), worked: make(map[fsm.AttemptRef]bool)}
		if !m.w.opt.Bugs.KeptAttemptsUnknown {
			for _, r := range up.Hello.Runs {
				ses.knows[r] = true
			}
		}
		s.session = ses
		m.lead.all = append(m.lead.all, ses)
		ses.announce()
	case ses == nil:
		s.closeLeader() // it does not lead
	case !ses.arrived:
		ses.waiting = append(ses.waiting, up)
	default:
		ses.take(up)
	}
}

func (s *session) state() *fsm.State { return s.t.m.voter.state }

// propose calls then once the commands are applied; a session whose commands
// fail is over.
func (s *session) propose(commands []fsm.Command, then func()) {
	if len(commands) == 0 {
		then()
		return
	}
	s.t.m.propose(commands, func(results []fsm.Result, err error) {
		for _, r := range results {
			if err == nil && r.Err != nil && !errors.Is(r.Err, fsm.ErrStale) {
				err = r.Err
			}
		}
		switch {
		case s.over:
		case err != nil:
			s.stream.closeLeader()
		default:
			then()
		}
	})
}

func (s *session) announce() {
	s.propose(sched.Announce(s.state(), s.hello), func() {
		if s.t.m.point("a node is announced, before what it forgot") {
			return
		}
		var forgotten []fsm.Command
		if !s.t.m.w.opt.Bugs.NothingForgotten {
			forgotten = sched.Forgotten(s.state(), s.hello)
		}
		s.propose(forgotten, s.arrive)
	})
}

func (s *session) arrive() {
	s.t.m.w.logf("%s has %s at index %d, it runs %v", s.t.m.id, s.id, s.state().Index(), s.hello.Runs)
	s.arrived = true
	s.t.arrive(s)
	s.pump()
	for _, up := range s.waiting {
		s.take(up)
	}
	s.waiting = nil
}

func (s *session) take(up *link.Up) {
	m := s.t.m
	if up.Beat != nil {
		s.t.leases.Beat(s.id, up.Beat, m.leaseClock())
		s.t.wake()
		s.queue(&link.Down{Beat: up.Beat.Seq})
	}
	if len(up.Reports) == 0 {
		return
	}
	commands := make([]fsm.Command, len(up.Reports))
	for i, r := range up.Reports {
		if r.Outcome != nil {
			commands[i].FinishAttempt = &fsm.FinishAttempt{Ref: r.Ref, Outcome: *r.Outcome}
			continue
		}
		commands[i].StartAttempt = &fsm.StartAttempt{Ref: r.Ref}
	}
	if m.w.opt.Bugs.AckReportEarly {
		s.ack(up.Reports, make([]fsm.Result, len(up.Reports)))
	}
	s.carry(commands, func(results []fsm.Result, err error) {
		switch {
		case s.over || m.point("reports are applied, before the acknowledgement"):
		case err != nil:
			s.stream.closeLeader()
		case !m.w.opt.Bugs.AckReportEarly:
			s.ack(up.Reports, results)
		}
	})
}

// carry proposes a batch of reports. Batches are carried side by side, so that a
// later one may come first.
func (s *session) carry(commands []fsm.Command, done func([]fsm.Result, error)) {
	m := s.t.m
	if m.w.chance(0.2) {
		m.after(m.w.between(0, 10*time.Millisecond), func() { m.propose(commands, done) })
		return
	}
	m.propose(commands, done)
}

func (s *session) ack(reports []link.Report, results []fsm.Result) {
	acks := make([]link.Ack, len(reports))
	for i, r := range results {
		acks[i] = link.Ack{ID: reports[i].ID, Stale: r.Err != nil}
		if r.Err != nil {
			s.t.m.w.result.Stale++
			s.t.m.w.check.refused[reports[i].Ref] = true
			s.t.m.w.logf("%s refuses the report of %s on %s: %v", s.t.m.id, s.id, reports[i].Ref, r.Err)
		}
	}
	s.queue(&link.Down{Acks: acks})
}

func (s *session) queue(d *link.Down) {
	s.out = append(s.out, d)
	s.pump()
}

// pump is the session's send loop. Between reading the state and gathering the
// answers other goroutines may run, and sometimes do.
func (s *session) pump() {
	if !s.arrived || s.over {
		return
	}
	if s.pumping {
		s.again = true
		return
	}
	s.pumping, s.again = true, false
	d := &link.Down{Desired: s.news()}
	if w := s.t.m.w; w.chance(0.1) {
		s.t.m.after(w.between(0, 20*time.Millisecond), func() { s.send(d) })
		return
	}
	s.send(d)
}

func (s *session) send(d *link.Down) {
	s.pumping = false
	if s.over {
		return
	}
	for _, next := range s.out {
		d.Beat = max(d.Beat, next.Beat)
		d.Acks = append(d.Acks, next.Acks...)
	}
	s.out = nil
	if d.Desired != nil || d.Beat != 0 || len(d.Acks) > 0 {
		s.stream.sendDown(d)
	}
	if s.again {
		s.pump()
	}
}

func (s *session) news() *link.Wanted {
	state := s.state()
	set := sched.Wanted(state, s.hello, s.knows)
	bugs := &s.t.m.w.opt.Bugs
	if !s.first && (slices.EqualFunc(set, s.sent, sched.SameWish) || bugs.WantedOnlyOnce) {
		return nil
	}
	s.first = false
	s.sent = slices.Clone(set)
	worked := make(map[fsm.AttemptRef]bool, len(set))
	for i := range set {
		if !s.worked[set[i].Ref] && !(bugs.WorkOncePerLeader && s.t.m.w.check.worked(s.t, set[i].Ref)) {
			set[i].Work = sched.Work(state, set[i].Ref)
		}
		worked[set[i].Ref] = true
	}
	s.worked = worked
	return &link.Wanted{Index: state.Index(), Attempts: set}
}

func (s *session) ended() {
	s.over = true
	s.t.depart(s)
}
