package runner

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/pipeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// board wakes tests when something has changed.
type board struct {
	mu      sync.Mutex
	changed chan struct{}
}

func (b *board) update(fn func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fn()
	if b.changed != nil {
		close(b.changed)
	}
	b.changed = make(chan struct{})
}

// look reads under the lock.
func (b *board) look(fn func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fn()
}

// await waits until ok, which is called under the board's lock.
func (b *board) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(15 * time.Second)
	for {
		b.mu.Lock()
		if ok() {
			b.mu.Unlock()
			return
		}
		if b.changed == nil {
			b.changed = make(chan struct{})
		}
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-changed:
		case <-time.After(5 * time.Millisecond): // not all that ok looks at is on this board
		case <-limit:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// fakeLeader is a leader's end of the real link, on an in-memory pipe.
type fakeLeader struct {
	board
	index    uint64
	attempts []link.Assignment
	stale    map[fsm.AttemptRef]bool
	deaf     bool // takes reports without a word
	mute     bool // answers no beats
	away     bool // no stream can be had
	cut      context.CancelFunc
	hellos   []link.Hello
	reports  []link.Report
	acks     []link.Ack
	beat     uint64
	load     link.Load // of the last beat
	beats    uint64    // how many came
	images   []string  // as hellos and beats tell of them
}

func newFakeLeader() *fakeLeader { return &fakeLeader{stale: map[fsm.AttemptRef]bool{}, index: 100} }

func (l *fakeLeader) Run(ctx context.Context, session link.Session) error {
	for ctx.Err() == nil {
		l.mu.Lock()
		away := l.away
		l.mu.Unlock()
		if !away {
			l.stream(ctx, session)
		}
		pause(ctx, 10*time.Millisecond)
	}
	return nil
}

func (l *fakeLeader) stream(ctx context.Context, session link.Session) {
	ctx, cancel := context.WithCancel(ctx)
	ns, ls, err := link.Pipe(ctx)
	if err != nil {
		panic(err)
	}
	l.update(func() { l.cut, l.acks, l.beat = cancel, nil, 0 })
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { _ = link.Greet(ctx, l, "n1", ls); cancel() })
	_ = session(ctx, ns)
}

