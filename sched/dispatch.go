package sched

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
)

// States is where the newest state is had from.
type States interface {
	// Watch gives the newest state and a channel that is closed when there is a
	// newer one.
	Watch() (*fsm.State, <-chan struct{})
}

// Proposer carries commands to the log and waits until they are applied. Each
// command's refusal stands in its Result, the error is the log's.
type Proposer interface {
	ProposeAll(ctx context.Context, commands []fsm.Command) ([]fsm.Result, error)
}

// Membership says which nodes have left for good.
type Membership interface {
	// Departed lists nodes that said that they leave, and a channel that is
	// closed with the next change.
	Departed() ([]fsm.NodeID, <-chan struct{})
}

// Config is what a Dispatcher needs; all of it but the times.
type Config struct {
	States     States
	Proposer   Proposer
	Membership Membership
	Now        func() time.Time // wall clock, with its monotonic part
	Log        *slog.Logger
	Suspect    time.Duration // without a beat, no new jobs; 0 is link.DefaultSuspect
	Lost       time.Duration // without a beat, its attempts run elsewhere; 0 is link.DefaultLost
}

// Dispatcher is the leader's side of every node's stream and the loop that
// places jobs. On a node that does not lead it refuses streams.
type Dispatcher struct {
	cfg Config

	mu   sync.Mutex
	term *term // nil while this node does not lead
}

// NewDispatcher makes a dispatcher. It starts nothing.
func NewDispatcher(cfg Config) *Dispatcher {
	if cfg.Suspect == 0 {
		cfg.Suspect = link.DefaultSuspect
	}
	if cfg.Lost == 0 {
		cfg.Lost = link.DefaultLost
	}
	return &Dispatcher{cfg: cfg}
}

// Lead dispatches until ctx, which is the leadership's, ends: all that it
// started has ended when it returns. It must not be called again before.
func (d *Dispatcher) Lead(ctx context.Context) error {
	s, _ := d.cfg.States.Watch()
	t := newTerm(NewLeases(s, d.cfg.Suspect, d.cfg.Lost, d.cfg.Now()))
	d.open(t)
	err := d.loop(ctx, t)
	d.open(nil)
	t.close()
	return err
}

func (d *Dispatcher) open(t *term) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.term = t
}

// loop is woken by a new state, by a change of who is there, and by time.
func (d *Dispatcher) loop(ctx context.Context, t *term) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		state, newer := d.cfg.States.Watch()
		departed, moved := d.cfg.Membership.Departed()
		woken := t.woken() // before it is looked: what comes in between counts
		now := d.cfg.Now()
		commands, due := t.decide(state, departed, now)
		if len(commands) > 0 {
			if err := d.propose(ctx, commands); err != nil {
				return err
			}
			continue
		}
		if due.IsZero() {
			due = now.Add(time.Minute)
		}
		timer.Reset(due.Sub(now))
		select {
		case <-newer:
		case <-moved:
		case <-woken:
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// propose carries one round's decisions to the log, as one entry where they fit.
func (d *Dispatcher) propose(ctx context.Context, commands []fsm.Command) error {
	results, err := d.cfg.Proposer.ProposeAll(ctx, commands)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("dispatch: %w", err)
	}
	for i, r := range results {
		if r.Err != nil {
			// Something came in between, such as a cancel; the next round sees it.
			d.cfg.Log.Debug("placement refused", "command", commands[i], "reason", r.Err)
		}
	}
	return nil
}

func (t *term) decide(s *fsm.State, departed []fsm.NodeID, now time.Time) (commands []fsm.Command, due time.Time) {
	t.mu.Lock()
	fleet, lost, due := t.leases.Fleet(now), t.leases.Lost(s, now), t.leases.Next(now)
	t.mu.Unlock()
	overdue, over := t.stopwatch.Overdue(s, now)
	commands, waits := Decide(s, Sight{Fleet: fleet, Lost: lost, Overdue: overdue, Departed: departed}, t.calendar, now)
	return commands, earliest(due, over, waits)
}

// earliest is the first of times; zero ones are none.
func earliest(times ...time.Time) time.Time {
	var first time.Time
	for _, t := range times {
		if first.IsZero() || !t.IsZero() && t.Before(first) {
			first = t
		}
	}
	return first
}

// Sight is what the leader knows beside the state, and has measured.
type Sight struct {
	Fleet    Fleet
	Lost     []fsm.LoseAttempt   // of Leases
	Overdue  []fsm.ExpireAttempt // of Stopwatch
	Departed []fsm.NodeID
}

// Decide is one round of the leader, pure: what has been lost, whose time is up,
// who has left, what has to go from a drained node, what the clock starts, what starts where. It returns what to
// propose, and when something that waits for its time comes due.
func Decide(s *fsm.State, see Sight, calendar *Calendar, now time.Time) (commands []fsm.Command, due time.Time) {
	for i := range see.Lost {
		commands = append(commands, fsm.Command{LoseAttempt: &see.Lost[i]})
	}
	for _, id := range see.Departed {
		commands = append(commands, farewell(s, id)...)
	}
	if len(commands) > 0 {
		return commands, time.Time{} // what follows goes by the state after these
	}
	move, next := Evictions(s, now)
	for i := range move {
		commands = append(commands, fsm.Command{MoveAttempt: &move[i]})
	}
	for i := range see.Overdue {
		commands = append(commands, fsm.Command{ExpireAttempt: &see.Overdue[i]})
	}
	fire, fires := calendar.Due(s, now)
	for i := range fire {
		commands = append(commands, fsm.Command{FireSchedule: &fire[i]})
	}
	if len(commands) > 0 {
		return commands, time.Time{}
	}
	place, due := Plan(s, see.Fleet, now)
	for i := range place {
		commands = append(commands, fsm.Command{AssignJob: &place[i]})
	}
	return commands, earliest(due, next, fires)
}

// farewell takes a node that has left out of the state: first its attempts, then
// itself.
func farewell(s *fsm.State, id fsm.NodeID) []fsm.Command {
	if _, ok := s.Node(id); !ok {
		return nil
	}
	var out []fsm.Command
	for j := range s.Placed(id) {
		a, _ := j.Current()
		out = append(out, fsm.Command{LoseAttempt: &fsm.LoseAttempt{Ref: j.Ref(a), Message: "its node has left the cluster"}})
	}
	return append(out, fsm.Command{RemoveNode: &fsm.RemoveNode{Node: id}})
}

// Why says what keeps a job from starting. It is link.ErrNotLeader where this
// node does not lead, since only the leader knows who is there.
func (d *Dispatcher) Why(id fsm.JobID) ([]fsm.Reason, error) {
	t, err := d.current()
	if err != nil {
		return nil, err
	}
	s, _ := d.cfg.States.Watch()
	j, ok := s.Job(id)
	if !ok {
		return nil, fmt.Errorf("job %s: %w", id, fsm.ErrUnknownJob)
	}
	now := d.cfg.Now()
	t.mu.Lock()
	fleet := t.leases.Fleet(now)
	t.mu.Unlock()
	return Why(s, fleet, now, j), nil
}

// Loads is how busy the nodes that have a stream said to be with their last beat.
func (d *Dispatcher) Loads() (map[fsm.NodeID]link.Load, error) {
	t, err := d.current()
	if err != nil {
		return nil, err
	}
	return t.loads(), nil
}

func (d *Dispatcher) current() (*term, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.term == nil {
		return nil, link.ErrNotLeader
	}
	return d.term, nil
}
