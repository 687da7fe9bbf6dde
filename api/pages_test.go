package api_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// hostile is what a commit's author or a job could put on a page.
const hostile = `<script>alert(1)</script>"'><img src=x onerror=alert(2)>`

// browser signs in at a node and gives the cookie.
func (n *node) browser() string {
	n.w.t.Helper()
	link := strings.TrimPrefix(n.server.LoginURL(), "http://"+string(n.id))
	cookie, _, _ := strings.Cut(n.bare("GET", link, "").want(303).header.Get("Set-Cookie"), ";")
	return cookie
}

var (
	ownScript = regexp.MustCompile(`<script type="module" src="/assets/[0-9a-f]+/[a-z]+\.js"></script>`)
	ownImage  = regexp.MustCompile(`<img src="/assets/[0-9a-f]+/icon\.svg" alt="" width="22" height="22">`)
	quoted    = regexp.MustCompile(`"[^"]*"`)
	inPage    = regexp.MustCompile(`(?i)<script|<style|<[^>]* style=|<[^>]* on[a-z]+=|javascript:`)
)

// wantPolicy holds a page to the policy that it is sent with.
func wantPolicy(t *testing.T, path string, a *answer) {
	t.Helper()
	const want = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	if got := a.header.Get("Content-Security-Policy"); got != want {
		t.Errorf("%s has the policy %q, want %q", path, got, want)
	}
	if a.header.Get("Referrer-Policy") != "same-origin" || a.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%s has the headers %v", path, a.header)
	}
	rest := ownImage.ReplaceAllString(ownScript.ReplaceAllString(a.body, ""), "")
	if found := inPage.FindString(quoted.ReplaceAllString(rest, `""`)); found != "" {
		t.Errorf("%s has what its policy forbids: %q", path, found)
	}
	if strings.Contains(rest, "<img") || strings.Contains(rest, "<script") {
		t.Errorf("%s has markup of a stranger's:\n%s", path, rest)
	}
}

func TestPages(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	id := w.build("test")
	w.assign(job(id, 1), "b")
	w.start(job(id, 1))
	w.nodes["b"].logs.write(t, job(id, 1), 1, "from the other node")
	cookie := w.nodes["a"].browser()
	for path, words := range map[string][]string{
		"/":                         {`href="/builds/1"`, "acme/api", sha[:10], "running"},
		"/builds/1":                 {sha, "test", "host-b", `href="/jobs/1.1/log?attempt=1"`},
		"/jobs/1.1/log":             {"from the other node", "/api/v1/jobs/1.1/logs?attempt=1"},
		"/jobs/1.1/log?attempt=1":   {"from the other node"},
		"/nodes":                    {"host-a", "host-b", "(leader)", "stands it", "no isolation"},
		"/login":                    {"prints a URL"},
		"/builds/1?consistent":      {sha},
		"/?before=1":                {"no builds like that"},
		"/?before=what%3Cis%3Ethis": {"acme/api"},
	} {
		a := w.nodes["a"].bare("GET", path, "", "Cookie", cookie).want(200)
		if got := a.header.Get("Content-Type"); got != "text/html; charset=utf-8" {
			t.Errorf("%s is %q", path, got)
		}
		for _, word := range append(words, "<!doctype html>", "</html>") {
			if !strings.Contains(a.body, word) {
				t.Errorf("%s has no %q:\n%s", path, word, a.body)
			}
		}
		wantPolicy(t, path, a)
	}
	for path, status := range map[string]int{"/builds/9": 404, "/builds/x": 404, "/jobs/1.9/log": 404, "/jobs/x/log": 422, "/jobs/1.1/log?attempt=9": 404} {
		if a := w.nodes["a"].bare("GET", path, "", "Cookie", cookie).want(status); !strings.Contains(a.body, "<!doctype html>") {
			t.Errorf("%s is no page: %s", path, a.body)
		}
	}
	w.nodes["b"].down = true
	if body := w.nodes["a"].bare("GET", "/jobs/1.1/log", "", "Cookie", cookie).want(200).body; !strings.Contains(body, "host-b") || !strings.Contains(body, "does not answer") {
		t.Errorf("a log that can't be had: %s", body)
	}
}

