package sched

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
)

// reportsInFlight bounds the batches of one node's reports that are on their way
// to the log at a time.
const reportsInFlight = 32

// errReplaced is returned when the node has dialled anew.
var errReplaced = errors.New("the node has another stream")

// session is one node's stream, at the leader.
type session struct {
	d      *Dispatcher
	term   *term
	stream link.Stream
	end    context.CancelCauseFunc // only the first reason counts
	down   chan *link.Down         // beats and acks, to be sent

	// Of the hello.
	node  *fsm.Node
	hello *link.Hello
	knows map[fsm.AttemptRef]bool // what the node said that it runs

	// Only send reads and writes these.
	sent   []link.Assignment       // the set that the node was sent last
	worked map[fsm.AttemptRef]bool // attempts whose Work it has been sent
}

// Serve is link.Handler: it keeps one node's stream while this node leads.
//
// It never waits for the node itself: Send and Recv may take as long as the node
// likes, and nothing but the end of the stream frees them, which is when Serve
// returns. So they run beside it, and it returns with the first reason to end.
func (d *Dispatcher) Serve(ctx context.Context, _ fsm.NodeID, stream link.Stream) error {
	t, err := d.current()
	if err != nil {
		return err
	}
	if !t.enter() {
		return link.ErrNotLeader
	}
	defer t.streams.Done()
	ctx, end := context.WithCancelCause(ctx)
	s := &session{
		d: d, term: t, stream: stream, end: end,
		down: make(chan *link.Down, 2*reportsInFlight), worked: make(map[fsm.AttemptRef]bool),
	}
	t.streams.Go(func() { end(s.run(ctx)) })
	select {
	case <-ctx.Done():
	case <-t.done:
		end(link.ErrNotLeader)
	}
	return context.Cause(ctx)
}

// run returns once both directions have ended; what is left of it when ctx has
// ended changes nothing any more.
func (s *session) run(ctx context.Context) error {
	up, err := s.stream.Recv()
	if err != nil {
		return fmt.Errorf("receive hello: %w", err)
	}
	s.hello, s.node, s.knows = up.Hello, &up.Hello.Node, refs(up.Hello)
	if err := s.welcome(ctx); err != nil {
		return err
	}
	log := s.d.cfg.Log.With("node", s.node.Name, "id", s.node.ID)
	if !s.term.arrive(ctx, s, s.d.cfg.Now()) {
		return context.Cause(ctx)
	}
	defer s.term.depart(s)
	log.Info("node connected", "incarnation", s.node.Incarnation, "runs", len(s.hello.Runs))
	var both sync.WaitGroup
	both.Go(func() { s.end(s.send(ctx)) })
	both.Go(func() { s.end(s.receive(ctx)) })
	both.Wait()
	log.Info("node disconnected", "reason", context.Cause(ctx))
	return context.Cause(ctx)
}

// welcome brings the state up to what the node says of itself.
func (s *session) welcome(ctx context.Context) error {
	state, _ := s.d.cfg.States.Watch()
	if err := s.propose(ctx, Announce(state, s.hello)); err != nil {
		return fmt.Errorf("announce node %s: %w", s.node.ID, err)
	}
	state, _ = s.d.cfg.States.Watch()
	if err := s.propose(ctx, Forgotten(state, s.hello)); err != nil {
		return fmt.Errorf("requeue what node %s has not begun: %w", s.node.ID, err)
	}
	return nil
}

func (s *session) propose(ctx context.Context, commands []fsm.Command) error {
	if len(commands) == 0 {
		return nil
	}
	results, err := s.proposeAll(ctx, commands)
	for _, r := range results {
		if err == nil && r.Err != nil && !errors.Is(r.Err, fsm.ErrStale) {
			err = r.Err
		}
	}
	return err
}

// proposeAll refuses once the session is over. A Proposer may carry commands for
// a context that has ended.
func (s *session) proposeAll(ctx context.Context, commands []fsm.Command) ([]fsm.Result, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return s.d.cfg.Proposer.ProposeAll(ctx, commands)
}

// receive takes beats and reports until the stream or the session ends. A report
// that can't be taken ends the session: the node sends it again on the next.
func (s *session) receive(ctx context.Context) error {
	var reports errgroup.Group
	reports.SetLimit(reportsInFlight)
	defer func() { _ = reports.Wait() }() // each has told s.end
	for {
		up, err := s.stream.Recv()
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if up.Beat != nil {
			s.term.beat(s.node.ID, up.Beat, s.d.cfg.Now())
			s.queue(ctx, &link.Down{Beat: up.Beat.Seq})
		}
		if batch := up.Reports; len(batch) > 0 {
			reports.Go(func() error {
				err := s.take(ctx, batch)
				if err != nil {
					s.end(err)
				}
				return err
			})
		}
	}
}

