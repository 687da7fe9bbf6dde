package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const deadline = 30 * time.Second

// fakeLog is a replicated log of one node in memory, around the real state
// machine. fault, where set, is asked before a command is applied.
type fakeLog struct {
	mu       sync.Mutex
	state    *fsm.State
	index    uint64
	fault    func(fsm.Command) error
	changed  chan struct{}
	commands []fsm.Command
}

func newFakeLog() *fakeLog {
	return &fakeLog{state: fsm.New(), changed: make(chan struct{})}
}

func (l *fakeLog) Propose(ctx context.Context, cmd fsm.Command) (fsm.Result, error) {
	if err := ctx.Err(); err != nil {
		return fsm.Result{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fault != nil {
		if err := l.fault(cmd); err != nil {
			return fsm.Result{}, err
		}
	}
	l.index++
	next, results := fsm.Apply(l.state, l.index, 1, []fsm.Command{cmd})
	l.state = next
	l.commands = append(l.commands, cmd)
	close(l.changed)
	l.changed = make(chan struct{})
	return results[0], nil
}

// plan has a commit built and planned, by a file with a schedule for its branch.
func (l *fakeLog) plan(t *testing.T, c fsm.Commit) {
	t.Helper()
	must := func(cmd fsm.Command) fsm.Result {
		t.Helper()
		cmd.At = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
		result, err := l.Propose(t.Context(), cmd)
		if err != nil || result.Err != nil {
			t.Fatal(err, result.Err)
		}
		return result
	}
	must(fsm.Command{UpsertNode: &fsm.UpsertNode{Node: fsm.Node{ID: "n1", Incarnation: 1}}})
	job := fsm.JobID{Build: must(addBuild(c)).Build}
	must(fsm.Command{AssignJob: &fsm.AssignJob{Job: job, N: 1, Node: "n1", Incarnation: 1}})
	j, _ := l.now().Job(job)
	a, _ := j.Current()
	must(fsm.Command{FinishAttempt: &fsm.FinishAttempt{
		Ref: fsm.AttemptRef{Job: job, N: 1, Token: a.Token},
		Outcome: fsm.Outcome{Status: fsm.Passed, Plan: &pipeline.Pipeline{
			Jobs:      []pipeline.Job{{Name: "a", Steps: []pipeline.Step{{Name: "s"}}}},
			Schedules: []pipeline.Schedule{{Cron: "0 3 * * *", Timezone: "UTC", Branch: c.Branch()}},
		}},
	}})
}

// scheduled are the branches that have schedules.
func (l *fakeLog) scheduled() (branches []string) {
	for s := range l.now().Schedules() {
		branches = append(branches, s.Branch)
	}
	return branches
}

func (l *fakeLog) now() *fsm.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

func (l *fakeLog) overtaken(d Deletion) bool {
	return l.now().Overtaken(d.Repo, d.Branch, d.Head)
}

func (l *fakeLog) setFault(f func(fsm.Command) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = f
}

// until waits for a state of which cond holds.
func (l *fakeLog) until(ctx context.Context, cond func(*fsm.State) bool) error {
	for {
		l.mu.Lock()
		state, changed := l.state, l.changed
		l.mu.Unlock()
		if cond(state) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *fakeLog) mustUntil(t *testing.T, what string, cond func(*fsm.State) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	if err := l.until(ctx, cond); err != nil {
		t.Fatalf("waiting until %s: %v (builds: %d)", what, err, l.builds())
	}
}

func (l *fakeLog) builds() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.BuildCount()
}

// has tells whether a commit is built.
func (l *fakeLog) has(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return hasBuild(n)(l.state)
}

// applied is the index of the last command.
func (l *fakeLog) applied() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.index
}

// Wait makes fakeLog an Outbox.
func (l *fakeLog) Wait(ctx context.Context, after uint64) (news []fsm.Transition, err error) {
	err = l.until(ctx, func(s *fsm.State) bool {
		for t := range s.Outbox(after) {
			news = append(news, t)
		}
		return len(news) > 0
	})
	return news, err
}

var errDown = errors.New("down")

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// running runs a loop in the background until stop is called or the test ends.
func running(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var err error
	wg.Go(func() { err = run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func someCommit(n int) fsm.Commit {
	return fsm.Commit{
		Repo: "acme/api.v2", CloneURL: "https://github.com/acme/api.v2.git", Event: fsm.EventPush,
		SHA: sha(n), Ref: "refs/heads/main", Message: "change it", Author: "otter",
	}
}

func sha(n int) string {
	const digits = "0123456789abcdef"
	b := []byte("1000000000000000000000000000000000000000")
	for i := len(b) - 1; n > 0; i, n = i-1, n/16 {
		b[i] = digits[n%16]
	}
	return string(b)
}
