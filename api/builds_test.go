package api_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
)

const newBuild = `{"repo":"acme/api","clone_url":"https://example.org/acme/api.git","sha":"` + sha + `","message":"by hand","author":"otter"}`

type buildPage struct {
	Builds []api.Build
	Next   fsm.BuildID
}

func (p buildPage) ids() (out []fsm.BuildID) {
	for i := range p.Builds {
		out = append(out, p.Builds[i].ID)
	}
	return out
}

func TestListBuilds(t *testing.T) {
	w := newWorld(t, nil, "a")
	n := w.nodes["a"]
	if body := n.call("GET", "/api/v1/builds", "").want(200).body; !strings.Contains(body, `"builds":[]`) {
		t.Errorf("no builds are %s, want an empty list", body)
	}
	for i := range 5 {
		ref, repo := "refs/heads/main", "acme/api"
		if i%2 == 1 {
			ref, repo = "refs/heads/dev", "acme/web"
		}
		w.must(fsm.Command{AddBuild: &fsm.AddBuild{Key: fmt.Sprint(i), Commit: fsm.Commit{
			Repo: repo, CloneURL: "https://example.org/x.git", SHA: sha, Ref: ref, Event: fsm.EventPush,
		}}})
	}
	w.must(fsm.Command{CancelBuild: &fsm.CancelBuild{Build: 3, By: "t"}})
	for query, want := range map[string][]fsm.BuildID{
		"":                           {5, 4, 3, 2, 1},
		"limit=2":                    {5, 4},
		"limit=2&before=4":           {3, 2},
		"repo=acme/web":              {4, 2},
		"branch=main":                {5, 3, 1},
		"status=canceled":            {3},
		"status=queued&repo=acme/ap": nil,
		"status=queued&branch=main":  {5, 1},
		"before=1":                   nil,
	} {
		var page buildPage
		n.call("GET", "/api/v1/builds?"+query, "").want(200).into(&page)
		if !slices.Equal(page.ids(), want) {
			t.Errorf("?%s lists %v, want %v", query, page.ids(), want)
		}
	}
	var seen []fsm.BuildID
	for next := fsm.BuildID(0); ; {
		var page buildPage
		n.call("GET", fmt.Sprintf("/api/v1/builds?limit=2&before=%d", next), "").want(200).into(&page)
		seen = append(seen, page.ids()...)
		if next = page.Next; next == 0 {
			break
		}
	}
	if !slices.Equal(seen, []fsm.BuildID{5, 4, 3, 2, 1}) {
		t.Errorf("its pages have %v", seen)
	}
	for _, query := range []string{"limit=0", "limit=201", "limit=x", "status=sleeping", "before=-1"} {
		n.call("GET", "/api/v1/builds?"+query, "").wantProblem(422, api.CodeInvalid)
	}
}

func TestShowBuildAndJobs(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	id := w.build("test", "lint")
	w.assign(job(id, 1), "b")
	w.start(job(id, 1))
	w.finish(job(id, 1), fsm.Outcome{Status: fsm.Failed, Cause: fsm.CauseFailure, ExitCode: 3, Message: "step broke", LogBytes: 9})
	w.assign(job(id, 2), "a")
	n := w.nodes["b"]
	var b api.Build
	n.call("GET", "/api/v1/builds/1", "").want(200).into(&b)
	if b.ID != id || b.Repo != "acme/api" || b.SHA != sha || b.Branch != "main" || b.Status != fsm.Running || b.JobsTotal != 3 || b.JobsOpen != 1 || len(b.Jobs) != 3 {
		t.Errorf("build %+v", b)
	}
	var j api.Job
	n.call("GET", "/api/v1/jobs/1.1", "").want(200).into(&j)
	if j.Name != "test" || j.Status != fsm.Failed || j.Image != "alpine" || j.Resources == nil || j.Resources.CPU != 100 || len(j.Attempts) != 1 {
		t.Fatalf("job %+v", j)
	}
	if a := j.Attempts[0]; a.N != 1 || a.Node != "b" || a.NodeName != "host-b" || a.ExitCode != 3 || a.Reason != "step broke" || a.LogBytes != 9 {
		t.Errorf("attempt %+v", a)
	}
	list := func(query string) (names []string) {
		var page struct{ Jobs []api.Job }
		n.call("GET", "/api/v1/jobs?"+query, "").want(200).into(&page)
		for i := range page.Jobs {
			names = append(names, page.Jobs[i].Name)
		}
		return names
	}
	for query, want := range map[string][]string{
		"":                {fsm.PlanName, "test", "lint"},
		"status=assigned": {"lint"},
		"node=host-b":     {"test"},
		"node=a":          {fsm.PlanName, "lint"},
		"node=nobody":     nil,
		"build=2":         nil,
		"before=1":        nil,
	} {
		if got := list(query); !slices.Equal(got, want) {
			t.Errorf("jobs?%s are %v, want %v", query, got, want)
		}
	}
	n.call("GET", "/api/v1/builds/7", "").wantProblem(404, api.CodeNotFound)
	n.call("GET", "/api/v1/builds/seven", "").wantProblem(422, api.CodeInvalid)
	n.call("GET", "/api/v1/jobs/1.9", "").wantProblem(404, api.CodeNotFound)
	n.call("GET", "/api/v1/jobs/one", "").wantProblem(422, api.CodeInvalid)
	n.call("GET", "/api/v1/jobs/99999999999999999999999.1", "").wantProblem(422, api.CodeInvalid)
}

