package fsm

import (
	"errors"
	"fmt"
	"slices"
)

// verifyGroups holds the index of concurrency groups against the jobs, and who
// holds their places against the limits.
func (s *State) verifyGroups() error {
	open := 0
	limits := make(map[string]int)
	it := s.jobs.Root().Iterator()
	for _, j, ok := it.Next(); ok; _, j, ok = it.Next() {
		c, ok := j.Group()
		if !ok || j.Status.Terminal() {
			continue
		}
		open++
		limits[c.Group] = max(limits[c.Group], c.Limit)
		if got, ok := s.groups.Get(groupKey(c.Group, j.ID)); !ok || got != j {
			return fmt.Errorf("job %s is not found in its group %q", j.ID, c.Group)
		}
		if b, _ := s.Build(j.ID.Build); c.PerBuild && j.Status.Placed() && !slices.Contains(b.Entered, c.Group) {
			return fmt.Errorf("job %s is placed, and its build has not entered group %q", j.ID, c.Group)
		}
	}
	if open != s.groups.Len() {
		return fmt.Errorf("%d open jobs in groups, the index says %d", open, s.groups.Len())
	}
	for group, limit := range limits {
		if taken := s.Slots(group); len(taken.Holders) > limit {
			return fmt.Errorf("group %q has %d places, %v hold one", group, limit, taken.Holders)
		}
	}
	return s.verifyReplaced()
}

// verifyReplaced finds what should have given way to a newer build.
func (s *State) verifyReplaced() error {
	newest := make(map[string]*Job) // that cancels what is in progress, by group and repository
	it := s.groups.Root().ReverseIterator()
	for _, j, ok := it.Previous(); ok; _, j, ok = it.Previous() {
		c, _ := j.Group()
		b, _ := s.Build(j.ID.Build)
		key := c.Group + "\x00" + j.Repo
		by := newest[key]
		if by != nil && by.ID.Build > j.ID.Build && j.CanceledBy == "" {
			return fmt.Errorf("job %s should have been replaced by %s", j.ID, by.ID)
		}
		if by == nil && c.CancelInProgress && contends(j) && j.CanceledBy == "" && !b.Commit.Fork {
			newest[key] = j
		}
	}
	return nil
}

// verifyStores checks what is kept beside builds and nodes.
func (s *State) verifyStores() error {
	it := s.secrets.Root().Iterator()
	for k, v, ok := it.Next(); ok; k, v, ok = it.Next() {
		if string(k) != string(nameKey(v.Repo, v.Name)) {
			return fmt.Errorf("secret %s of %q is kept elsewhere", v.Name, v.Repo)
		}
	}
	if err := errors.Join(s.verifyCaches(), s.verifyHeads()); err != nil {
		return err
	}
	builds := make(map[string]BuildID)
	for v := range s.Schedules() {
		if got, ok := s.schedules.Get(scheduleKey(v.Repo, v.Branch, &v.Spec)); !ok || got != v || v.Spec.Branch != v.Branch || v.Commit.Branch() != v.Branch {
			return fmt.Errorf("schedule %q of %s %s is kept elsewhere", v.Spec.Cron, v.Repo, v.Branch)
		}
		branch := string(nameKey(v.Repo, v.Branch))
		if was, ok := builds[branch]; ok && was != v.Build {
			return fmt.Errorf("the schedules of %s %s are of builds %d and %d", v.Repo, v.Branch, was, v.Build)
		}
		builds[branch] = v.Build
	}
	return nil
}

func (s *State) verifyCaches() error {
	repos := make(map[string]int)
	it := s.caches.Root().Iterator()
	for k, e, ok := it.Next(); ok; k, e, ok = it.Next() {
		if string(k) != string(nameKey(e.Repo, e.Scope, e.Key)) || e.UsedAt.Before(e.SavedAt) {
			return fmt.Errorf("cache %s of %s is kept elsewhere", e.Key, e.Repo)
		}
		if repos[e.Repo]++; repos[e.Repo] > maxRepoCaches {
			return fmt.Errorf("repository %s has more than %d caches", e.Repo, maxRepoCaches)
		}
	}
	if s.cached != s.caches.Len() || s.cached > maxCaches {
		return fmt.Errorf("%d caches, counted %d", s.caches.Len(), s.cached)
	}
	return nil
}

// verifyHeads finds a head whose remote is not known, and counts anew.
func (s *State) verifyHeads() error {
	remotes, heads := 0, 0
	for r := range s.Remotes() {
		remotes++
		n := 0
		for h := range s.Heads(r.Repo) {
			if got, ok := s.heads.Get(nameKey(r.Repo, h.Ref)); !ok || got != h || h.Repo != r.Repo || h.SHA == "" {
				return fmt.Errorf("head %s of %s is kept elsewhere", h.Ref, r.Repo)
			}
			n++
		}
		if n > MaxRepoHeads {
			return fmt.Errorf("%s has %d heads", r.Repo, n)
		}
		heads += n
	}
	if remotes != s.remoteCount || heads != s.headCount || heads != s.heads.Len() || remotes > maxRemotes || heads > maxHeads+MaxRepoHeads {
		return fmt.Errorf("%d remotes with %d heads, the counts are %d and %d of %d", remotes, heads, s.remoteCount, s.headCount, s.heads.Len())
	}
	return nil
}
