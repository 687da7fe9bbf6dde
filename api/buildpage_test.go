package api_test

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// needing has a build's plan bring jobs; each names those that it needs after a colon.
func (w *world) needing(jobs ...string) fsm.BuildID {
	w.t.Helper()
	id := w.build()
	p := &pipeline.Pipeline{}
	for _, text := range jobs {
		name, needs, _ := strings.Cut(text, ":")
		spec := pipeline.Job{Name: name, Image: "alpine", Resources: pipeline.Resources{CPU: 100}, Steps: []pipeline.Step{{Name: "step"}}}
		if needs != "" {
			spec.Needs = strings.Split(needs, ",")
		}
		spec.When.Manual = name == "deploy"
		p.Jobs = append(p.Jobs, spec)
	}
	w.assign(job(id, 0), "a")
	w.finish(job(id, 0), fsm.Outcome{Status: fsm.Passed, Plan: p})
	return id
}

// post sends a page's form, as a browser does; the cookie is of node a.
func (n *node) post(cookie, path string, form url.Values, headers ...string) *answer {
	n.w.t.Helper()
	headers = append([]string{"Cookie", cookie, "Content-Type", "application/x-www-form-urlencoded"}, headers...)
	return n.bare("POST", path, form.Encode(), headers...)
}

var graphBoxes = regexp.MustCompile(`<a href="([^"]+)" class="node (\w+)"><title>([^<]*)</title>\s*<rect class="box" x="(\d+)" y="(\d+)"`)

// TestBuildPageDrawsJobs holds the places of a diamond with a stray.
func TestBuildPageDrawsJobs(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	w.needing("get", "lint:get", "unit:get", "ship:lint,unit", "docs")
	for _, at := range []fsm.NodeID{"a", "b"} { // b has to ask a, which leads, why jobs wait
		page := w.nodes[at].call("GET", "/builds/1", "").want(200)
		wantPolicy(t, "a build", page)
		var got []string
		for _, m := range graphBoxes.FindAllStringSubmatch(page.body, -1) {
			got = append(got, strings.Join(m[1:], " "))
		}
		want := []string{
			"/jobs/1.1/log queued get: queued 4 4", "/jobs/1.5/log queued docs: queued 4 64",
			"/jobs/1.2/log blocked lint: blocked 248 4", "/jobs/1.3/log blocked unit: blocked 248 64", "/jobs/1.4/log blocked ship: blocked 492 4",
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("at %s the boxes are\n%s\nwant\n%s", at, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if n := strings.Count(page.body, `class="edge"`); n != 4 {
			t.Errorf("at %s there are %d edges, want 4", at, n)
		}
		for _, word := range []string{"too little for 1.1", "Waits for <strong>lint</strong>, <strong>unit</strong>", `data-events="/api/v1/builds/1/events"`} {
			if !strings.Contains(page.body, word) {
				t.Errorf("at %s the page has no %q:\n%s", at, word, page.body)
			}
		}
	}
	w.nodes["a"].deaf = true
	if page := w.nodes["b"].call("GET", "/builds/1", "").want(200).body; !strings.Contains(page, "can&#39;t be said now: the leader, node host-a (a), does not answer") {
		t.Errorf("a leader that is away: %s", page)
	}
}

// TestForms presses the buttons of a build's page, at the leader and at another node.
func TestForms(t *testing.T) {
	for _, at := range []fsm.NodeID{"a", "b"} {
		t.Run("at "+string(at), func(t *testing.T) {
			w := newWorld(t, nil, "a", "b")
			n := w.nodes[at]
			cookie := n.browser()
			w.needing("test", "deploy")
			page := n.bare("GET", "/builds/1", "", "Cookie", cookie).want(200).body
			for _, form := range []string{`action="/builds/1/cancel"`, `action="/jobs/1.2/approve"`, `formaction="/jobs/1.2/reject"`} {
				if !strings.Contains(page, form) {
					t.Errorf("the page has no %s", form)
				}
			}
			const origin, here = "Sec-Fetch-Site", "same-origin"
			for _, path := range []string{"/builds/1/cancel", "/builds/1/retry", "/jobs/1.2/approve", "/jobs/1.2/reject"} {
				n.post(cookie, path, nil, origin, "cross-site").want(403)
				n.post(cookie, path, nil).want(403) // a browser says where a form is from
				n.post("", path, nil, origin, here).want(401)
			}
			to := n.post(cookie, "/jobs/1.2/approve", nil, origin, here).want(303).header.Get("Location")
			if !strings.HasPrefix(to, "/builds/1?index=") {
				t.Errorf("approved, the browser is sent to %q", to)
			}
			if page := n.bare("GET", to, "", "Cookie", cookie).want(200).body; !strings.Contains(page, "approved by admin") || strings.Contains(page, "/approve") {
				t.Errorf("what is approved is asked for again:\n%s", page)
			}
			if a := n.post(cookie, "/jobs/1.2/reject", nil, origin, here).want(409); !strings.Contains(a.body, "does not wait for a person") || !strings.Contains(a.body, "<!doctype html>") {
				t.Errorf("a second decision: %s", a.body)
			}
			n.post(cookie, "/builds/1/cancel", nil, origin, here).want(303)
			if b, _ := n.State().Build(1); b.Status != fsm.Canceled || b.CanceledBy == "" {
				t.Errorf("the build is %s", b.Status)
			}
			n.post(cookie, "/builds/1/cancel", nil, origin, here).want(409)
			n.post(cookie, "/builds/9/cancel", nil, origin, here).want(404)
			key := regexp.MustCompile(`name="key" value="([^"]{16,})"`).FindStringSubmatch(n.bare("GET", "/builds/1", "", "Cookie", cookie).want(200).body)
			if key == nil {
				t.Fatal("the form to retry has no key")
			}
			for range 2 { // a form that is sent twice makes one build
				to = n.post(cookie, "/builds/1/retry", url.Values{"key": {key[1]}}, origin, here).want(303).header.Get("Location")
				if !strings.HasPrefix(to, "/builds/2?index=") {
					t.Errorf("the retry is at %q", to)
				}
			}
		})
	}
}