func TestCreateBuild(t *testing.T) {
	w := newWorld(t, nil, "a")
	n := w.nodes["a"]
	a := n.call("POST", "/api/v1/builds", newBuild).want(201)
	var b api.Build
	a.into(&b)
	if b.ID != 1 || b.Status != fsm.Queued || b.Event != fsm.EventManual || b.Ref != "refs/heads/main" || b.Message != "by hand" || len(b.Jobs) != 1 {
		t.Errorf("build %+v", b)
	}
	if got, want := a.header.Get(api.HeaderIndex), fmt.Sprint(w.index); got != want {
		t.Errorf("index %q, want %q: the write's own", got, want)
	}
	n.call("POST", "/api/v1/builds", newBuild).want(201).into(&b)
	if b.ID != 2 {
		t.Errorf("the same commit, asked for again without a key, is build %d, want 2", b.ID)
	}
	for name, body := range map[string]string{
		"no SHA":           strings.Replace(newBuild, sha, "", 1),
		"an option":        strings.Replace(newBuild, sha, "--upload-pack=id", 1),
		"a command":        strings.Replace(newBuild, "https://example.org/acme/api.git", "ext::sh -c id", 1),
		"a file":           strings.Replace(newBuild, "https://example.org/acme/api.git", "file:///etc", 1),
		"a password":       strings.Replace(newBuild, "example.org", "u:hunter2@example.org", 1),
		"an unknown field": strings.Replace(newBuild, `"author"`, `"auhtor"`, 1),
		"another type":     strings.Replace(newBuild, `"acme/api"`, `7`, 1),
		"a missing field":  `{"repo":"acme/api"}`,
		"a list":           `[]`,
	} {
		if a := n.call("POST", "/api/v1/builds", body).wantProblem(422, api.CodeInvalid); strings.Contains(a.body, "hunter2") {
			t.Errorf("%s: %s", name, a.body)
		}
	}
	n.call("POST", "/api/v1/builds", `{`).wantProblem(400, api.CodeInvalid)
	n.call("POST", "/api/v1/builds", `{"message":"`+strings.Repeat("x", 2<<20)+`"}`).wantProblem(413, api.CodeTooLarge)
	if got := n.State().BuildCount(); got != 2 {
		t.Errorf("%d builds, want 2: a refused one was made", got)
	}
}

func TestIdempotency(t *testing.T) {
	w := newWorld(t, nil, "a")
	n := w.nodes["a"]
	id := func(a *answer) fsm.BuildID {
		t.Helper()
		var b api.Build
		a.want(201).into(&b)
		return b.ID
	}
	const key = "Idempotency-Key"
	first := id(n.call("POST", "/api/v1/builds", newBuild, key, "k1"))
	if again := id(n.call("POST", "/api/v1/builds", newBuild, key, "k1")); again != first {
		t.Errorf("the same key made builds %d and %d", first, again)
	}
	if other := id(n.call("POST", "/api/v1/builds", newBuild, key, "k2")); other == first {
		t.Error("another key made no build")
	}
	for _, body := range []string{
		strings.Replace(newBuild, sha, strings.Repeat("a", 40), 1),
		strings.Replace(newBuild, `"acme/api"`, `"acme/web"`, 1),
		strings.Replace(newBuild, `"message"`, `"ref":"refs/heads/dev","message"`, 1),
	} {
		n.call("POST", "/api/v1/builds", body, key, "k1").wantProblem(409, api.CodeConflict)
	}
	// A retry is another thing than the build that it repeats.
	n.call("POST", "/api/v1/builds/1/retry", "", key, "k1").wantProblem(409, api.CodeConflict)
	retried := id(n.call("POST", "/api/v1/builds/1/retry", "", key, "k3"))
	if again := id(n.call("POST", "/api/v1/builds/1/retry", "", key, "k3")); again != retried {
		t.Errorf("the same retry made builds %d and %d", retried, again)
	}
	n.call("POST", "/api/v1/builds", newBuild, key, strings.Repeat("k", 256)).wantProblem(422, api.CodeInvalid)
	n.call("POST", "/api/v1/push?"+pushQuery().Encode(), bundle, key, strings.Repeat("k", 256)).wantProblem(422, api.CodeInvalid)
	// A client's key is no forge's: nobody can take a commit's place in advance.
	w.must(fsm.Command{AddBuild: &fsm.AddBuild{Key: "k9", Commit: fsm.Commit{Repo: "x/y", SHA: sha}}})
	id(n.call("POST", "/api/v1/builds", newBuild, key, "k9"))
}

