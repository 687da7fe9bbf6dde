package fsm

import (
	"fmt"
	"slices"
	"time"

	"github.com/codepr/narwhal/pipeline"
)

func (tx *txn) assignJob(c *AssignJob) error {
	j, ok := tx.jobs.Get(c.Job.key())
	if !ok {
		return ErrUnknownJob
	}
	if j.Status != Queued || c.N != len(j.Attempts)+1 {
		return ErrNotQueued
	}
	n, ok := tx.nodes.Get([]byte(c.Node))
	if !ok {
		return ErrUnknownNode
	}
	if n.Incarnation != c.Incarnation || n.Drained {
		return ErrNodeChanged
	}
	if !n.Fits(j.Request()) {
		return ErrNoRoom
	}
	if c, ok := j.Group(); ok {
		if taken := slots(tx.groups.Root(), c.Group, tx.builds.Get); !taken.Admits(j) {
			return ErrGroupFull
		}
	}
	next := *j
	next.Status = Assigned
	next.NotBefore = time.Time{}
	next.Attempts = append(slices.Clip(j.Attempts), Attempt{
		N: c.N, Node: c.Node, Incarnation: c.Incarnation, Token: Token{Epoch: tx.epoch, Index: tx.index},
		Status: Assigned, AssignedAt: tx.now,
	})
	tx.reserve(c.Node, j.Request(), 1)
	tx.putJob(&next)
	b := tx.enter(tx.buildOf(&next), &next)
	if b.StartedAt.IsZero() {
		started := *b
		started.StartedAt, started.Status = tx.now, Running
		tx.putBuild(&started)
		tx.tellBuild(&started)
		b = &started
	}
	tx.tellJob(b, &next)
	tx.markAttempt(&next, TurnAssigned)
	return nil
}

// Counts reports whether a job that has ended may be taken as passed by those
// that need it, and by its build. What was canceled or rejected never is.
func (j *Job) Counts() bool { return j.Status == Passed || j.Allowed() }

// Allowed reports whether a job has ended badly, and may. What its plan says
// decides: nodes of all versions that can read it decide alike.
func (j *Job) Allowed() bool {
	switch {
	case j.Spec == nil:
		return false
	case j.Status == Failed:
		return j.Spec.AllowFailure
	default:
		return j.Status == Errored && j.Spec.AllowFailure && j.Spec.AllowErrors
	}
}

// Request is what the job reserves on its node. A plan reserves nothing: it is
// narwhal's own work, and short.
func (j *Job) Request() pipeline.Resources {
	if j.Spec == nil {
		return pipeline.Resources{}
	}
	return j.Spec.Resources
}

func (tx *txn) startAttempt(c *StartAttempt) error {
	j, a, err := tx.attempt(c.Ref)
	if err != nil || a.Status.Terminal() {
		return err
	}
	if a.Status != Assigned {
		if !slices.Equal(a.Waiting, c.Waiting) {
			a.Waiting = c.Waiting
			tx.putJob(j)
		}
		return nil // a repeat is no error
	}
	a.Waiting = c.Waiting
	a.Status, a.StartedAt = Running, tx.now
	j.Status = Running
	if j.StartedAt.IsZero() {
		j.StartedAt = tx.now
	}
	tx.putJob(j)
	tx.tellJob(tx.buildOf(j), j)
	tx.markAttempt(j, TurnStarted)
	return nil
}

func (tx *txn) finishAttempt(c *FinishAttempt) error {
	if err := checkOutcome(c); err != nil {
		return err
	}
	j, a, err := tx.attempt(c.Ref)
	switch {
	case err != nil:
		return err
	case !a.Status.Terminal():
		tx.markAttempt(j, TurnFinished)
		if a.Moved != "" && c.Outcome.Status == Canceled && j.CanceledBy == "" {
			tx.endMoved(j, a, c.Outcome)
			return nil
		}
		tx.endAttempt(j, a, c.Outcome)
	case a.Status != c.Outcome.Status || a.Cause != c.Outcome.Cause:
		return ErrStale // it was declared lost before it could tell
	}
	return nil // a repeat is no error
}

// checkOutcome refuses an outcome that no node of this version would send.
func checkOutcome(c *FinishAttempt) error {
	o := &c.Outcome
	isPlan := c.Ref.Job.Seq == 0
	switch {
	case !o.Status.Terminal():
		return fmt.Errorf("%w: attempt %s ended as %q", ErrInvalid, c.Ref, o.Status)
	case o.Plan != nil && (!isPlan || o.Status != Passed):
		return fmt.Errorf("%w: attempt %s brings jobs", ErrInvalid, c.Ref)
	case isPlan && o.Status == Passed && (o.Plan == nil || len(o.Plan.Jobs) == 0):
		return fmt.Errorf("%w: plan %s brings no jobs", ErrInvalid, c.Ref)
	}
	return nil
}

