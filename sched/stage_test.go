package sched

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/pipeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// onlyLog is a log of one: what is proposed is applied at once.
type onlyLog struct {
	mu      sync.Mutex
	state   *fsm.State
	changed chan struct{}
	left    []fsm.NodeID
	refusal error // what every proposal is answered with, where set
	most    int   // bytes of a command
	old     bool  // some node can't read plans
	short   bool  // some node can't read what a commit says of itself
}

func newOnlyLog() *onlyLog {
	return &onlyLog{state: fsm.New(), changed: make(chan struct{}), most: 1 << 30}
}

func (l *onlyLog) Watch() (*fsm.State, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.changed
}

func (l *onlyLog) Departed() ([]fsm.NodeID, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.left, l.changed
}

func (l *onlyLog) ProposeAll(_ context.Context, commands []fsm.Command) ([]fsm.Result, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refusal != nil {
		return nil, l.refusal
	}
	results := make([]fsm.Result, len(commands))
	next := l.state
	for i := range commands {
		commands[i].At = time.Now()
		if data, err := fsm.EncodeCommand(commands[i]); err != nil || len(data) > l.most {
			results[i].Err = errors.Join(err, fsm.ErrTooLarge)
			continue
		}
		if f := commands[i].FinishAttempt; f != nil && (l.old && f.Outcome.Plan != nil || l.short && f.Outcome.Text != nil) {
			results[i].Err = fmt.Errorf("%w: upgrade node n3", fsm.ErrHeldBack)
			continue
		}
		var answered []fsm.Result
		next, answered = fsm.Apply(next, next.Index()+1, 1, commands[i:i+1])
		results[i] = answered[0]
	}
	l.state = next
	close(l.changed)
	l.changed = make(chan struct{})
	return results, next.Verify()
}

func (l *onlyLog) refuse(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refusal = err
}

// stage is a dispatcher that leads, in virtual time. The nodes' streams have a
// life of their own, as they do over a network: they don't break when the
// leadership ends.
type stage struct {
	t       *testing.T
	log     *onlyLog
	d       *Dispatcher
	resign  context.CancelFunc // ends the leadership
	leading sync.WaitGroup
}

func onStage(t *testing.T, test func(t *testing.T, s *stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newOnlyLog()
		s := &stage{t: t, log: l, d: newDispatcher(l)}
		var ctx context.Context
		ctx, s.resign = context.WithCancel(t.Context())
		s.leading.Go(func() {
			if err := s.d.Lead(ctx); err != nil {
				t.Error(err)
			}
		})
		defer s.end()
		synctest.Wait()
		test(t, s)
	})
}

func newDispatcher(l *onlyLog) *Dispatcher {
	return NewDispatcher(Config{States: l, Proposer: l, Membership: l, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
}

// end ends the leadership, which nobody may hold up.
func (s *stage) end() {
	s.t.Helper()
	began := time.Now()
	s.resign()
	s.leading.Wait()
	if took := time.Since(began); took > 0 {
		s.t.Errorf("the leadership took %s to end", took)
	}
}

func (s *stage) push(sha string) {
	s.t.Helper()
	if err := s.log.push(s.t.Context(), fsm.Commit{Repo: "acme/api", SHA: sha}); err != nil {
		s.t.Fatal(err)
	}
}

func (l *onlyLog) push(ctx context.Context, c fsm.Commit) error {
	results, err := l.ProposeAll(ctx, []fsm.Command{{AddBuild: &fsm.AddBuild{Key: c.Key(), Commit: c}}})
	if err != nil {
		return err
	}
	return results[0].Err
}

func (s *stage) job(id string) *fsm.Job {
	s.t.Helper()
	synctest.Wait()
	key, err := fsm.ParseJobID(id)
	if err != nil {
		s.t.Fatal(err)
	}
	state, _ := s.log.Watch()
	j, ok := state.Job(key)
	if !ok {
		s.t.Fatalf("no job %s", id)
	}
	return j
}

// patience is how long a stream lasts in virtual time: a test that waits for what
// never comes fails, instead of going on forever.
const patience = time.Hour

// dialled is a node's end of a stream, driven by hand.
type dialled struct {
	link.NodeStream
	t       *testing.T
	ended   chan error   // what Serve returned
	set     *link.Wanted // the newest that was heard and not yet asked for with wish
	beats   uint64
	reports uint64
}

func (s *stage) dial(hello link.Hello) *dialled {
	s.t.Helper()
	n := s.open(hello.Node.ID)
	n.say(&link.Up{Hello: &hello})
	return n
}

// open is a stream of which nothing has been said yet.
func (s *stage) open(id fsm.NodeID) *dialled {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	node, leader, err := link.Pipe(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	n := &dialled{NodeStream: node, t: s.t, ended: make(chan error, 1)}
	var serving sync.WaitGroup
	serving.Go(func() {
		defer cancel() // as gRPC does when a handler has returned
		n.ended <- link.Greet(ctx, s.d, id, leader)
	})
	return n
}

func (n *dialled) say(up *link.Up) {
	n.t.Helper()
	if err := n.Send(up); err != nil {
		n.t.Fatal(err)
	}
}

func (n *dialled) beat() {
	n.t.Helper()
	n.beats++
	n.say(&link.Up{Beat: &link.Beat{Seq: n.beats}})
	for n.hear().Beat != n.beats {
	}
}

func (n *dialled) hear() *link.Down {
	n.t.Helper()
	d, err := n.Recv()
	if err != nil {
		n.t.Fatal(err)
	}
	if d.Desired != nil {
		n.set = d.Desired
	}
	return d
}

// wish waits for a set of attempts of this size. One that came with an answer
// counts too.
func (n *dialled) wish(size int) []link.Assignment {
	n.t.Helper()
	for n.set == nil || len(n.set.Attempts) != size {
		n.hear()
	}
	set := n.set.Attempts
	n.set = nil
	return set
}

// report sends one report and waits for its answer.
func (n *dialled) report(r link.Report) link.Ack {
	n.t.Helper()
	n.reports++
	r.ID = n.reports
	n.say(&link.Up{Reports: []link.Report{r}})
	for {
		for _, ack := range n.hear().Acks {
			if ack.ID == r.ID {
				return ack
			}
		}
	}
}

// over waits for the stream's end, which the node has no part in.
func (n *dialled) over() error {
	n.t.Helper()
	began := time.Now()
	err := <-n.ended
	if took := time.Since(began); took > 0 {
		n.t.Errorf("the stream took %s to end", took)
	}
	return err
}

func ended(ref fsm.AttemptRef, o fsm.Outcome) link.Report { return link.Report{Ref: ref, Outcome: &o} }

func hello(id string, start uint64, runs ...fsm.AttemptRef) link.Hello {
	return link.Hello{Runs: runs, Node: fsm.Node{ID: fsm.NodeID(id), Name: id, Incarnation: start,
		Capacity: pipeline.Resources{CPU: 2000, Memory: 4 << 30}}}
}

var onePlan = fsm.Outcome{Status: fsm.Passed, Plan: &pipeline.Pipeline{Jobs: []pipeline.Job{{Name: "test", Resources: pipeline.Resources{CPU: 1000}}}}}