func TestCancelAndRetry(t *testing.T) {
	w := newWorld(t, nil, "a")
	n := w.nodes["a"]
	id := w.build("test")
	w.assign(job(id, 1), "a")
	w.start(job(id, 1))
	var b api.Build
	a := n.call("POST", "/api/v1/builds/1/cancel", "").want(200)
	a.into(&b)
	if b.CanceledBy == "" || b.Status.Terminal() || b.Jobs[1].CanceledBy == "" {
		t.Errorf("a build that runs is %+v after it was canceled; its node is to stop it first", b)
	}
	n.call("POST", "/api/v1/builds/1/cancel", "").want(200) // again does no harm
	w.finish(job(id, 1), fsm.Outcome{Status: fsm.Canceled, Cause: fsm.CauseCanceled})
	n.call("POST", "/api/v1/builds/1/cancel", "").wantProblem(409, api.CodeConflict)
	n.call("POST", "/api/v1/builds/8/cancel", "").wantProblem(404, api.CodeNotFound)

	n.call("POST", "/api/v1/builds/1/retry", "").want(201).into(&b)
	if b.ID != 2 || b.RetryOf != 1 || b.SHA != sha || b.Status != fsm.Queued || b.Event != fsm.EventPush {
		t.Errorf("retry %+v", b)
	}
	n.call("POST", "/api/v1/builds/8/retry", "").wantProblem(404, api.CodeNotFound)
	n.call("POST", "/api/v1/builds/2/cancel", "").want(200).into(&b)
	if b.Status != fsm.Canceled {
		t.Errorf("a build that waits is %s after it was canceled", b.Status)
	}
}

func TestNodes(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	w.nodes["b"].down = true
	n := w.nodes["a"]
	var list struct{ Nodes []api.Node }
	n.call("GET", "/api/v1/nodes", "").want(200).into(&list)
	if len(list.Nodes) != 2 || !list.Nodes[0].Leader || list.Nodes[1].Alive || list.Nodes[1].Capacity.CPU != 8000 {
		t.Errorf("nodes %+v", list.Nodes)
	}
	var one api.Node
	for _, text := range []string{"b", "host-b"} {
		n.call("POST", "/api/v1/nodes/"+text+"/drain", "").want(200).into(&one)
		if one.ID != "b" || !one.Drained {
			t.Errorf("drained %+v", one)
		}
		n.call("POST", "/api/v1/nodes/"+text+"/resume", "").want(200).into(&one)
		if one.ID != "b" || one.Drained {
			t.Errorf("resumed %+v", one)
		}
	}
	n.call("GET", "/api/v1/nodes/host-a", "").want(200).into(&one)
	if one.ID != "a" {
		t.Errorf("node %+v", one)
	}
	n.call("GET", "/api/v1/nodes/"+url.PathEscape("../x"), "").wantProblem(404, api.CodeNotFound)
	n.call("POST", "/api/v1/nodes/c/drain", "").wantProblem(404, api.CodeNotFound)
	for _, deadline := range []string{"soon", "-1s", "5"} {
		n.call("POST", "/api/v1/nodes/b/drain?deadline="+deadline, "").wantProblem(422, api.CodeInvalid)
	}
	n.call("POST", "/api/v1/leave", "").want(200)
	if !n.left || w.nodes["b"].left {
		t.Error("it is the node that is asked, and no other, which leaves")
	}
}

func TestWhy(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	id := w.build("test")
	for _, n := range w.nodes { // both answer what the leader says
		var e api.Explanation
		n.call("GET", "/api/v1/jobs/"+job(id, 1).String()+"/why", "").want(200).into(&e)
		if e.Job != job(id, 1) || e.Status != fsm.Queued || len(e.Reasons) != 1 || e.Reasons[0].Node != "a" {
			t.Errorf("node %s explains %+v", n.id, e)
		}
	}
	w.nodes["b"].call("GET", "/api/v1/jobs/1.9/why", "").wantProblem(404, api.CodeNotFound)
}
