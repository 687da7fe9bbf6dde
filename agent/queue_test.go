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
	t.Run("a branch that was deleted", func(t *testing.T) { testForget(t, q, log, setDown) })
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

// testForget deletes a branch that has schedules: while the queue is away, when it has
// been pushed again, and for good.
func testForget(t *testing.T, q Queue, log *fakeLog, setDown func(t *testing.T, down bool)) {
	branch := func(name string, n int) fsm.Commit {
		c := someCommit(n)
		c.Ref = "refs/heads/" + name
		return c
	}
	old, anew := branch("nightly", 41), branch("nightly", 42)
	other := branch("other", 43)
	log.plan(t, old)
	log.plan(t, anew)
	log.plan(t, other)
	gone := func(n int) Deletion { return Deletion{Repo: old.Repo, Branch: "nightly", Head: sha(n)} }
	if err := q.Forget(t.Context(), gone(41), "d1"); err != nil {
		t.Fatal(err)
	}
	// What comes after it is behind it in the queue, or in a later round.
	if _, err := q.Publish(t.Context(), someCommit(44), ""); err != nil {
		t.Fatal(err)
	}
	log.mustUntil(t, "the commit behind it is there", hasBuild(44))
	setDown(t, true)
	if err := q.Forget(t.Context(), gone(42), "d2"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	setDown(t, false)
	if got := log.scheduled(); len(got) != 2 {
		t.Errorf("schedules of %v are left by deletions that don't count", got)
	}
	before := log.applied()
	for range 2 {
		if err := q.Forget(t.Context(), gone(42), "d2"); err != nil {
			t.Fatal(err)
		}
	}
	log.mustUntil(t, "its schedules are gone", func(s *fsm.State) bool { return s.ScheduleCount() == 1 })
	if got := log.scheduled(); len(got) != 1 || got[0] != "other" {
		t.Errorf("schedules of %v are left", got)
	}
	for d := range log.now().Deeds(0) {
		if d.Did != fsm.DidDropSchedules || d.By != "webhook" || d.On != "nightly" || d.Repo != old.Repo || d.Seq != 1 || d.Index <= before {
			t.Errorf("the audit log has %+v", d)
		}
	}
	if err := q.Forget(t.Context(), Deletion{Repo: other.Repo, Branch: "other"}, ""); err != nil {
		t.Fatal(err)
	}
	log.mustUntil(t, "and the other's", func(s *fsm.State) bool { return s.ScheduleCount() == 0 })
}

func hasBuild(n int) func(*fsm.State) bool {
	return func(s *fsm.State) bool {
		_, ok := s.BuildByKey(someCommit(n).Key())
		return ok
	}
}

func TestLogQueue(t *testing.T) {
	log := newFakeLog()
	testQueue(t, LogQueue{log, log.overtaken}, log, func(_ *testing.T, down bool) {
		log.setFault(func(fsm.Command) error {
			if down {
				return fmt.Errorf("propose: %w", errDown)
			}
			return nil
		})
	})
	t.Run("tells the build's number", func(t *testing.T) {
		first, err1 := LogQueue{log, log.overtaken}.Publish(t.Context(), someCommit(7), "")
		second, err2 := LogQueue{log, log.overtaken}.Publish(t.Context(), someCommit(7), "")
		if err1 != nil || err2 != nil || first.Build == 0 || second != (Receipt{Build: first.Build, Known: true}) {
			t.Errorf("got %+v %v, %+v %v", first, err1, second, err2)
		}
	})
}
