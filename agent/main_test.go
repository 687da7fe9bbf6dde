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