// TestPagesSayWhatIsAllowed has jobs end badly that may, and one of a plan in which
// it may fail only.
func TestPagesSayWhatIsAllowed(t *testing.T) {
	w := newWorld(t, nil, "a")
	id := w.build()
	p := &pipeline.Pipeline{}
	for name, errs := range map[string]bool{"new": true, "old": false} {
		for _, end := range []string{"fails", "errs"} {
			p.Jobs = append(p.Jobs, pipeline.Job{Name: name + end, Image: "alpine", Steps: []pipeline.Step{{Name: "step"}}, AllowFailure: true, AllowErrors: errs})
		}
	}
	w.assign(job(id, 0), "a")
	w.finish(job(id, 0), fsm.Outcome{Status: fsm.Passed, Plan: p})
	want := map[string]bool{"newfails": true, "newerrs": true, "oldfails": true, "olderrs": false}
	for i, spec := range p.Jobs {
		status, cause := fsm.Failed, fsm.CauseFailure
		if strings.HasSuffix(spec.Name, "errs") {
			status, cause = fsm.Errored, fsm.CauseConfig
		}
		j := job(id, uint32(i+1))
		w.assign(j, "a")
		w.finish(j, fsm.Outcome{Status: status, Cause: cause})
		var got api.Job
		w.nodes["a"].call("GET", "/api/v1/jobs/"+j.String(), "").want(200).into(&got)
		if got.Allowed != want[spec.Name] {
			t.Errorf("%s has ended %s, allowed: %v", spec.Name, got.Status, got.Allowed)
		}
	}
	page := w.nodes["a"].bare("GET", "/builds/1", "", "Cookie", w.nodes["a"].browser()).want(200).body
	for text, n := range map[string]int{"failed</span> (failure), allowed\n": 2, "errored</span> (config), allowed\n": 1, ">failed, allowed<": 2, ">errored, allowed<": 1, ", allowed": 6} {
		if got := strings.Count(page, text); got != n {
			t.Errorf("the page has %q %d times, want %d:\n%s", text, got, n, page)
		}
	}
}

func TestPagesOfManyBuilds(t *testing.T) {
	w := newWorld(t, nil, "a")
	for range 51 {
		w.build()
	}
	first := w.nodes["a"].call("GET", "/", "").want(200).body
	if !strings.Contains(first, `href="/?before=2"`) || strings.Contains(first, `href="/builds/1"`) {
		t.Error("the first page is not of 50 builds with a link to the older ones")
	}
	if second := w.nodes["a"].call("GET", "/?before=2", "").want(200).body; !strings.Contains(second, `href="/builds/1"`) || strings.Contains(second, "Older") {
		t.Errorf("second page %s", second)
	}
}

