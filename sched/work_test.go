package sched

import (
	"reflect"
	"testing"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// workOn plans a build of c and gives the work of its second job.
func workOn(t *testing.T, c fsm.Commit) (plan, job fsm.AttemptRef, s *fsm.State) {
	t.Helper()
	s = fsm.New()
	apply := func(c fsm.Command) uint64 {
		next, results := fsm.Apply(s, s.Index()+1, 1, []fsm.Command{c})
		if results[0].Err != nil {
			t.Fatalf("%+v: %v", c, results[0].Err)
		}
		s = next
		return s.Index()
	}
	secret := func(repo, name, value string) {
		apply(fsm.Command{SetSecret: &fsm.SetSecret{Secret: fsm.Secret{Repo: repo, Name: name, Sealed: []byte(value)}}})
	}
	secret("", "TOKEN", "all")
	secret("acme/api", "TOKEN", "own")
	secret("", "CHAT", "chat")
	secret("", "UNNAMED", "no")
	secret("", fsm.RegistrySecret("docker.io"), "hub")
	secret("acme/api", fsm.RegistrySecret("r.example:5000"), "ours")
	secret("", fsm.RegistrySecret("other.example"), "no")
	apply(fsm.Command{UpsertNode: &fsm.UpsertNode{Node: fsm.Node{ID: "n1"}}})
	apply(fsm.Command{AddBuild: &fsm.AddBuild{Key: "k", Commit: c, Inputs: map[string]string{"level": "debug"}}})
	run := func(seq uint32, o fsm.Outcome) (ref fsm.AttemptRef) {
		ref = fsm.AttemptRef{Job: fsm.JobID{Build: 1, Seq: seq}, N: 1}
		ref.Token.Index = apply(fsm.Command{AssignJob: &fsm.AssignJob{Job: ref.Job, N: 1, Node: "n1"}})
		if o.Status != "" {
			apply(fsm.Command{FinishAttempt: &fsm.FinishAttempt{Ref: ref, Outcome: o}})
		}
		return ref
	}
	plan = run(0, fsm.Outcome{Status: fsm.Passed, Plan: &pipeline.Pipeline{Jobs: []pipeline.Job{
		{Name: "build"}, {Name: "lint"},
		{Name: "ship", Needs: []string{"build", "lint"}, Image: "alpine", Secrets: []string{"TOKEN", "NONE", "registry/docker.io"},
			Services: []pipeline.Service{{Name: "db", Image: "r.example:5000/db"}},
			Steps:    []pipeline.Step{{Secrets: []string{"CHAT"}}, {Image: "localhost/x"}}},
	}}})
	run(1, fsm.Outcome{Status: fsm.Passed, Artifacts: &fsm.Artifacts{Archive: fsm.Blob{Digest: "dist"}}})
	run(2, fsm.Outcome{Status: fsm.Passed})
	return plan, run(3, fsm.Outcome{}), s
}

// A node is given what the job names, and nothing else.
func TestWork(t *testing.T) {
	plan, job, s := workOn(t, fsm.Commit{Repo: "acme/api", SHA: "aaaa", Event: fsm.EventPush, Ref: "refs/heads/main"})
	if w := Work(s, plan); !reflect.DeepEqual(w.Inputs, map[string]string{"level": "debug"}) || w.Secrets != nil || w.Kind != fsm.KindPlan {
		t.Errorf("the plan's work: %+v", w)
	}
	w := Work(s, job)
	for what, pair := range map[string][2]any{
		"secrets":    {w.Secrets, map[string][]byte{"TOKEN": []byte("own"), "CHAT": []byte("chat")}},
		"registries": {w.Registries, map[string][]byte{"docker.io": []byte("hub"), "r.example:5000": []byte("ours")}},
		"artifacts":  {w.Artifacts, map[string]fsm.Artifacts{"build": {Archive: fsm.Blob{Digest: "dist"}}}},
		"scopes":     {w.Scopes, []string{"repo"}},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s: %v, want %v", what, pair[0], pair[1])
		}
	}
	if Work(s, fsm.AttemptRef{Job: fsm.JobID{Build: 9}}) != nil {
		t.Error("there is work of a build that is gone")
	}
}

// A fork's file was written by anybody: no secret goes with it, of registries
// neither. It writes its own caches.
func TestWorkOfAFork(t *testing.T) {
	_, job, s := workOn(t, fsm.Commit{Repo: "acme/api", SHA: "aaaa", Event: fsm.EventPullRequest, Ref: "refs/pull/7/head", Fork: true})
	w := Work(s, job)
	if w.Secrets != nil || w.Registries != nil {
		t.Errorf("secrets %v, registries %v", w.Secrets, w.Registries)
	}
	if !reflect.DeepEqual(w.Scopes, []string{"pull/refs/pull/7/head", "repo"}) || w.Artifacts == nil {
		t.Errorf("scopes %v, artifacts %v", w.Scopes, w.Artifacts)
	}
}

func TestRegistryOf(t *testing.T) {
	for image, want := range map[string]string{
		"alpine": "docker.io", "alpine:3": "docker.io", "library/alpine": "docker.io", "docker.io/library/alpine": "docker.io",
		"ghcr.example/acme/x@sha256:00": "ghcr.example", "localhost/x": "localhost", "localhost:5000/x": "localhost:5000", "host:5000/x": "host:5000",
	} {
		if got := registryOf(image); got != want {
			t.Errorf("%s comes from %s, want %s", image, got, want)
		}
	}
}
