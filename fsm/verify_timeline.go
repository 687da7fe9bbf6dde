package fsm

import "fmt"

// verifyTimelines holds what timelines end with against the builds and jobs.
func (s *State) verifyTimelines() error {
	it := s.timelines.Root().Iterator()
	for _, t, ok := it.Next(); ok; _, t, ok = it.Next() {
		b, ok := s.Build(t.Build)
		if !ok || len(t.Marks) == 0 {
			return fmt.Errorf("the timeline of build %d is of none, or empty", t.Build)
		}
		if len(t.Marks) > maxMarks || t.Left > 0 && len(t.Marks) < maxMarks {
			return fmt.Errorf("the timeline of build %d has %d lines, and left out %d", b.ID, len(t.Marks), t.Left)
		}
		for i := 1; i < len(t.Marks); i++ {
			if a, z := t.Marks[i-1], t.Marks[i]; a.Index > z.Index || a.Term > z.Term || a.At > z.At {
				return fmt.Errorf("the timeline of build %d goes back at line %d", b.ID, i)
			}
		}
		if end := t.Marks[len(t.Marks)-1]; b.Status.Terminal() != (end.Seq == wholeBuild && end.Turn == TurnEnded) {
			return fmt.Errorf("build %d is %s, its timeline ends with %q", b.ID, b.Status, end.Turn)
		}
		if err := s.verifyTurns(b, t); err != nil {
			return err
		}
	}
	return nil
}

// verifyTurns checks the last line of each job. A job without one has waited for
// others since it came, where the timeline is whole.
func (s *State) verifyTurns(b *Build, t *timeline) error {
	whole := t.Marks[0].Turn == TurnAccepted && t.Left == 0
	for j := range s.Jobs(b.ID) {
		turn := t.last(j.ID.Seq)
		if turn == 0 && (!whole || j.Status == Blocked) {
			continue
		}
		if !turn.leaves(j.Status) {
			return fmt.Errorf("job %s is %s, its timeline ends with %q", j.ID, j.Status, turn)
		}
	}
	return nil
}

// last is the last turn of a job, or of the build itself; 0 where it has none, or none
// behind the gap.
func (t *timeline) last(seq uint32) Turn {
	from := 0
	if t.Left > 0 {
		from = GapAt
	}
	for i := len(t.Marks) - 1; i >= from; i-- {
		if t.Marks[i].Seq == seq {
			return t.Marks[i].Turn
		}
	}
	return 0
}

// leaves reports whether a job has status s after the turn.
func (t Turn) leaves(s Status) bool {
	switch t {
	case TurnQueued, TurnRetried:
		return s == Queued
	case TurnHeld:
		return s == Held
	case TurnAssigned:
		return s == Assigned
	case TurnStarted:
		return s == Running
	case TurnReplaced, TurnMoved:
		return s.Placed() // its node stops it
	case TurnEnded:
		return s.Terminal()
	default:
		return false // another turn follows in the same entry
	}
}

// verifyDeeds checks that the audit log has no gap and is bounded.
func (s *State) verifyDeeds() error {
	next := s.nextDeed - min(s.nextDeed-1, maxDeeds)
	for d := range values(s.deeds) {
		if d.Seq != next {
			return fmt.Errorf("the audit log has line %d, want %d", d.Seq, next)
		}
		next++
	}
	if next != s.nextDeed {
		return fmt.Errorf("the audit log ends before line %d, want %d", next, s.nextDeed)
	}
	return nil
}
