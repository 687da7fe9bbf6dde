package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// ControlSocket, in the SocketDir, is where a job's first process answers Status,
// AskStop and AskDecide. The job can put its own there: an answer is its word, no more.
const ControlSocket = "control.sock"

// RunningStep is a step at work.
type RunningStep struct {
	Step  int       `json:"step"`
	Name  string    `json:"name"`
	Since time.Time `json:"since"`
	Pid   int       `json:"pid,omitempty"` // of its shell, by its own container's numbers; 0 where there is none yet
}

// Answer is what a supervisor says of its job.
type Answer struct {
	Since    time.Time     `json:"since"`
	Running  []RunningStep `json:"running"` // by step
	Steps    int           `json:"steps"`
	Stopping bool          `json:"stopping,omitempty"`
	Decided  []string      `json:"decided,omitempty"` // names of steps that a person has decided on
}

// question is what a connection to the control socket asks, once.
type question struct {
	Stop   *time.Duration `json:"stop,omitempty"` // the grace; nil asks for the status alone
	Decide *Decision      `json:"decide,omitempty"`
}

const (
	maxAnswer  = 1 << 20
	askTimeout = 5 * time.Second
)

// Status asks the supervisor behind the socket how its job is doing.
func Status(ctx context.Context, socket string) (Answer, error) {
	return ask(ctx, socket, question{})
}

// AskStop tells the supervisor behind the socket to end its job, within grace,
// and returns when it has begun to. A second call may shorten the grace.
func AskStop(ctx context.Context, socket string, grace time.Duration) error {
	answer, err := ask(ctx, socket, question{Stop: &grace})
	if err == nil && !answer.Stopping {
		err = errors.New("ask supervisor: it does not stop")
	}
	return err
}

func ask(ctx context.Context, socket string, q question) (a Answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := dial(ctx, socket)
	if err != nil {
		return a, fmt.Errorf("ask supervisor: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer func() { _ = conn.Close() }()
	if err := json.NewEncoder(conn).Encode(q); err != nil {
		return a, fmt.Errorf("ask supervisor: %w", err)
	}
	if err := json.NewDecoder(io.LimitReader(conn, maxAnswer)).Decode(&a); err != nil {
		return a, fmt.Errorf("ask supervisor: %w", errors.Join(err, ctx.Err()))
	}
	for i := range a.Running {
		a.Running[i].Name = clip(a.Running[i].Name)
	}
	return a, nil
}

// serveControl answers on the control socket until the returned function is
// called, which waits for what goes on.
func (r *run) serveControl() (closing func(), err error) {
	if r.task.SocketDir == "" {
		return func() {}, nil
	}
	l, closeListener, err := listen(r.task.SocketDir, ControlSocket)
	if err != nil {
		return nil, err
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			// One at a time: an answer is short, and nobody can make this one wait
			// longer than a second.
			_ = conn.SetDeadline(time.Now().Add(time.Second))
			r.reply(conn)
			_ = conn.Close()
		}
	})
	return func() {
		closeListener()
		serving.Wait()
	}, nil
}

func (r *run) reply(conn net.Conn) {
	var q question
	if err := json.NewDecoder(io.LimitReader(conn, 4<<10)).Decode(&q); err != nil {
		return
	}
	if q.Stop != nil {
		r.stopper.stop(*q.Stop)
	}
	if q.Decide != nil {
		r.decide(*q.Decide)
	}
	_ = json.NewEncoder(conn).Encode(r.answer())
}

func (r *run) answer() Answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := Answer{Since: r.since, Steps: len(r.task.Steps), Stopping: r.stopper.ctx.Err() != nil, Decided: r.task.Desk.names()}
	for _, s := range r.running {
		a.Running = append(a.Running, s)
	}
	slices.SortFunc(a.Running, func(a, b RunningStep) int { return a.Step - b.Step })
	return a
}

// stopper ends a run's context, and then its patience.
type stopper struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	now    chan struct{}

	mu     sync.Mutex
	once   sync.Once
	timers []*time.Timer
}

func newStopper(ctx context.Context) (context.Context, *stopper) {
	s := &stopper{now: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	return s.ctx, s
}

// stop ends the context. The shortest of the graces that it was called with
// counts.
func (s *stopper) stop(grace time.Duration) {
	s.cancel(&Stop{Grace: grace, Now: s.now})
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.timers) < 100 { // a job that asks for ever has its own self to blame
		s.timers = append(s.timers, time.AfterFunc(grace, func() { s.once.Do(func() { close(s.now) }) }))
	}
}

func (s *stopper) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.timers {
		t.Stop()
	}
	s.cancel(nil)
}
