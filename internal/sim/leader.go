package sim

import (
	"slices"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/sched"
)

// term is the leader's memory: the model of sched's Dispatcher around the real
// leases and decisions.
type term struct {
	m         *member
	leases    *sched.Leases
	calendar  *sched.Calendar
	stopwatch *sched.Stopwatch
	sessions  []*session // that have arrived, the newest of each node
	all       []*session // that have begun
	closed    bool

	deciding bool // a round is planned
	inFlight bool // a round's commands are on their way to the log
	timer    int
}

func (m *member) openTerm() {
	if m.lead != nil {
		return
	}
	known := m.voter.state
	if m.w.opt.Bugs.LeasesNotRearmed {
		known = fsm.New()
	}
	t := &term{m: m, leases: sched.NewLeases(known, suspect, lost, m.leaseClock()), calendar: sched.NewCalendar(), stopwatch: sched.NewStopwatch()}
	m.lead = t
	m.w.logf("%s dispatches from index %d", m.id, m.voter.state.Index())
	t.wake()
}

// leaseClock is the clock that leases go by.
func (m *member) leaseClock() time.Time {
	if m.w.opt.Bugs.LeasesByWallClock {
		return m.wall()
	}
	return m.mono()
}

// changed is called with every new state of the leader's.
func (t *term) changed() {
	t.wake()
	for _, s := range t.all {
		s.pump()
	}
}

func (t *term) wake() {
	if t.closed || t.deciding {
		return
	}
	t.deciding = true
	t.m.after(t.m.w.between(20*time.Microsecond, time.Millisecond), t.decide)
}

// decide is one turn of the Dispatcher's loop.
func (t *term) decide() {
	t.deciding = false
	if t.closed || t.inFlight {
		return
	}
	m, w := t.m, t.m.w
	state := m.voter.state
	gone := t.leases.Lost(state, m.leaseClock())
	if w.opt.Bugs.LostAsNeverStarted {
		for i := range gone {
			gone[i].NeverStarted = true
		}
	}
	overdue, over := t.overdue(state)
	see := sched.Sight{Fleet: t.fleet(state), Lost: gone, Overdue: overdue, Departed: w.departed}
	commands, due := sched.Decide(state, see, t.calendar, m.wall())
	if len(commands) == 0 {
		t.sleep(due, over)
		return
	}
	w.check.decided(m, state, commands)
	t.inFlight = true
	m.propose(commands, func([]fsm.Result, error) {
		t.inFlight = false
		t.wake()
	})
	if m.raftLeader() && m.point("a round is submitted") {
		return
	}
}

func (t *term) overdue(state *fsm.State) ([]fsm.ExpireAttempt, time.Time) {
	bugs := &t.m.w.opt.Bugs
	clock := t.m.leaseClock()
	if bugs.TimeoutsByWallClock {
		clock = t.m.wall()
	}
	overdue, over := t.stopwatch.Overdue(state, clock)
	if bugs.NothingExpires {
		return nil, time.Time{}
	}
	return overdue, over
}

func (m *member) raftLeader() bool { return m.w.raft.leader == m }

func (t *term) fleet(state *fsm.State) sched.Fleet {
	f := t.leases.Fleet(t.m.leaseClock())
	if t.m.w.opt.Bugs.AssignWithoutHello {
		for n := range state.Nodes() {
			f[n.ID] = sched.Presence{Incarnation: n.Incarnation, Connected: true}
		}
	}
	return f
}

// sleep wakes the loop at the next lease that runs out, attempt whose time is up
// (over, by the leases' clock) or job that comes due (by the wall clock).
func (t *term) sleep(due, over time.Time) {
	now := t.m.leaseClock()
	wait := time.Minute
	for _, next := range []time.Time{t.leases.Next(now), over} {
		if !next.IsZero() {
			wait = min(wait, next.Sub(now))
		}
	}
	if !due.IsZero() {
		wait = min(wait, due.Sub(t.m.wall()))
	}
	t.timer++
	id := t.timer
	t.m.after(wait, func() {
		if t.timer == id {
			t.wake()
		}
	})
}

// close ends the term: its sessions end with it.
func (t *term) close() {
	t.closed = true
	for _, s := range slices.Clone(t.all) {
		s.stream.closeLeader()
	}
}

// arrive makes s its node's session; the one before is ended.
func (t *term) arrive(s *session) {
	for _, old := range slices.Clone(t.sessions) {
		if old.id == s.id {
			t.sessions = slices.DeleteFunc(t.sessions, func(o *session) bool { return o == old })
			old.stream.closeLeader()
		}
	}
	t.sessions = append(t.sessions, s)
	t.leases.Hello(s.hello, t.m.leaseClock())
	t.wake()
}

func (t *term) depart(s *session) {
	t.all = slices.DeleteFunc(t.all, func(o *session) bool { return o == s })
	if !slices.Contains(t.sessions, s) {
		return
	}
	t.sessions = slices.DeleteFunc(t.sessions, func(o *session) bool { return o == s })
	t.leases.Gone(s.id)
	t.wake()
}