func (tx *txn) loseAttempt(c *LoseAttempt) error {
	j, a, err := tx.attempt(c.Ref)
	if err != nil || a.Status.Terminal() {
		return err
	}
	if c.NeverStarted && a.Status == Assigned && j.CanceledBy == "" {
		a.Status, a.Message, a.EndedAt = Canceled, c.Message, tx.now
		tx.release(j, a)
		tx.markAttempt(j, TurnReturned)
		tx.queue(j)
		return nil
	}
	tx.markAttempt(j, TurnLost)
	tx.endAttempt(j, a, Outcome{Status: Errored, Cause: CauseNodeLost, Message: c.Message})
	return nil
}

// attempt finds the current attempt that ref means, in a copy of its job that
// may be changed. It is ErrStale unless number and token are the current one's.
func (tx *txn) attempt(ref AttemptRef) (*Job, *Attempt, error) {
	j, ok := tx.jobs.Get(ref.Job.key())
	if !ok {
		return nil, nil, ErrStale // its build has been pruned
	}
	a, ok := j.Current()
	if !ok || a.N != ref.N || a.Token != ref.Token {
		return nil, nil, ErrStale
	}
	next := *j
	next.Attempts = slices.Clone(j.Attempts)
	return &next, &next.Attempts[len(next.Attempts)-1], nil
}

// expireAttempt ends an attempt that its node has let run beyond its time. Where
// it may never run twice at a time, it is not tried again: it may still run.
func (tx *txn) expireAttempt(c *ExpireAttempt) error {
	j, a, err := tx.attempt(c.Ref)
	if err != nil || a.Status.Terminal() {
		return err
	}
	o := Outcome{Status: Failed, Cause: CauseTimeout, Message: c.Message}
	tx.markAttempt(j, TurnExpired)
	tx.recordEnd(j, a, &o)
	if j.Spec != nil && j.Spec.OnNodeLoss == pipeline.NodeLossFail || !tx.tryAgain(j, &o) {
		tx.conclude(j, o)
	}
	return nil
}

// endAttempt records how an attempt ended, and queues its job again or ends it.
func (tx *txn) endAttempt(j *Job, a *Attempt, o Outcome) {
	tx.recordEnd(j, a, &o)
	if !tx.tryAgain(j, &o) {
		tx.conclude(j, o)
	}
}

func (tx *txn) recordEnd(j *Job, a *Attempt, o *Outcome) {
	a.Status, a.Cause, a.ExitCode, a.Message = o.Status, o.Cause, o.ExitCode, o.Message
	a.Steps, a.LogBytes, a.EndedAt = o.Steps, o.LogBytes, tx.now
	a.Waiting = nil
	a.PeakMemory, a.CPUTime, a.Tests, a.Artifacts = o.PeakMemory, o.CPUTime, tx.takeReport(j, o.Tests), o.Artifacts
	tx.release(j, a)
}

// tryAgain queues a job whose attempt has ended once more, where it may.
func (tx *txn) tryAgain(j *Job, o *Outcome) bool {
	wait, again := retry(j, o)
	if !again || o.Status == Passed || j.CanceledBy != "" {
		return false
	}
	j.NotBefore = time.Time{}
	if wait > 0 {
		j.NotBefore = tx.now.Add(wait)
	}
	tx.queue(j)
	return true
}

// conclude ends a job as its last attempt did, unless it was stopped.
func (tx *txn) conclude(j *Job, o Outcome) {
	if j.CanceledBy != "" && (o.Status != Passed || o.Plan != nil) {
		o = stopped(j.CanceledBy, j.ReplacedBy)
	} else if o.Cause == CauseNodeLost && j.Losses() >= maxNodeLosses {
		o.Message = fmt.Sprintf("quarantined: it has lost %d nodes (%s)", j.Losses(), o.Message)
	}
	if o.Plan == nil {
		tx.endJob(j, o)
		return
	}
	tx.takeText(tx.buildOf(j), o.Text)
	tx.addJobs(tx.buildOf(j), o.Plan)
	tx.endJob(j, o)
	tx.enterGroups(j.ID.Build, o.Plan)
	tx.takeSchedules(tx.buildOf(j), o.Plan)
}

// endJob brings a job to its terminal status and sets free, or ends, the jobs
// that need it, and the build with its last job.
func (tx *txn) endJob(j *Job, o Outcome) {
	j.Status, j.Cause, j.Message, j.EndedAt = o.Status, o.Cause, o.Message, tx.now
	tx.putJob(j)
	b := *tx.buildOf(j)
	b.Open--
	tx.putBuild(&b)
	tx.tellJob(&b, j)
	tx.markJob(j, TurnEnded)
	if j.Kind == KindRun {
		tx.wakeDependents(&b, j)
	}
	if last := tx.buildOf(j); last.Open == 0 && !last.Status.Terminal() {
		tx.closeBuild(last)
	}
}