// TestPagesEscape puts hostile text wherever it can come from.
func TestPagesEscape(t *testing.T) {
	w := newWorld(t, nil, "a")
	id := w.must(fsm.Command{AddBuild: &fsm.AddBuild{Key: "k", Commit: fsm.Commit{
		Repo: "acme/" + hostile, CloneURL: "https://example.org/x.git", SHA: hostile, Ref: "refs/heads/" + hostile, Event: fsm.EventPush,
		Message: hostile, Author: hostile,
	}}}).Build
	plan := fsm.JobID{Build: id}
	w.assign(plan, "a")
	w.finish(plan, fsm.Outcome{Status: fsm.Passed, Plan: &pipeline.Pipeline{Jobs: []pipeline.Job{
		{Name: hostile, Image: hostile, Resources: pipeline.Resources{CPU: 1}, Steps: []pipeline.Step{{Name: hostile}}},
	}}})
	w.assign(job(id, 1), "a")
	w.start(job(id, 1))
	w.nodes["a"].logs.write(t, job(id, 1), 1, hostile, "</pre>"+hostile)
	w.finish(job(id, 1), fsm.Outcome{Status: fsm.Failed, Cause: fsm.Cause(hostile), Message: hostile, LogBytes: 9})
	w.must(fsm.Command{UpsertNode: &fsm.UpsertNode{Node: fsm.Node{
		ID: "a", Name: hostile, Incarnation: 2, Executor: hostile, Version: hostile, Capacity: pipeline.Resources{CPU: 8000},
	}}})
	for path, times := range map[string]int{"/": 3, "/builds/1": 8, "/jobs/1.1/log": 3, "/nodes": 3} {
		a := w.nodes["a"].call("GET", path, "").want(200)
		wantPolicy(t, path, a)
		if got := strings.Count(a.body, "alert(1)"); got < times { // or the text is not there at all
			t.Errorf("%s shows the text %d times, want %d or more", path, got, times)
		}
	}
	wantPolicy(t, "an address with markup", w.nodes["a"].call("GET", "/jobs/<script>/log", "").want(422))
}

// TestStrangersSeeTheSignInPage tells people what to do, and programs too.
func TestStrangersSeeTheSignInPage(t *testing.T) {
	w := newWorld(t, nil, "a")
	n := w.nodes["a"]
	w.build("secret-job")
	a := n.bare("GET", "/builds/1", "", "Accept", "text/html,*/*").want(401)
	if !strings.Contains(a.body, "prints a URL") || strings.Contains(a.body, "secret-job") || strings.Contains(a.body, "acme") {
		t.Errorf("a stranger sees %s", a.body)
	}
	if a := n.bare("GET", "/api/v1/builds", "", "Accept", "text/html").want(401); !strings.HasPrefix(a.body, "{") {
		t.Errorf("the API answers %s", a.body)
	}
}

func TestSignOut(t *testing.T) {
	w := newWorld(t, nil, "a")
	n := w.nodes["a"]
	cookie := n.browser()
	a := n.bare("POST", "/logout", "", "Cookie", cookie, "Sec-Fetch-Site", "same-origin").want(303)
	if got := a.header.Get("Set-Cookie"); !strings.HasPrefix(got, "narwhal_session=;") || !strings.Contains(got, "Max-Age=0") {
		t.Errorf("cookie %q", got)
	}
	n.bare("POST", "/logout", "", "Cookie", cookie, "Sec-Fetch-Site", "cross-site").want(403)
}

// TestDiskFull: the nodes' list and page show who takes no jobs for want of room.
func TestDiskFull(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	w.nodes["b"].full = true
	var list struct{ Nodes []api.Node }
	w.nodes["a"].call("GET", "/api/v1/nodes", "").want(200).into(&list)
	if len(list.Nodes) != 2 || list.Nodes[0].DiskFull || !list.Nodes[1].DiskFull {
		t.Errorf("nodes are %+v", list.Nodes)
	}
	if body := w.nodes["a"].call("GET", "/nodes", "").want(200).body; strings.Count(body, "disk full: takes no jobs") != 1 {
		t.Errorf("the page does not say it once:\n%s", body)
	}
}

// TestAssets follows what a page loads: it is kept for as long as it is the same, and
// served to pages of a node of another version.
func TestAssets(t *testing.T) {
	n := newWorld(t, nil, "a").nodes["a"]
	page := n.bare("GET", "/login", "").want(200)
	wantPolicy(t, "/login", page)
	kinds := map[string]string{"style.css": "text/css", "time.js": "text/javascript", "icon.svg": "image/svg+xml"}
	for name, kind := range kinds {
		url := regexp.MustCompile(`/assets/[0-9a-f]{16}/` + regexp.QuoteMeta(name)).FindString(page.body)
		a := n.bare("GET", url, "").want(200)
		if got := a.header.Get("Content-Type"); !strings.HasPrefix(got, kind) || !strings.Contains(a.header.Get("Cache-Control"), "immutable") || a.body == "" {
			t.Errorf("%s is %q, %q", url, got, a.header.Get("Cache-Control"))
		}
		other := n.bare("GET", "/assets/0123456789abcdef/"+name, "").want(200)
		if got := other.header.Get("Cache-Control"); other.body != a.body || got != "no-store" {
			t.Errorf("%s by another hash is kept: %q", name, got)
		}
	}
	for _, path := range []string{"/assets/", "/assets/x", "/assets/x/", "/assets/x/../pages.go", "/assets/x/nothing.js"} {
		if a := n.bare("GET", path, ""); a.status < 300 {
			t.Errorf("%s answers %d", path, a.status)
		}
	}
}

