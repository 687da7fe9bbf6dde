package fsm

import "slices"

// decideStep is a person's word on a manual step of the current attempt, which the
// node hears with what it should be running.
func (tx *txn) decideStep(c *DecideStep) error {
	old, ok := tx.jobs.Get(c.Job.key())
	switch {
	case !ok:
		return ErrUnknownJob
	case old.Status.Terminal():
		return ErrJobEnded
	}
	if err := old.asks(c.Step); err != nil {
		return err
	}
	if !old.Status.Placed() {
		return ErrNotPlaced
	}
	a, _ := old.Current()
	if c.N != 0 && c.N != a.N { // it came late: the attempt that is on its way asks anew
		return ErrStale
	}
	for _, d := range a.Decisions {
		switch {
		case d.Step != c.Step:
		case d.Approve != c.Approve:
			return ErrDecided
		default:
			return nil // a repeat is no error
		}
	}
	j := *old
	j.Attempts = slices.Clone(old.Attempts)
	last := &j.Attempts[len(j.Attempts)-1]
	last.Decisions = append(slices.Clip(a.Decisions), StepDecision{Step: c.Step, Approve: c.Approve, By: c.By, At: tx.now})
	tx.putJob(&j)
	return nil
}

// asks refuses a name that none of the job's manual steps has.
func (j *Job) asks(step string) error {
	if j.Spec == nil {
		return ErrNoStep
	}
	err := ErrNoStep
	for i := range j.Spec.Steps {
		s := &j.Spec.Steps[i]
		switch {
		case s.Name != step:
		case s.When.Manual && s.Skip == "":
			return nil
		default:
			err = ErrNotManual
		}
	}
	return err
}