// Serve is link.Handler.
func (l *fakeLeader) Serve(ctx context.Context, _ fsm.NodeID, s link.Stream) error {
	up, err := s.Recv()
	if err != nil {
		return err
	}
	l.update(func() { l.hellos, l.images = append(l.hellos, *up.Hello), up.Hello.Images })
	l.hear(up)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for {
			up, err := s.Recv()
			if err != nil {
				return
			}
			l.hear(up)
		}
	})
	told := map[fsm.AttemptRef]bool{}
	for sent := uint64(0); ; {
		l.mu.Lock()
		down := &link.Down{Beat: l.beat, Acks: l.acks}
		l.beat, l.acks = 0, nil
		if sent != l.index {
			sent = l.index
			down.Desired = &link.Wanted{Index: sent}
			for _, a := range l.attempts {
				if told[a.Ref] {
					a.Work = nil
				}
				told[a.Ref] = true
				down.Desired.Attempts = append(down.Desired.Attempts, a)
			}
		}
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		if down.Beat != 0 || down.Desired != nil || len(down.Acks) > 0 {
			if err := s.Send(down); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (l *fakeLeader) hear(up *link.Up) {
	l.update(func() {
		if up.Beat != nil && !l.mute {
			l.beat = up.Beat.Seq
		}
		if up.Beat != nil {
			l.load = up.Beat.Load
			l.beats++
			if up.Beat.Images != nil {
				l.images = up.Beat.Images
			}
		}
		for _, r := range up.Reports {
			l.reports = append(l.reports, r)
			if l.deaf {
				continue
			}
			l.acks = append(l.acks, link.Ack{ID: r.ID, Stale: l.stale[r.Ref]})
			if r.Outcome != nil && !l.stale[r.Ref] {
				l.index++
				l.attempts = slices.DeleteFunc(l.attempts, func(a link.Assignment) bool { return a.Ref == r.Ref })
			}
		}
	})
}

func (l *fakeLeader) want(attempts ...link.Assignment) {
	l.update(func() { l.index++; l.attempts = slices.Clone(attempts) })
}

// outcome is what was last reported of an attempt; nil where nothing was. Under
// the lock.
func (l *fakeLeader) outcome(ref fsm.AttemptRef) *fsm.Outcome {
	var o *fsm.Outcome
	for _, r := range l.reports {
		if r.Ref == ref && r.Outcome != nil {
			o = r.Outcome
		}
	}
	return o
}

func (l *fakeLeader) awaitOutcome(t *testing.T, ref fsm.AttemptRef) fsm.Outcome {
	t.Helper()
	var o *fsm.Outcome
	l.await(t, "outcome of "+ref.String(), func() bool { o = l.outcome(ref); return o != nil })
	return *o
}

// machine is what containers are on: it survives restarts of the runner.
type machine struct {
	board
	runs    map[fsm.AttemptRef]*fakeRun
	swept   []fsm.AttemptRef
	started map[fsm.AttemptRef]int
	wrongs  []string
	hold    bool // Stop is heard, but nothing ends
	scant   bool // as Stock was told last
}

type fakeRun struct {
	m     *machine
	task  executor.Task
	over  bool
	out   fsm.Outcome
	ended chan struct{}
	stops []time.Duration

	decided []executor.Decision
}

func newMachine() *machine {
	return &machine{runs: map[fsm.AttemptRef]*fakeRun{}, started: map[fsm.AttemptRef]int{}}
}

func (m *machine) Start(ctx context.Context, t executor.Task) (executor.Run, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	run := &fakeRun{m: m, task: t, ended: make(chan struct{})}
	m.update(func() {
		for ref, other := range m.runs {
			if ref.Job == t.Ref.Job && !other.over {
				m.wrongs = append(m.wrongs, fmt.Sprintf("%s was started while %s runs", t.Ref, ref))
			}
		}
		if m.started[t.Ref]++; m.started[t.Ref] > 1 {
			m.wrongs = append(m.wrongs, fmt.Sprintf("%s was started twice", t.Ref))
		}
		m.runs[t.Ref] = run
	})
	return run, nil
}

func (m *machine) Stock(room bool) { m.update(func() { m.scant = !room }) }

func (m *machine) Adopt(_ context.Context, t executor.Task) (executor.Run, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if run := m.runs[t.Ref]; run != nil {
		return run, nil
	}
	return nil, executor.ErrGone
}

func (m *machine) Sweep(_ context.Context, keep func(fsm.AttemptRef) bool) error {
	m.mu.Lock()
	var gone []fsm.AttemptRef
	for ref, run := range m.runs {
		if !run.over {
			gone = append(gone, ref)
		}
	}
	m.mu.Unlock()
	gone = slices.DeleteFunc(gone, keep)
	m.update(func() {
		for _, ref := range gone {
			delete(m.runs, ref)
		}
		m.swept = append(m.swept, gone...)
	})
	return nil
}

// exit ends a run as if its steps had.
func (m *machine) exit(ref fsm.AttemptRef, o fsm.Outcome) {
	m.update(func() {
		if run := m.runs[ref]; run != nil && !run.over {
			run.over, run.out = true, o
			close(run.ended)
		}
	})
}

func (m *machine) awaitRun(t *testing.T, ref fsm.AttemptRef) *fakeRun {
	t.Helper()
	m.await(t, "run of "+ref.String(), func() bool { return m.runs[ref] != nil })
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.runs[ref]
}

func (f *fakeRun) Wait(ctx context.Context) (fsm.Outcome, error) {
	select {
	case <-ctx.Done():
		return fsm.Outcome{}, ctx.Err()
	case <-f.ended:
		return f.out, nil
	}
}

func (f *fakeRun) Stop(_ context.Context, grace time.Duration) error {
	hold := false
	f.m.update(func() { f.stops = append(f.stops, grace); hold = f.m.hold })
	if !hold {
		f.m.exit(f.task.Ref, fsm.Outcome{Status: fsm.Failed, Cause: fsm.CauseFailure, ExitCode: 143})
	}
	return nil
}

func (f *fakeRun) Decide(_ context.Context, d executor.Decision) error {
	f.m.update(func() { f.decided = append(f.decided, d) })
	return nil
}

// files is a repository.
type files struct {
	content map[string]string
	ensure  func(ctx context.Context) error
}

func (f *files) Ensure(ctx context.Context, _ fsm.Commit) error {
	if f.ensure != nil {
		return f.ensure(ctx)
	}
	return nil
}

func (f *files) ReadFile(_ context.Context, _ fsm.Commit, path string) ([]byte, error) {
	if data, ok := f.content[path]; ok {
		return []byte(data), nil
	}
	return nil, &fs.PathError{Op: "read", Path: path, Err: fs.ErrNotExist}
}

func (f *files) Checkout(context.Context, fsm.Commit, pipeline.Clone, string) error { return nil }

func (f *files) Changed(context.Context, fsm.Commit) ([]string, bool, error) { return nil, false, nil }

func (f *files) Describe(context.Context, fsm.Commit) (message, author string, err error) {
	return "what it does", "otter", nil
}

func (f *files) ObjectsDir(fsm.Commit) string { return "/objects" }

func (f *files) Have() []string { return []string{"acme/api"} }

// node is a runner under test, with what surrounds it.
type node struct {
	t      *testing.T
	dir    string
	leader *fakeLeader
	m      *machine
	files  *files
	adjust func(*Config)

	r    *Runner
	stop func() error
	over chan struct{} // closed when Run has returned
	n    uint64
}

func newNode(t *testing.T) *node {
	return &node{t: t, dir: t.TempDir(), leader: newFakeLeader(), m: newMachine(), files: &files{content: map[string]string{}}}
}

func (n *node) start() {
	n.t.Helper()
	n.n++
	cfg := Config{Dir: n.dir, Cluster: "c", URL: "http://x", Node: fsm.Node{ID: "n1", Name: "one", Incarnation: n.n, Executor: "fake"},
		Leader: n.leader, Checkout: n.files, Executor: n.m, Log: slog.New(slog.DiscardHandler)}
	if n.adjust != nil {
		n.adjust(&cfg)
	}
	r, err := New(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	n.r = r
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var result error
	over := make(chan struct{})
	wg.Go(func() { defer close(over); result = r.Run(ctx) })
	n.over = over
	n.stop = sync.OnceValue(func() error { cancel(); wg.Wait(); return result })
	n.t.Cleanup(func() { _ = n.stop() })
}

func (n *node) end() {
	n.t.Helper()
	if err := n.stop(); err != nil {
		n.t.Fatalf("run: %v", err)
	}
	n.m.mu.Lock()
	defer n.m.mu.Unlock()
	for _, wrong := range n.m.wrongs {
		n.t.Error(wrong)
	}
}

// settled waits until every attempt is closed.
func (n *node) settled() {
	n.t.Helper()
	n.leader.await(n.t, "all attempts to be closed", func() bool {
		n.r.mu.Lock()
		defer n.r.mu.Unlock()
		return len(n.r.attempts) == 0
	})
}

func commit() fsm.Commit {
	return fsm.Commit{Repo: "acme/api", SHA: "0123456789abcdef0123456789abcdef01234567", Ref: "refs/heads/main", Event: fsm.EventPush}
}

func job(r fsm.AttemptRef, change ...func(*pipeline.Job)) link.Assignment {
	spec := &pipeline.Job{Name: "test", Image: "alpine", Env: map[string]string{"A": "b", "CI": "no"},
		Steps: []pipeline.Step{{Name: "s", Command: []string{"true"}}}}
	for _, fn := range change {
		fn(spec)
	}
	return link.Assignment{Ref: r, Work: &link.Work{Kind: fsm.KindRun, Name: "test", Commit: commit(), Spec: spec}}
}

func failOnLoss(j *pipeline.Job) { j.OnNodeLoss = pipeline.NodeLossFail }
