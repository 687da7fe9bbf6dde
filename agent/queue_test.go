package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/codepr/narwhal/fsm"
)

// testQueue is the contract of Queue. log is where the commits end up in the end;
// setDown makes the queue unable to take commits, and able again.
func testQueue(t *testing.T, q Queue, log *fakeLog, setDown func(t *testing.T, down bool)) {
	t.Run("an accepted commit is built", func(t *testing.T) {
		if _, err := q.Publish(t.Context(), someCommit(1), "d1"); err != nil {
			t.Fatal(err)
		}
		log.mustUntil(t, "the build is there", func(s *fsm.State) bool {
			b, ok := s.BuildByKey(someCommit(1).Key())
			return ok && b.Commit.SHA == sha(1)
		})
	})
	t.Run("a commit that comes again is built once", func(t *testing.T) {
		before, index := log.builds(), log.applied()
		for range 3 {
			if _, err := q.Publish(t.Context(), someCommit(2), "d2"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := q.Publish(t.Context(), someCommit(3), "d3"); err != nil {
			t.Fatal(err)
		}
		// Those of one round are proposed side by side: the last to be published is
		// not the last to be applied.
		log.mustUntil(t, "all four are applied", func(s *fsm.State) bool { return s.Index() >= index+4 && hasBuild(3)(s) })
		if got := log.builds() - before; got != 2 {
			t.Errorf("made %d builds, want 2", got)
		}
	})
	t.Run("many at once", func(t *testing.T) {
		before := log.builds()
		var wg sync.WaitGroup
		errs := make([]error, 200)
		for i := range errs {
			wg.Go(func() { _, errs[i] = q.Publish(t.Context(), someCommit(100+i), "") })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		log.mustUntil(t, "all are there", func(s *fsm.State) bool { return s.BuildCount() == before+len(errs) })
	})
	t.Run("a context that has ended", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := q.Publish(ctx, someCommit(4), ""); err == nil {
			t.Error("published")
		}
	})
	t.Run("unavailable, and then available", func(t *testing.T) {
		setDown(t, true)
		if _, err := q.Publish(t.Context(), someCommit(5), ""); !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
		setDown(t, false)
		if _, err := q.Publish(t.Context(), someCommit(5), ""); err != nil {
			t.Error(err)
		}
		log.mustUntil(t, "the build is there", hasBuild(5))
	})
}

func hasBuild(n int) func(*fsm.State) bool {
	return func(s *fsm.State) bool {
		_, ok := s.BuildByKey(someCommit(n).Key())
		return ok
	}
}

func TestLogQueue(t *testing.T) {
	log := newFakeLog()
	testQueue(t, LogQueue{Proposer: log}, log, func(_ *testing.T, down bool) {
		log.setFault(func(fsm.Command) error {
			if down {
				return fmt.Errorf("propose: %w", errDown)
			}
			return nil
		})
	})
	t.Run("tells the build's number", func(t *testing.T) {
		first, err1 := LogQueue{log}.Publish(t.Context(), someCommit(7), "")
		second, err2 := LogQueue{log}.Publish(t.Context(), someCommit(7), "")
		if err1 != nil || err2 != nil || first.Build == 0 || second != (Receipt{Build: first.Build, Known: true}) {
			t.Errorf("got %+v %v, %+v %v", first, err1, second, err2)
		}
	})
}
