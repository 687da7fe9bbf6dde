package api

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/codepr/narwhal/fsm"
)

const (
	pageBuilds = 50
	pageRepos  = 50 // repositories whose names the page suggests
)

// buildFilter says which builds a page shows. What is empty is not looked at.
type buildFilter struct {
	Repo, Branch string
	Status       fsm.Status
	Text         string // in the commit's message, its author or its SHA, in any case of letters
	before       fsm.BuildID
}

// buildStatuses are those that a build can have.
var buildStatuses = []fsm.Status{fsm.Queued, fsm.Running, fsm.Passed, fsm.Failed, fsm.Errored, fsm.Canceled}

func readFilter(r *http.Request) (buildFilter, *Problem) {
	q := r.URL.Query()
	f := buildFilter{
		Repo: strings.TrimSpace(q.Get("repo")), Branch: strings.TrimSpace(q.Get("branch")), Status: fsm.Status(q.Get("status")), Text: strings.TrimSpace(q.Get("q")),
	}
	if f.Status != "" && !slices.Contains(buildStatuses, f.Status) {
		return f, problem(http.StatusUnprocessableEntity, CodeInvalid, "status: there is no %q: want one of %v", f.Status, buildStatuses)
	}
	before, _ := strconv.ParseUint(q.Get("before"), 10, 64) // 0, the newest, for what is no number
	f.before = fsm.BuildID(before)
	return f, nil
}

func (f buildFilter) empty() bool {
	return f.Repo == "" && f.Branch == "" && f.Status == "" && f.Text == ""
}

func (f buildFilter) takes(b *fsm.Build) bool {
	if f.Repo != "" && b.Commit.Repo != f.Repo || f.Branch != "" && b.Commit.Branch() != f.Branch || f.Status != "" && b.Status != f.Status {
		return false
	}
	if f.Text == "" {
		return true
	}
	text := strings.ToLower(f.Text)
	return strings.Contains(strings.ToLower(b.Commit.Message), text) || strings.Contains(strings.ToLower(b.Commit.Author), text) || strings.HasPrefix(b.Commit.SHA, text)
}

// older is the address of the page of builds before one.
func (f buildFilter) older(id fsm.BuildID) string {
	q := url.Values{"before": {strconv.FormatUint(uint64(id), 10)}}
	for key, value := range map[string]string{"repo": f.Repo, "branch": f.Branch, "status": string(f.Status), "q": f.Text} {
		if value != "" {
			q.Set(key, value)
		}
	}
	return "/?" + q.Encode()
}

func (s *Server) buildsPage(w http.ResponseWriter, r *http.Request) {
	filter, bad := readFilter(r)
	if bad != nil {
		s.problemPage(w, bad)
		return
	}
	data := struct {
		Builds   []Build
		Older    string
		Filter   buildFilter
		Filtered bool
		Statuses []fsm.Status
		Repos    []string
		Events   string
	}{Filter: filter, Filtered: !filter.empty() || filter.before > 0, Statuses: buildStatuses, Events: prefix + buildsEvents}
	for b := range stateOf(r.Context()).Builds(filter.before) {
		if len(data.Repos) < pageRepos && !slices.Contains(data.Repos, b.Commit.Repo) {
			data.Repos = append(data.Repos, b.Commit.Repo)
		}
		if !filter.takes(b) {
			continue
		}
		if len(data.Builds) == pageBuilds {
			data.Older = filter.older(data.Builds[pageBuilds-1].ID)
			break
		}
		data.Builds = append(data.Builds, buildView(b))
	}
	s.show(w, http.StatusOK, "builds", "Builds", data)
}

const (
	buildsEvents   = "/builds/events"
	followedBuilds = 200
	// followEvery is the least pause between two looks: a busy cluster's state changes
	// far more often than a list of builds can be read.
	followEvery = 50 * time.Millisecond
)

// newest are the newest builds, by their numbers.
func newest(s *fsm.State) map[fsm.BuildID]*fsm.Build {
	out := make(map[fsm.BuildID]*fsm.Build, followedBuilds)
	for b := range s.Builds(0) {
		if len(out) == followedBuilds {
			break
		}
		out[b.ID] = b
	}
	return out
}

// followBuilds tells a client of builds that are new, or stand differently than before,
// among the newest. Like followBuild it may leave out steps between.
func (s *Server) followBuilds(w http.ResponseWriter, r *http.Request) {
	last := newest(stateOf(r.Context()))
	out := s.newEvents(w)
	defer out.close()
	pause := time.NewTicker(followEvery)
	defer pause.Stop()
	for {
		state, changed := s.deps.State.Watch()
		now := newest(state)
		for _, id := range slices.Sorted(maps.Keys(now)) {
			if now[id] == last[id] { // a build that changed is another pointer
				continue
			}
			if out.event("build", strconv.FormatUint(state.Index(), 10), buildView(now[id])) != nil {
				return
			}
		}
		last = now
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
		select {
		case <-pause.C:
		case <-r.Context().Done():
			return
		}
	}
}
