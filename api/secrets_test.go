package api_test

import (
	"strings"
	"testing"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
	"github.com/codepr/narwhal/secret"
)

type secretPage struct{ Secrets []api.Secret }

func TestSecrets(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	n := w.nodes["a"]
	const value = "swordfish-and-more"
	n.call("PUT", "/api/v1/secrets/TOKEN?repo=acme/api", `{"value":"`+value+`"}`).want(204)
	n.call("PUT", "/api/v1/secrets/TOKEN", `{"value":"of all"}`).want(204)
	n.call("PUT", "/api/v1/registries/r.example.org:5000?repo=acme/web", `{"username":"ci","password":"`+value+`"}`).want(204)

	// At another node, which follows the log.
	var page secretPage
	listed := w.nodes["b"].call("GET", "/api/v1/secrets", "").want(200)
	listed.into(&page)
	if strings.Contains(listed.body, value) || len(page.Secrets) != 3 {
		t.Fatalf("listed as %s", listed.body)
	}
	page = secretPage{}
	n.call("GET", "/api/v1/secrets?repo=acme/web", "").want(200).into(&page)
	if len(page.Secrets) != 2 || page.Secrets[0].Name+page.Secrets[1].Name != "TOKEN" || page.Secrets[1].Registry != "r.example.org:5000" {
		t.Errorf("acme/web can name %+v", page.Secrets)
	}

	kept, ok := w.nodes["b"].State().Secret("acme/api", "TOKEN")
	if !ok || strings.Contains(string(kept.Sealed), value) {
		t.Fatalf("kept as %+v", kept)
	}
	if got, err := box(t).Open("acme/api", "TOKEN", kept.Sealed); err != nil || got != value {
		t.Errorf("opens as %q, %v", got, err)
	}

	n.call("DELETE", "/api/v1/secrets/TOKEN?repo=acme/api", "").want(204)
	n.call("DELETE", "/api/v1/secrets/TOKEN?repo=acme/api", "").wantProblem(404, api.CodeNotFound)
	n.call("DELETE", "/api/v1/registries/r.example.org:5000", "").wantProblem(404, api.CodeNotFound)
	n.call("DELETE", "/api/v1/registries/r.example.org:5000?repo=acme/web", "").want(204)
	page = secretPage{}
	n.call("GET", "/api/v1/secrets", "").want(200).into(&page)
	if len(page.Secrets) != 1 || page.Secrets[0].Repo != "" {
		t.Errorf("left are %+v", page.Secrets)
	}
}

func TestSecretsThatAreRefused(t *testing.T) {
	w := newWorld(t, nil, "a")
	n := w.nodes["a"]
	for path, body := range map[string]string{
		"/secrets/1TOKEN":                                 `{"value":"x"}`,
		"/secrets/A-B":                                    `{"value":"x"}`,
		"/secrets/NARWHAL_TOKEN":                          `{"value":"x"}`,
		"/secrets/registry%2Fdocker.io":                   `{"value":"x"}`,
		"/secrets/TOKEN":                                  `{"value":""}`,
		"/secrets/LONG":                                   `{"value":"` + strings.Repeat("x", secret.MaxValue+1) + `"}`,
		"/registries/-r.example.org":                      `{"username":"a","password":"b"}`,
		"/registries/r.example.org%2Fpath":                `{"username":"a","password":"b"}`,
		"/registries/r.example.org":                       `{"username":"a"}`,
		"/secrets/TOKEN?repo=" + strings.Repeat("x", 201): `{"value":"x"}`,
	} {
		if a := n.call("PUT", "/api/v1"+path, body); a.status/100 != 4 {
			t.Errorf("%s %.40s: status %d", path, body, a.status)
		}
	}
	if n.bare("PUT", "/api/v1/secrets/TOKEN", `{"value":"x"}`).status != 401 {
		t.Error("a stranger could set a secret")
	}
	for range n.State().Secrets() {
		t.Fatal("one was kept")
	}
}

