package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// What a file asks for is held against the file itself here, and not against what
// the state has made of it.

// groups counts who is in the concurrency groups.
func (c *check) groups(index uint64, s *fsm.State) {
	holders := make(map[string][]string)
	newest := make(map[string]fsm.JobID) // that ends what is older, by repository
	for b := range s.Builds(0) {
		if b.Status.Terminal() {
			continue
		}
		entered, open := false, false
		for j := range s.Jobs(b.ID) {
			spec := c.planned(j.ID)
			if spec == nil || spec.Concurrency == nil {
				continue
			}
			group := spec.Concurrency.Group
			if spec.Concurrency.PerBuild {
				entered, open = entered || len(j.Attempts) > 0, open || !j.Status.Terminal()
			} else if j.Status.Placed() {
				holders[group] = append(holders[group], j.ID.String())
			}
			c.gaveWay(index, j, newest, group)
		}
		if entered && open {
			holders[groupTop] = append(holders[groupTop], fmt.Sprintf("build %d", b.ID))
		}
	}
	for group, limit := range groupLimit {
		if len(holders[group]) > limit {
			c.w.fail("index %d: group %s has %d places, and in it are %v", index, group, limit, holders[group])
		}
	}
}

// gaveWay is told of jobs from the newest build to the oldest.
func (c *check) gaveWay(index uint64, j *fsm.Job, newest map[string]fsm.JobID, group string) {
	if j.Status.Terminal() || j.CanceledBy != "" {
		return
	}
	key := group + " of " + j.Repo
	by, ok := newest[key]
	if ok && by.Build > j.ID.Build {
		c.w.fail("index %d: job %s goes on beside %s, which is newer in group %s", index, j.ID, by, key)
	}
	spec := c.planned(j.ID)
	if !ok && spec.Concurrency.CancelInProgress && (!spec.When.Manual || j.ApprovedBy != "") {
		newest[key] = j.ID
	}
}

// held is told of every job that changes.
func (c *check) held(index uint64, old, j *fsm.Job) {
	spec := c.planned(j.ID)
	switch {
	case spec == nil:
		return
	case spec.When.Manual && len(j.Attempts) > 0 && !c.approved[j.ID]:
		c.w.fail("index %d: job %s was placed, and nobody has approved it", index, j.ID)
	case spec.Skip != "" && j.Status != fsm.Skipped:
		c.w.fail("index %d: job %s was left out, and is %s", index, j.ID, j.Status)
	}
	was := fsm.Status("")
	if old != nil {
		was = old.Status
	}
	switch {
	case j.Status == fsm.Held && was != fsm.Held:
		c.w.result.Held++
	case j.Status == fsm.Skipped && was != fsm.Skipped:
		c.w.result.Skipped++
	case j.Cause == fsm.CauseReplaced && !was.Terminal():
		c.w.result.Replaced++
	}
}

// expires is told of every ExpireAttempt that was taken.
func (c *check) expires(before *fsm.State, e *fsm.ExpireAttempt) {
	j, ok := before.Job(e.Ref.Job)
	if !ok {
		return
	}
	a, _ := j.Current()
	if j.Ref(a) != e.Ref || a.Status.Terminal() {
		return
	}
	c.expired[e.Ref] = true
	c.w.result.TimedOut++
	spec := c.planned(e.Ref.Job)
	if ran := c.w.now - c.startedAt[e.Ref]; ran < spec.Timeout+59*time.Second {
		c.w.fail("attempt %s is declared over after %s, it may take %s", e.Ref, ran, spec.Timeout)
	}
}

// fires is told of every FireSchedule, and whether it has made a build.
func (c *check) fires(index uint64, f *fsm.FireSchedule, r fsm.Result) {
	if r.Err != nil || r.Build == 0 || r.Known {
		return
	}
	due := f.Due.Truncate(time.Minute)
	if !slices.Contains(dues(), due) {
		c.w.fail("index %d: a schedule of %s is started at %s", index, f.Repo, f.Due)
	}
	run := firing{f.Repo, due}
	if was, ok := c.fired[run]; ok {
		c.w.fail("index %d: the schedule of %s at %s has started builds %d and %d", index, f.Repo, due, was, r.Build)
	}
	c.fired[run] = r.Build
	c.w.result.Fired++
}

// firing is a run of a repository's schedule; each has one line at most.
type firing struct {
	repo string
	due  time.Time
}

func dues() []time.Time {
	var out []time.Time
	for _, h := range dueHours {
		out = append(out, time.Date(2026, 1, 1, h, 1, 0, 0, time.UTC))
	}
	return out
}

// schedules follows since when each repository has its schedule.
func (c *check) schedules(s *fsm.State) {
	there := make(map[string]bool)
	for sc := range s.Schedules() {
		there[sc.Repo] = true
		if _, ok := c.since[sc.Repo]; !ok {
			c.since[sc.Repo] = s.Now()
		}
	}
	for repo := range c.since {
		if !there[repo] {
			delete(c.since, repo)
		}
	}
}

// unfired names a run that is due and was not started.
func (c *check) unfired() string {
	for sc := range c.newest.Schedules() {
		for _, due := range dues() {
			_, ok := c.fired[firing{sc.Repo, due}]
			if since := c.since[sc.Repo]; !ok && due.After(since) && !due.After(c.newest.Now()) {
				return fmt.Sprintf("the schedule of %s at %s has started no build", sc.Repo, due)
			}
		}
	}
	return ""
}

// verdict holds a build's status against what its jobs came to.
func (c *check) verdict(b *fsm.Build) {
	if b.Status != fsm.Failed && b.Status != fsm.Errored {
		return
	}
	for j := range c.newest.Jobs(b.ID) {
		if spec := c.planned(j.ID); j.Status == b.Status && (spec == nil || !spec.AllowFailure) {
			return
		}
	}
	c.w.fail("build %d %s, and all that %s in it may", b.ID, b.Status, b.Status)
}
