package fsm

import (
	"fmt"
	"time"
)

// How many jobs wait for a person, and for how long: every push may bring one, and
// most are never decided.
const (
	maxHeld = 20 // of one name, on one ref
	heldFor = 30 * 24 * time.Hour
)

// decideJob is a person's word on a job that is held.
func (tx *txn) decideJob(c *DecideJob) error {
	old, ok := tx.jobs.Get(c.Job.key())
	if !ok {
		return ErrUnknownJob
	}
	if old.Status != Held {
		return ErrNotHeld
	}
	j := *old
	d := Deed{Did: DidApprove, By: c.By, On: j.ID.String(), Repo: j.Repo, Build: j.ID.Build}
	if !c.Approve {
		d.Did = DidReject
		tx.did(d)
		j.RejectedBy = c.By
		tx.markJob(&j, TurnRejected)
		tx.endJob(&j, Outcome{Status: Canceled, Cause: CauseRejected, Message: "rejected by " + c.By})
		return nil
	}
	tx.did(d)
	j.ApprovedBy = c.By
	tx.markJob(&j, TurnApproved)
	tx.queue(&j)
	tx.contend(tx.buildOf(&j), &j)
	return nil
}

// endOlderHeld ends the oldest job of the same name on the same ref that is held, where
// there are too many since j is.
func (tx *txn) endOlderHeld(j *Job) {
	of := tx.buildOf(j).Commit
	var oldest *Job
	n := 0
	tx.eachLive(func(b *Build) bool {
		if b.Commit.Repo != of.Repo || b.Commit.Ref != of.Ref {
			return true
		}
		for _, held := range tx.heldOf(b) {
			if held.Name != j.Name {
				continue
			}
			if n++; oldest == nil {
				oldest = held
			}
		}
		return true
	})
	if n > maxHeld {
		next := *oldest
		tx.markJob(&next, TurnRejected)
		tx.endJob(&next, Outcome{Status: Canceled, Cause: CauseRejected,
			Message: fmt.Sprintf("nobody decided, and %d newer builds of %s wait for the same", maxHeld, of.Ref)})
	}
}

// expireHeld ends what nobody has decided for long.
func (tx *txn) expireHeld() {
	var late []*Job
	tx.eachLive(func(b *Build) bool {
		if tx.now.Sub(b.CreatedAt) <= heldFor {
			return false // what comes after it is younger
		}
		late = append(late, tx.heldOf(b)...)
		return true
	})
	for _, old := range late {
		if j, ok := tx.jobs.Get(old.ID.key()); ok && j.Status == Held { // an earlier one may have ended it
			next := *j
			tx.markJob(&next, TurnRejected)
			tx.endJob(&next, Outcome{Status: Canceled, Cause: CauseRejected, Message: "nobody decided within 30 days"})
		}
	}
}

// eachLive visits the builds that have not ended, the oldest first, until visit has had
// enough.
func (tx *txn) eachLive(visit func(*Build) bool) {
	it := tx.live.Root().Iterator()
	for key, _, ok := it.Next(); ok; key, _, ok = it.Next() {
		if b, found := tx.builds.Get(key); found && !visit(b) {
			return
		}
	}
}

// heldOf are a build's jobs that wait for a person.
func (tx *txn) heldOf(b *Build) (list []*Job) {
	for seq := range b.Jobs {
		if j, ok := tx.jobs.Get(JobID{Build: b.ID, Seq: seq}.key()); ok && j.Status == Held {
			list = append(list, j)
		}
	}
	return list
}
