package fsm

// The roads into the trees: each write keeps the indexes true.

// queue makes a job wait for a node.
func (tx *txn) queue(j *Job) {
	j.Status = Queued
	if j.QueuedAt.IsZero() {
		j.QueuedAt = tx.now
	}
	tx.putJob(j)
	tx.tellJob(tx.buildOf(j), j)
	if len(j.Attempts) > 0 {
		tx.markAttempt(j, TurnRetried)
	} else {
		tx.markJob(j, TurnQueued)
	}
}

// release gives back what an ended attempt had reserved.
func (tx *txn) release(j *Job, a *Attempt) {
	tx.placed.Delete(placedKey(a.Node, j.ID))
	tx.reserve(a.Node, j.Request(), -1)
}

func (tx *txn) putJob(j *Job) {
	key := j.ID.key()
	tx.jobs.Insert(key, j)
	if j.Status == Queued {
		tx.queued.Insert(key, j)
	} else {
		tx.queued.Delete(key)
	}
	if a, ok := j.Current(); ok && j.Status.Placed() {
		tx.placed.Insert(placedKey(a.Node, j.ID), j)
	}
	if c, ok := j.Group(); ok {
		if j.Status.Terminal() {
			tx.groups.Delete(groupKey(c.Group, j.ID))
		} else {
			tx.groups.Insert(groupKey(c.Group, j.ID), j)
		}
	}
}

func (tx *txn) putBuild(b *Build) { tx.builds.Insert(b.ID.key(), b) }

// indexBuild makes a build known by its key, and as one that lives or has ended.
func (tx *txn) indexBuild(b *Build) {
	tx.keys.Insert([]byte(b.Key), b.ID)
	if b.Status.Terminal() {
		tx.ended++
		return
	}
	tx.live.Insert(b.ID.key(), struct{}{})
}

// buildOf is the build of a job. It is there: builds go only with their jobs.
func (tx *txn) buildOf(j *Job) *Build {
	b, _ := tx.builds.Get(j.ID.Build.key())
	return b
}

func (tx *txn) tellBuild(b *Build) {
	tx.tell(Transition{Kind: "build", Status: b.Status, Cause: b.Cause}, b)
}

func (tx *txn) tellJob(b *Build, j *Job) {
	t := Transition{Kind: "job", Job: &j.ID, Name: j.Name, Status: j.Status, Cause: j.Cause}
	if a, ok := j.Current(); ok {
		t.Node, t.N = a.Node, a.N
		if r := a.Tests; r != nil && j.Status.Terminal() {
			t.Tests = &TestCounts{Passed: r.Passed, Failed: r.Failed, Skipped: r.Skipped}
		}
	}
	tx.tell(t, b)
}

func (tx *txn) tell(t Transition, b *Build) {
	if !tx.sinks.Events {
		return
	}
	t.Seq, t.At = tx.nextEvent, tx.now
	t.Build, t.Repo, t.SHA, t.Ref = b.ID, b.Commit.Repo, b.Commit.SHA, b.Commit.Ref
	tx.nextEvent++
	tx.putTransition(&t)
	if tx.waiting > maxOutbox {
		if k, _, ok := tx.outbox.Root().Minimum(); ok {
			tx.outbox.Delete(k)
			tx.waiting--
			tx.dropped++
		}
	}
}

func (tx *txn) putTransition(t *Transition) {
	tx.outbox.Insert(seqKey(t.Seq), *t)
	tx.waiting++
}