// TestPageOfBuildsFilters asks for builds by what is known of their commits.
func TestPageOfBuildsFilters(t *testing.T) {
	w := newWorld(t, nil, "a")
	for i, c := range []fsm.Commit{
		{Repo: "acme/api", Ref: "refs/heads/main", Message: "Fix the Door", Author: "Ada"},
		{Repo: "acme/api", Ref: "refs/heads/next", Message: "open a window", Author: "Grace"},
		{Repo: "acme/web", Ref: "refs/heads/main", Message: "100 % & more", Author: "Ada"},
	} {
		c.CloneURL, c.SHA, c.Event = "https://example.org/x.git", sha, fsm.EventPush
		w.must(fsm.Command{AddBuild: &fsm.AddBuild{Key: string(rune('a' + i)), Commit: c}})
	}
	w.must(fsm.Command{CancelBuild: &fsm.CancelBuild{Build: 2}})
	link := regexp.MustCompile(`class="to" href="/builds/(\d+)"`)
	for query, want := range map[string]string{
		"": "321", "q=DOOR": "1", "q=ada": "31", "q=nothing": "", "repo=acme/api": "21", "repo=acme": "", "branch=main": "31", "status=canceled": "2",
		"status=queued&q=ada&repo=acme/web": "3", "q=%25+%26+m": "3", "before=3": "21", "q=" + sha[:8]: "321", "q=+door+": "1",
	} {
		page := w.nodes["a"].call("GET", "/?"+query, "").want(200)
		wantPolicy(t, query, page)
		got := ""
		for _, m := range link.FindAllStringSubmatch(page.body, -1) {
			got += m[1]
		}
		if got != want {
			t.Errorf("%q shows builds %q, want %q", query, got, want)
		}
		if (want == "") != strings.Contains(page.body, "no builds like that") {
			t.Errorf("%q does not say whether there is any", query)
		}
	}
	if a := w.nodes["a"].call("GET", "/?status=purple", "").want(422); !strings.Contains(a.body, "purple") || !strings.Contains(a.body, "passed") {
		t.Errorf("a status that there is not: %s", a.body)
	}
	for range 60 {
		w.build()
	}
	page := w.nodes["a"].call("GET", "/?repo=acme/api&branch=main", "").want(200).body
	if !strings.Contains(page, `href="/?before=14&amp;branch=main&amp;repo=acme%2Fapi"`) {
		t.Errorf("the link to older builds loses the filter: %s", regexp.MustCompile(`.*Older.*`).FindString(page))
	}
}

// TestFollowBuilds hears of a build that is new, and of what becomes of it.
func TestFollowBuilds(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	w.build()
	s := w.nodes["b"].stream("/api/v1/builds/events")
	id := w.build("test")
	for {
		var b api.Build
		e := s.next()
		if err := json.Unmarshal([]byte(e.data), &b); err != nil || e.name != "build" {
			t.Fatalf("event %+v: %v", e, err)
		}
		if b.ID != id {
			t.Errorf("build %d did not change", b.ID)
		}
		if b.Status == fsm.Canceled {
			return
		}
		if b.Status == fsm.Running && b.JobsTotal == 2 {
			w.must(fsm.Command{CancelBuild: &fsm.CancelBuild{Build: id}})
		}
	}
}
