package runner

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
)

// quick is an executor whose jobs are over at once.
type quick struct{ machine }

type over struct{}

func (*quick) Start(context.Context, executor.Task) (executor.Run, error) { return over{}, nil }

func (over) Wait(context.Context) (fsm.Outcome, error) { return fsm.Outcome{Status: fsm.Passed}, nil }

func (over) Stop(context.Context, time.Duration) error { return nil }

func (over) Decide(context.Context, executor.Decision) error { return nil }

// BenchmarkAttempts is all of a node's own work on an attempt, from the wish to
// the acknowledged outcome, with 64 wanted at a time and fsync on. Without beats,
// a wake-up that gets lost would hang it.
func BenchmarkAttempts(b *testing.B) {
	l := newFakeLeader()
	r, err := New(Config{Dir: b.TempDir(), Node: fsm.Node{ID: "n1"}, Leader: l, Checkout: &files{}, Executor: &quick{},
		Log: slog.New(slog.DiscardHandler), Beat: time.Hour, Lease: 3 * time.Hour, Lost: 9 * time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			b.Error(err)
		}
	})
	b.ResetTimer()
	for i := 0; i < b.N; {
		l.mu.Lock()
		room := min(64-len(l.attempts), b.N-i)
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		if room < 32 && room < b.N-i {
			<-changed
			continue
		}
		l.update(func() {
			l.index++
			for range room {
				i++
				l.attempts = append(l.attempts, job(ref(i, 1, i)))
			}
		})
	}
	for {
		l.mu.Lock()
		left, changed := len(l.attempts), l.changed
		l.mu.Unlock()
		if left == 0 {
			break
		}
		<-changed
	}
	b.StopTimer()
	cancel()
	wg.Wait()
}
