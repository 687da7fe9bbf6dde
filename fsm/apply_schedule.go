package fsm

import (
	"strings"
	"time"

	"github.com/codepr/narwhal/pipeline"
)

// takeSchedules makes what a plan says of its branch's schedules count.
func (tx *txn) takeSchedules(b *Build, plan *pipeline.Pipeline) {
	branch := b.Commit.Branch()
	if !schedulesCount(b) || b.Unscheduled || strings.ContainsRune(b.Commit.Repo+branch, 0) {
		return
	}
	old := tx.schedulesOf(b.Commit.Repo, branch)
	if len(old) == 0 && len(plan.Schedules) == 0 || tx.plannedSince(b, old) {
		return
	}
	if b.Commit.Event == EventManual && tx.pushed(&b.Commit) {
		return
	}
	last := make(map[string]time.Time, len(old))
	for _, s := range old {
		key := scheduleKey(s.Repo, s.Branch, &s.Spec)
		last[string(key)] = s.Last
		tx.schedules.Delete(key)
	}
	for i := range plan.Schedules {
		spec := plan.Schedules[i]
		if spec.Branch != branch {
			continue
		}
		key := scheduleKey(b.Commit.Repo, branch, &spec)
		next := &Schedule{Repo: b.Commit.Repo, Branch: branch, Spec: spec, Build: b.ID, Commit: b.Commit, Last: tx.now}
		if was, ok := last[string(key)]; ok {
			next.Last = was
		}
		tx.schedules.Insert(key, next)
	}
}

// schedulesCount says whose schedules are its branch's. Only what is in the
// repository itself may start builds by the clock, no pull request. What the clock
// started, and a retry, are of a commit that had its say: a newer one may have come
// since.
func schedulesCount(b *Build) bool {
	c := &b.Commit
	return !c.Fork && c.Branch() != "" && b.RetryOf == 0 && (c.Event == EventPush || c.Event == EventManual)
}

// pushed reports whether pushes tell of the branch: then a build that was started by
// hand, of whichever commit or of changes that are in none, has no say.
func (tx *txn) pushed(c *Commit) bool {
	it := tx.builds.Root().ReverseIterator()
	for _, o, ok := it.Previous(); ok; _, o, ok = it.Previous() {
		if o.Commit.Repo == c.Repo && o.Commit.Ref == c.Ref && o.Commit.Event == EventPush {
			return true
		}
	}
	return false
}

// dropSchedules forgets a branch's schedules.
func (tx *txn) dropSchedules(c *DropSchedules) error {
	all := tx.schedulesOf(c.Repo, c.Branch)
	if len(all) > 0 {
		tx.did(Deed{Did: DidDropSchedules, By: c.By, On: c.Branch, Repo: c.Repo})
	}
	for _, s := range all {
		tx.schedules.Delete(scheduleKey(s.Repo, s.Branch, &s.Spec))
	}
	if tx.version >= 2 { // a node of before would not
		tx.silence(c.Repo, c.Branch)
	}
	return nil
}

// silence takes from the branch's builds that are not planned yet their say on its
// schedules.
func (tx *txn) silence(repo, branch string) {
	var pending []*Build
	it := tx.builds.Root().Iterator()
	for _, b, ok := it.Next(); ok; _, b, ok = it.Next() {
		if b.Status.Terminal() || b.Unscheduled || b.Commit.Repo != repo || b.Commit.Branch() != branch || !schedulesCount(b) {
			continue
		}
		if plan, ok := tx.jobs.Get(JobID{Build: b.ID}.key()); ok && !plan.Status.Terminal() {
			pending = append(pending, b)
		}
	}
	for _, b := range pending {
		next := *b
		next.Unscheduled = true
		tx.putBuild(&next)
	}
}

func (tx *txn) schedulesOf(repo, branch string) []*Schedule {
	var found []*Schedule
	it := tx.schedules.Root().Iterator()
	it.SeekPrefix(nameKey(repo, branch, ""))
	for _, s, ok := it.Next(); ok; _, s, ok = it.Next() {
		found = append(found, s)
	}
	return found
}

// plannedSince reports whether a newer build has had its say on the branch's
// schedules: one of those there are, or one that wanted none.
func (tx *txn) plannedSince(b *Build, old []*Schedule) bool {
	if len(old) > 0 {
		return old[0].Build > b.ID // all are of one build
	}
	it := tx.builds.Root().ReverseIterator()
	for _, o, ok := it.Previous(); ok && o.ID > b.ID; _, o, ok = it.Previous() {
		if o.Commit.Repo != b.Commit.Repo || o.Commit.Ref != b.Commit.Ref || !schedulesCount(o) {
			continue
		}
		if plan, ok := tx.jobs.Get(JobID{Build: o.ID}.key()); ok && plan.Status == Passed {
			return true
		}
	}
	return false
}

func (tx *txn) fireSchedule(c *FireSchedule) Result {
	key := scheduleKey(c.Repo, c.Branch, &c.Spec)
	old, ok := tx.schedules.Get(key)
	if !ok || !c.Due.After(old.Last) {
		return Result{}
	}
	next := *old
	next.Last = c.Due
	tx.schedules.Insert(key, &next)
	commit := old.Commit
	commit.Event, commit.Before = EventSchedule, ""
	made := tx.addBuild(&AddBuild{Key: c.Key(), Commit: commit, Inputs: c.Spec.Inputs})
	tx.did(Deed{Did: DidFireSchedule, By: ByClock, On: c.Branch, Repo: c.Repo, Build: made.Build})
	return made
}
