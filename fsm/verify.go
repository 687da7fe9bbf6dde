package fsm

import (
	"errors"
	"fmt"

	"github.com/codepr/narwhal/pipeline"
)

// Verify checks the state against its invariants, by the slow road: it counts
// everything anew. Tests and simulations call it after each step.
func (s *State) Verify() error {
	return errors.Join(s.verifyBuilds(), s.verifyJobs(), s.verifyNodes(), s.verifyGroups(), s.verifyStores(), s.verifyTimelines(), s.verifyDeeds())
}

func (s *State) verifyBuilds() error {
	live, ended := 0, 0
	for b := range s.Builds(0) {
		open := uint32(0)
		for j := range s.Jobs(b.ID) {
			if !j.Status.Terminal() {
				open++
			}
		}
		switch {
		case open != b.Open:
			return fmt.Errorf("build %d says %d open jobs, has %d", b.ID, b.Open, open)
		case b.Status.Terminal() != (open == 0):
			return fmt.Errorf("build %d is %s with %d open jobs", b.ID, b.Status, open)
		}
		if got, ok := s.keys.Get([]byte(b.Key)); !ok || got != b.ID {
			return fmt.Errorf("build %d is not found by its key", b.ID)
		}
		if b.Status.Terminal() {
			ended++
		} else {
			live++
		}
	}
	if live != s.live.Len() || ended != s.ended || live+ended != s.keys.Len() {
		return fmt.Errorf("%d live and %d ended builds, the indexes say %d, %d and %d keys", live, ended, s.live.Len(), s.ended, s.keys.Len())
	}
	return nil
}

func (s *State) verifyJobs() error {
	queued, placed := 0, 0
	it := s.jobs.Root().Iterator()
	for _, j, ok := it.Next(); ok; _, j, ok = it.Next() {
		a, tried := j.Current()
		if tried && a.N != len(j.Attempts) {
			return fmt.Errorf("job %s: attempt %d is number %d", j.ID, len(j.Attempts), a.N)
		}
		if j.Status.Placed() != (tried && a.Status.Placed()) {
			return fmt.Errorf("job %s is %s, its attempt %s", j.ID, j.Status, a.Status)
		}
		if !ascending(j.Attempts) {
			return fmt.Errorf("job %s: its tokens do not grow", j.ID)
		}
		if err := s.verifyWaiting(j); err != nil {
			return err
		}
		if got, ok := s.queued.Get(j.ID.key()); ok != (j.Status == Queued) || ok && got != j {
			return fmt.Errorf("job %s is %s, queued index: %v", j.ID, j.Status, ok)
		}
		if j.Status == Queued {
			queued++
		}
		if j.Status.Placed() {
			placed++
			if got, ok := s.placed.Get(placedKey(a.Node, j.ID)); !ok || got != j {
				return fmt.Errorf("job %s is not found on node %s", j.ID, a.Node)
			}
		}
	}
	if queued != s.queued.Len() || placed != s.placed.Len() {
		return fmt.Errorf("%d queued and %d placed jobs, the indexes say %d and %d", queued, placed, s.queued.Len(), s.placed.Len())
	}
	return nil
}

// verifyWaiting finds a job that waits for nothing, or that waits though it was
// placed.
func (s *State) verifyWaiting(j *Job) error {
	switch j.Status {
	case Blocked:
		if r, _ := rule(s.jobs.Get, j); r != undecided {
			return fmt.Errorf("job %s is blocked, and what it needs has ended", j.ID)
		}
	case Held:
		if r, _ := rule(s.jobs.Get, j); r != goes || j.ApprovedBy != "" || !j.Spec.When.Manual {
			return fmt.Errorf("job %s is held, and waits for nobody", j.ID)
		}
	case Skipped:
	default:
		return nil
	}
	if len(j.Attempts) > 0 {
		return fmt.Errorf("job %s is %s, and has %d attempts", j.ID, j.Status, len(j.Attempts))
	}
	return nil
}

// ascending reports whether each attempt's token is above the one before: the
// promise to whoever checks tokens outside.
func ascending(attempts []Attempt) bool {
	for i := 1; i < len(attempts); i++ {
		a, b := attempts[i-1].Token, attempts[i].Token
		if a.Epoch > b.Epoch || a.Epoch == b.Epoch && a.Index >= b.Index {
			return false
		}
	}
	return true
}

func (s *State) verifyNodes() error {
	for n := range s.Nodes() {
		var sum pipeline.Resources
		placed := 0
		for j := range s.Placed(n.ID) {
			r := j.Request()
			sum.CPU, sum.Memory, sum.Disk = sum.CPU+r.CPU, sum.Memory+r.Memory, sum.Disk+r.Disk
			placed++
		}
		if sum != n.Reserved || placed != n.Placed {
			return fmt.Errorf("node %s says %+v reserved by %d jobs, has %+v by %d", n.ID, n.Reserved, n.Placed, sum, placed)
		}
	}
	return nil
}