func TestApproveAndReject(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	n := w.nodes["a"]
	id := w.build()
	plan := fsm.JobID{Build: id}
	w.assign(plan, "a")
	held := func(name string) pipeline.Job {
		return pipeline.Job{Name: name, When: pipeline.When{Manual: true}, Resources: pipeline.Resources{CPU: 1, Memory: 1}, Steps: []pipeline.Step{{Name: "s"}}}
	}
	w.finish(plan, fsm.Outcome{Status: fsm.Passed, Plan: &pipeline.Pipeline{Jobs: []pipeline.Job{held("one"), held("two")}}})

	var j api.Job
	n.call("GET", "/api/v1/jobs/1.1", "").want(200).into(&j)
	if j.Status != fsm.Held {
		t.Fatalf("job is %+v", j)
	}
	n.call("POST", "/api/v1/jobs/1.1/approve", "").want(200).into(&j)
	if j.Status != fsm.Queued || j.ApprovedBy == "" {
		t.Errorf("approved job is %+v", j)
	}
	n.call("POST", "/api/v1/jobs/1.1/approve", "").wantProblem(409, api.CodeConflict)
	n.call("POST", "/api/v1/jobs/1.2/reject", "").want(200).into(&j)
	if j.Status != fsm.Canceled || j.Cause != fsm.CauseRejected || !strings.Contains(j.Reason, "rejected") {
		t.Errorf("rejected job is %+v", j)
	}
	n.call("POST", "/api/v1/jobs/1.9/reject", "").wantProblem(404, api.CodeNotFound)
	n.call("POST", "/api/v1/jobs/x/reject", "").want(422)
	w.nodes["b"].call("POST", "/api/v1/jobs/1.1/approve", "").want(307)
}

func TestDecideStep(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	n := w.nodes["a"]
	id := w.build()
	plan, job := fsm.JobID{Build: id}, fsm.JobID{Build: id, Seq: 1}
	w.assign(plan, "a")
	spec := pipeline.Job{Name: "one", Resources: pipeline.Resources{CPU: 1, Memory: 1}, Steps: []pipeline.Step{
		{Name: "test"}, {Name: "de ploy", When: pipeline.When{Manual: true}},
	}}
	w.finish(plan, fsm.Outcome{Status: fsm.Passed, Plan: &pipeline.Pipeline{Jobs: []pipeline.Job{spec}}})
	const deploy = "/api/v1/jobs/1.1/approve?step=de+ploy"
	n.call("POST", deploy, "").wantProblem(409, api.CodeConflict) // it is not placed yet
	w.assign(job, "a")
	w.nodes["b"].call("POST", deploy, "").want(307)
	n.call("POST", "/api/v1/jobs/1.1/approve?step=test", "").wantProblem(409, api.CodeConflict)
	n.call("POST", "/api/v1/jobs/1.1/approve?step=nosuch", "").wantProblem(404, api.CodeNotFound)
	late := n.call("POST", deploy+"&attempt=2", "").wantProblem(409, api.CodeConflict)
	if !strings.Contains(late.body, "another attempt") {
		t.Errorf("a decision on another attempt: %s", late.body)
	}
	var j api.Job
	n.call("POST", deploy+"&attempt=1", "").want(200).into(&j)
	if d := j.Attempts[0].Decisions; len(d) != 1 || d[0].Step != "de ploy" || !d[0].Approve || d[0].By == "" {
		t.Errorf("decisions are %+v", d)
	}
	n.call("POST", "/api/v1/jobs/1.1/reject?step=de+ploy", "").wantProblem(409, api.CodeConflict)
	c := newCaller(t, n.auth.Token(), w.nodes["b"])
	if _, err := c.DecideStep(t.Context(), job, 2, "de ploy", true); err == nil || !strings.Contains(err.Error(), "another attempt") {
		t.Errorf("a decision of the client's on another attempt: %v", err)
	}
	if j, err := c.DecideStep(t.Context(), job, 1, "de ploy", true); err != nil || j.ID != job {
		t.Errorf("the client repeats the decision: %+v, %v", j, err)
	}
	w.finish(job, fsm.Outcome{Status: fsm.Passed})
	n.call("POST", deploy, "").wantProblem(409, api.CodeConflict)
}