// take carries reports to the log and acknowledges them once they are applied.
func (s *session) take(ctx context.Context, reports []link.Report) error {
	commands := make([]fsm.Command, len(reports))
	for i, r := range reports {
		if r.Outcome != nil {
			commands[i].FinishAttempt = &fsm.FinishAttempt{Ref: r.Ref, Outcome: *r.Outcome}
			continue
		}
		commands[i].StartAttempt = &fsm.StartAttempt{Ref: r.Ref, Waiting: r.Waiting}
	}
	results, err := s.proposeAll(ctx, commands)
	if err == nil {
		err = s.shrink(ctx, commands, results)
	}
	if err != nil {
		return fmt.Errorf("propose reports of node %s: %w", s.node.ID, err)
	}
	acks := make([]link.Ack, len(reports))
	for i, r := range results {
		acks[i] = link.Ack{ID: reports[i].ID, Stale: r.Err != nil}
		if r.Err != nil {
			s.d.cfg.Log.Warn("report refused", "attempt", reports[i].Ref, "node", s.node.ID, "reason", r.Err)
		}
	}
	s.queue(ctx, &link.Down{Acks: acks})
	return nil
}

// shrink proposes again, without what the log can't take of them, the outcomes that are
// too large for it, or that an older node could not read: their node would report them
// forever.
func (s *session) shrink(ctx context.Context, commands []fsm.Command, results []fsm.Result) error {
	for i := range results {
		f := commands[i].FinishAttempt
		if f == nil {
			continue
		}
		var why string
		var instead []fsm.Outcome
		switch err := results[i].Err; {
		case errors.Is(err, fsm.ErrTooLarge):
			why = "its result is larger than the cluster's log takes at a time (256 KiB), with its messages, steps and test reports, " +
				"and could not be recorded: it should report less"
		case errors.Is(err, fsm.ErrHeldBack):
			why = err.Error() + "; then retry it"
			if f.Outcome.Text != nil { // the build can do without
				plain := f.Outcome
				plain.Text = nil
				instead = append(instead, plain)
			}
		default:
			continue
		}
		s.d.cfg.Log.Warn("result can't go into the log", "attempt", f.Ref, "node", s.node.ID, "reason", results[i].Err)
		for _, o := range append(instead, unrecorded(f.Outcome, why)) {
			again, err := s.proposeAll(ctx, []fsm.Command{{FinishAttempt: &fsm.FinishAttempt{Ref: f.Ref, Outcome: o}}})
			if err != nil {
				return err
			}
			if results[i] = again[0]; !errors.Is(results[i].Err, fsm.ErrHeldBack) {
				break
			}
		}
	}
	return nil
}

// unrecorded stands for an outcome that can't go into the log.
func unrecorded(o fsm.Outcome, why string) fsm.Outcome {
	const most = 1000 // bytes of the message that there was
	how := string(o.Status)
	if o.Cause != "" {
		how += " (" + string(o.Cause) + ")"
	}
	if o.Message != "" {
		how += ": " + strings.ToValidUTF8(o.Message[:min(most, len(o.Message))], "")
	}
	return fsm.Outcome{
		Status: fsm.Errored, Cause: fsm.CauseConfig, ExitCode: o.ExitCode, LogBytes: o.LogBytes, PeakMemory: o.PeakMemory, CPUTime: o.CPUTime,
		Message: why + ". It ended as " + how,
	}
}

func (s *session) queue(ctx context.Context, d *link.Down) {
	select {
	case s.down <- d:
	case <-ctx.Done():
	}
}

// send tells the node what it should be running whenever that changes, and what
// receive has to answer.
func (s *session) send(ctx context.Context) error {
	for first := true; ; first = false {
		state, newer := s.d.cfg.States.Watch()
		d := &link.Down{Desired: s.news(state, first)}
		s.gather(d)
		if d.Desired != nil || d.Beat != 0 || len(d.Acks) > 0 {
			if err := s.stream.Send(d); err != nil {
				return fmt.Errorf("send to node %s: %w", s.node.ID, err)
			}
		}
		select {
		case <-newer:
		case next := <-s.down:
			if err := s.stream.Send(next); err != nil {
				return fmt.Errorf("send to node %s: %w", s.node.ID, err)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// news is the node's set of attempts where it is another than the one that it
// was sent last; a stream's first one is sent in any case.
func (s *session) news(state *fsm.State, first bool) *link.Wanted {
	set := Wanted(state, s.hello, s.knows)
	if !first && slices.EqualFunc(set, s.sent, SameWish) {
		return nil
	}
	s.sent = slices.Clone(set)
	worked := make(map[fsm.AttemptRef]bool, len(set))
	for i := range set {
		if ref := set[i].Ref; !s.worked[ref] {
			set[i].Work = Work(state, ref)
		}
		worked[set[i].Ref] = true
	}
	s.worked = worked
	return &link.Wanted{Index: state.Index(), Attempts: set}
}

// gather adds what else waits to be sent.
func (s *session) gather(d *link.Down) {
	for {
		select {
		case next := <-s.down:
			d.Beat = max(d.Beat, next.Beat)
			d.Acks = append(d.Acks, next.Acks...)
		default:
			return
		}
	}
}