// TestBuildPageSaysWhatWaits: for a person there is a line to type, until somebody has
// decided.
func TestBuildPageSaysWhatWaits(t *testing.T) {
	w := newWorld(t, nil, "a")
	n := w.nodes["a"]
	plan := fsm.JobID{Build: w.build()}
	w.assign(plan, "a")
	one := pipeline.Job{Name: "one", Resources: pipeline.Resources{CPU: 1, Memory: 1}, Steps: []pipeline.Step{
		{Name: "de ploy", When: pipeline.When{Manual: true}}, {Name: "undo", When: pipeline.When{Manual: true}},
	}}
	two := pipeline.Job{Name: "two", Resources: one.Resources, Steps: []pipeline.Step{{Name: "x"}}, When: pipeline.When{Manual: true}}
	w.finish(plan, fsm.Outcome{Status: fsm.Passed, Plan: &pipeline.Pipeline{Jobs: []pipeline.Job{one, two}}})
	id := job(plan.Build, 1)
	w.assign(id, "a")
	w.must(fsm.Command{StartAttempt: &fsm.StartAttempt{Ref: w.ref(id), Waiting: []string{"de ploy", "undo"}}})

	const held = `waits for a person: <code>narwhal approve 1.2</code>`
	const deploy, undo = `step de ploy waits for a person: <code>narwhal approve 1.1 --step &#39;de ploy&#39;</code>`, `step undo waits for a person: <code>narwhal approve 1.1 --step undo</code>`
	page := n.call("GET", "/builds/1", "").want(200).body
	for _, want := range []string{held, deploy, undo} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q:\n%s", want, page)
		}
	}
	n.call("POST", "/api/v1/jobs/1.1/approve?step=de+ploy", "").want(200)
	n.call("POST", "/api/v1/jobs/1.2/reject", "").want(200)
	page = n.call("GET", "/builds/1", "").want(200).body
	if strings.Contains(page, held) || strings.Contains(page, deploy) || !strings.Contains(page, undo) {
		t.Errorf("the page asks for what is decided, or not for what isn't:\n%s", page)
	}
}

func TestInputs(t *testing.T) {
	w := newWorld(t, nil, "a")
	n := w.nodes["a"]
	with := func(inputs string) string { return strings.TrimSuffix(newBuild, "}") + `,"inputs":` + inputs + `}` }
	var b api.Build
	n.call("POST", "/api/v1/builds", with(`{"level":"debug"}`)).want(201).into(&b)
	if b.Inputs["level"] != "debug" {
		t.Errorf("build is %+v", b)
	}
	var again api.Build
	n.call("POST", "/api/v1/builds/1/retry", "").want(201).into(&again)
	if again.Inputs["level"] != "debug" {
		t.Errorf("retry is %+v", again)
	}
	n.call("POST", "/api/v1/builds", with(`{"":"x"}`)).wantProblem(422, api.CodeInvalid)
	n.call("POST", "/api/v1/builds", with(`{"a":"`+strings.Repeat("x", 5000)+`"}`)).wantProblem(422, api.CodeInvalid)
}

// TestRefusedSecretsAreNotShown: what was sent wrongly is a secret all the same.
func TestRefusedSecretsAreNotShown(t *testing.T) {
	w := newWorld(t, nil, "a")
	for name, body := range map[string]string{
		"another field": `{"valeu":"hunter22"}`, "another type": `{"value":["hunter22"]}`, "a number": `{"value":"x","password":22222222}`, "broken": `{"value":"hunter22`,
	} {
		for _, path := range []string{"/api/v1/secrets/FOO", "/api/v1/registries/r.example"} {
			if a := w.nodes["a"].call("PUT", path, body); a.status < 400 || strings.Contains(a.body, "hunter22") || strings.Contains(a.body, "22222222") {
				t.Errorf("%s to %s: %d %s", name, path, a.status, a.body)
			}
		}
	}
}
