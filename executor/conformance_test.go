package executor_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
	"github.com/codepr/narwhal/supervise"
)

// TestConformance is what every executor does alike.
func TestConformance(t *testing.T) {
	kits := map[string]func(*testing.T) *kit{
		"process": func(t *testing.T) *kit { return newProcess(t) },
		"docker":  func(t *testing.T) *kit { return newDocker(t) },
		"warm":    newWarm,
	}
	cases := map[string]func(*testing.T, *kit){
		"steps share a workspace":  stepsShareAWorkspace,
		"a failing step ends it":   aFailingStepEndsIt,
		"the environment":          theEnvironment,
		"timeout":                  timeoutEndsIt,
		"cancel":                   cancelTidies,
		"cancel of the stubborn":   cancelOfTheStubborn,
		"a second stop is shorter": aSecondStopIsShorter,
		"wait again":               waitAgain,
		"nothing is left behind":   nothingIsLeftBehind,
		"unwritable things":        unwritableThings,
		"a plan is no task":        aPlanIsNoTask,
		"missing dependency":       missingDependency,
		"parallel steps":           parallelSteps,
		"steps after a failure":    stepsAfterAFailure,
		"a step is tried again":    aStepIsTriedAgain,
		"no bash":                  noBash,
		"a failure is allowed":     aFailureIsAllowed,
		"secrets":                  secretsAreMasked,
		"artifacts":                artifactsComeOut,
	}
	for name, open := range kits {
		t.Run(name, func(t *testing.T) {
			k := open(t)
			if k.ex.Name() != name && !k.warm {
				t.Errorf("it calls itself %q", k.ex.Name())
			}
			for name, check := range cases {
				t.Run(name, func(t *testing.T) { check(t, k) })
			}
		})
	}
}

func stepsShareAWorkspace(t *testing.T, k *kit) {
	task := k.task(t, "echo one > file; echo to stderr >&2", "cat file; cat given; echo two > made")
	if err := os.WriteFile(filepath.Join(task.Workspace, "given"), []byte("from the checkout\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	o := k.run(t, task)
	expect(t, o, fsm.Passed, "", "")
	if got := printed(t, task); got != "to stderr\none\nfrom the checkout\n" {
		t.Errorf("printed %q", got)
	}
	if data, err := os.ReadFile(filepath.Join(task.Workspace, "made")); err != nil || string(data) != "two\n" {
		t.Errorf("made %q, %v", data, err)
	}
	if len(o.Steps) != 2 || o.Steps[1].Name != "s1" || o.Steps[1].Status != fsm.Passed || o.LogBytes == 0 {
		t.Errorf("got %+v", o)
	}
}

func aFailingStepEndsIt(t *testing.T, k *kit) {
	task := k.task(t, "echo one", "exit 42", "echo three")
	o := k.run(t, task)
	expect(t, o, fsm.Failed, fsm.CauseFailure, "step s1: exit code 42")
	if o.ExitCode != 42 || len(o.Steps) != 3 || o.Steps[1].ExitCode != 42 || o.Steps[2].Status != fsm.Skipped || printed(t, task) != "one\n" {
		t.Errorf("got %+v, printed %q", o, printed(t, task))
	}
}

func theEnvironment(t *testing.T, k *kit) {
	t.Setenv("NODE_SECRET", "leaked")
	task := k.task(t, "env", "env")
	task.Env = map[string]string{"NARWHAL_URL": "http://n1:9797", "NARWHAL_JOB": "forged"}
	spec := task.Work.Spec
	spec.Env = map[string]string{"A": "job", "B": "job", "NARWHAL_FENCE_TOKEN": "forged", "SPACES": "a  b\nc=d $HOME"}
	spec.Steps[1].Env = map[string]string{"B": "step", "NARWHAL_ATTEMPT": "forged"}
	task.Work.Commit.PullRequest, task.Work.Commit.Base = 7, "main"
	expect(t, k.run(t, task), fsm.Passed, "", "")
	got := printed(t, task)
	for _, line := range []string{
		"NARWHAL_PULL_REQUEST=7", "NARWHAL_BASE=main",
		"A=job", "B=job", "B=step", "CI=true", "NARWHAL=true", "NARWHAL_REPO=acme/api", "NARWHAL_COMMIT=" + task.Work.Commit.SHA,
		"NARWHAL_REF=refs/heads/main", "NARWHAL_BRANCH=main", "NARWHAL_TAG=", "NARWHAL_EVENT=push",
		"NARWHAL_JOB=" + task.Ref.Job.String(), "NARWHAL_ATTEMPT=1", "NARWHAL_NODE=" + string(k.node), "NARWHAL_URL=http://n1:9797",
		"NARWHAL_FENCE_TOKEN=" + task.Ref.Token.String(), "SPACES=a  b", "c=d $HOME",
	} {
		if !strings.Contains("\n"+got, "\n"+line+"\n") {
			t.Errorf("no line %q in the environment:\n%s", line, got)
		}
	}
	for _, part := range []string{"leaked", "forged", "EXECUTOR_TEST"} {
		if strings.Contains(got, part) {
			t.Errorf("%q is in the environment:\n%s", part, got)
		}
	}
	if strings.Count(got, "PATH=") < 2 || strings.Count(got, "HOME=") < 2 {
		t.Errorf("no PATH or HOME in:\n%s", got)
	}
}

func timeoutEndsIt(t *testing.T, k *kit) {
	task := k.task(t, "sleep 600", "echo later")
	task.Work.Spec.Timeout = 300 * time.Millisecond
	expect(t, k.run(t, task), fsm.Failed, fsm.CauseTimeout, "longer than its timeout of 300ms")
	task = k.task(t, "sleep 600", "echo later")
	task.Work.Spec.Steps[0].Timeout = 200 * time.Millisecond
	expect(t, k.run(t, task), fsm.Failed, fsm.CauseTimeout, "step s0: it took longer than its timeout of 200ms")
	if got := printed(t, task); got != "" {
		t.Errorf("printed %q", got)
	}
}

func stop(t *testing.T, run executor.Run, grace time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := run.Stop(ctx, grace); err != nil {
		t.Error(err)
	}
}

func cancelTidies(t *testing.T, k *kit) {
	task := k.task(t, "trap 'echo tidied; exit 5' TERM; sleep 600 & echo up; wait", "echo later")
	run := k.start(t, task)
	until(t, task, "up")
	stop(t, run, 10*time.Second)
	o := wait(t, run)
	expect(t, o, fsm.Canceled, fsm.CauseCanceled, "canceled")
	if got := printed(t, task); got != "up\ntidied\n" || o.ExitCode != 5 {
		t.Errorf("printed %q, exit code %d", got, o.ExitCode)
	}
	stop(t, run, time.Second) // of what has ended: nothing to do
}

func cancelOfTheStubborn(t *testing.T, k *kit) {
	task := k.task(t, "trap '' TERM; echo up; while :; do sleep 0.1; done")
	run := k.start(t, task)
	until(t, task, "up")
	stop(t, run, 200*time.Millisecond)
	expect(t, wait(t, run), fsm.Canceled, fsm.CauseCanceled, "canceled")
}

func aSecondStopIsShorter(t *testing.T, k *kit) {
	task := k.task(t, "trap '' TERM; echo up; while :; do sleep 0.1; done")
	run := k.start(t, task)
	until(t, task, "up")
	first := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() { first <- run.Stop(ctx, time.Hour) }()
	stop(t, run, 100*time.Millisecond)
	if err := <-first; err != nil {
		t.Error(err)
	}
	expect(t, wait(t, run), fsm.Canceled, fsm.CauseCanceled, "")
}

func waitAgain(t *testing.T, k *kit) {
	task := k.task(t, "echo up; while [ ! -e go ]; do sleep 0.05; done")
	run := k.start(t, task)
	until(t, task, "up")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := run.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("waited with a context that had ended: %v", err)
	}
	if err := k.ex.Sweep(t.Context(), all); err != nil { // keeps what is wanted
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(task.Workspace, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	expect(t, wait(t, run), fsm.Passed, "", "")
}

func nothingIsLeftBehind(t *testing.T, k *kit) {
	before, err := supervise.Processes()
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[int]bool)
	for _, p := range before {
		known[p.Pid] = true
	}
	task := k.task(t, "sleep 98765 & setsid sleep 98765 & sleep 98765 >/dev/null 2>&1 & echo started")
	expect(t, k.run(t, task), fsm.Passed, "", "")
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left, err := supervise.Processes()
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		for _, p := range left {
			for _, entry := range p.Environ() {
				if !known[p.Pid] && entry == "NARWHAL_FENCE_TOKEN="+task.Ref.Token.String() {
					count++
				}
			}
		}
		if count == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d processes are left", count)
		}
	}
}

func unwritableThings(t *testing.T, k *kit) {
	task := k.task(t, "mkdir -p a/b; echo x > a/b/c; chmod 000 a/b/c a/b a; umask 777; echo y > d; echo done")
	expect(t, k.run(t, task), fsm.Passed, "", "")
	if err := os.RemoveAll(task.Dir); err != nil { // as root, which narwhal is where it makes containers
		t.Error(err)
	}
	task = k.task(t, "true")
	if err := os.RemoveAll(task.Dir); err != nil {
		t.Fatal(err)
	}
	if run, err := k.ex.Start(t.Context(), task); err == nil {
		if o, err := run.Wait(t.Context()); err == nil {
			t.Errorf("without its folder it ran: %+v", o)
		}
	}
}

func aPlanIsNoTask(t *testing.T, k *kit) {
	task := k.task(t, "true")
	task.Work.Spec = nil
	if _, err := k.ex.Start(t.Context(), task); err == nil {
		t.Error("it was started")
	}
}

func missingDependency(t *testing.T, k *kit) {
	task := k.task(t, "echo not reached")
	task.Work.Spec.Steps[0].Dependencies = []string{"sh", "no-such-package"}
	o := k.run(t, task)
	expect(t, o, fsm.Errored, fsm.CauseConfig, "no-such-package")
	want := "installs no packages"
	if k.docker != nil {
		want = "image " + busybox + " has nothing to install"
	}
	if !strings.Contains(o.Message, want) || printed(t, task) != "" {
		t.Errorf("message %q, printed %q", o.Message, printed(t, task))
	}
	task = k.task(t, "echo there")
	task.Work.Spec.Steps[0].Dependencies = []string{"sh", "cat"}
	task.Work.Spec.Resources = pipeline.Resources{CPU: 1_000_000, Memory: 1} // brought within what there is
	expect(t, k.run(t, task), fsm.Passed, "", "")
}

// parallelSteps would not end if one waited for the other.
func parallelSteps(t *testing.T, k *kit) {
	task := k.task(t, "echo begun", "touch a; until [ -e b ]; do sleep 0.02; done", "touch b; until [ -e a ]; do sleep 0.02; done", "ls")
	for i := range 2 {
		task.Work.Spec.Steps[1+i].Parallel = true
		task.Work.Spec.Steps[1+i].Needs = []int{0}
	}
	expect(t, k.run(t, task), fsm.Passed, "", "")
	if got := printed(t, task); got != "begun\na\nb\n" {
		t.Errorf("printed %q", got)
	}
}

func stepsAfterAFailure(t *testing.T, k *kit) {
	commands := []string{"echo one; exit 3", "echo two", "echo broken", "echo always"}
	task := k.task(t, commands...)
	steps := task.Work.Spec.Steps
	steps[2].When.On, steps[3].When.On = pipeline.OnFailure, pipeline.Always
	o := k.run(t, task)
	expect(t, o, fsm.Failed, fsm.CauseFailure, "step s0: exit code 3")
	if got := printed(t, task); got != "one\nbroken\nalways\n" || len(o.Steps) != 4 || o.Steps[1].Status != fsm.Skipped {
		t.Errorf("printed %q, steps %+v", got, o.Steps)
	}
	commands[0] = "echo one"
	task = k.task(t, commands...)
	task.Work.Spec.Steps[2].When.On, task.Work.Spec.Steps[3].When.On = pipeline.OnFailure, pipeline.Always
	task.Work.Spec.Steps[1].Skip = "its when does not fit"
	expect(t, k.run(t, task), fsm.Passed, "", "")
	if got := printed(t, task); got != "one\nalways\n" {
		t.Errorf("printed %q", got)
	}
}

func aStepIsTriedAgain(t *testing.T, k *kit) {
	task := k.task(t, "echo x >> tries; [ $(wc -l < tries) -ge 3 ]", "cat tries")
	task.Work.Spec.Steps[0].Retry = &pipeline.Retry{Max: 2, When: []pipeline.Class{pipeline.ClassFailure}}
	o := k.run(t, task)
	expect(t, o, fsm.Passed, "", "")
	if o.Steps[0].Tries != 3 {
		t.Errorf("steps %+v", o.Steps)
	}
}

func noBash(t *testing.T, k *kit) {
	task := k.task(t, "echo not reached")
	task.Work.Spec.Steps[0].Shell = pipeline.ShellBash
	if k.docker == nil { // this machine has one: what it is for works
		task.Work.Spec.Steps[0].Command = []string{"false | true"}
		expect(t, k.run(t, task), fsm.Failed, fsm.CauseFailure, "exit code 1")
		return
	}
	expect(t, k.run(t, task), fsm.Errored, fsm.CauseConfig, "image "+busybox+" has no bash in its PATH: use one that has")
}

func aFailureIsAllowed(t *testing.T, k *kit) {
	task := k.task(t, "exit 3", "echo on")
	task.Work.Spec.Steps[0].AllowFailure = true
	o := k.run(t, task)
	expect(t, o, fsm.Passed, "", "")
	if printed(t, task) != "on\n" || !o.Steps[0].Allowed || o.Steps[0].ExitCode != 3 {
		t.Errorf("printed %q, steps %+v", printed(t, task), o.Steps)
	}
}

func secretsAreMasked(t *testing.T, k *kit) {
	task := withSecrets(t, k)
	expect(t, k.run(t, task), fsm.Passed, "", "")
	got := printed(t, task)
	for _, secret := range []string{"s3cr3t-t0k3n", "an other value", "never-given", "forged"} {
		if strings.Contains(got, secret) {
			t.Errorf("%q is in the log:\n%s", secret, got)
		}
	}
	if !strings.Contains(got, "\nnone\n") || !strings.Contains(got, "\nthere\n") || !strings.Contains(got, "\nNARWHAL_JOB="+task.Ref.Job.String()+"\n") {
		t.Errorf("printed:\n%s", got)
	}
}

func artifactsComeOut(t *testing.T, k *kit) {
	task := k.task(t, "mkdir dist; echo one > dist/one; echo '<testsuites/>' > report.xml", "exit 1")
	task.Work.Spec.Artifacts = &pipeline.Artifacts{Paths: []string{"dist/"}, When: pipeline.Always, JUnit: []string{"*.xml"}}
	task.Caches = []executor.Cache{{Name: "cache x", Key: "x", Paths: []string{"dist"}, File: "cache-0"}}
	expect(t, k.run(t, task), fsm.Failed, fsm.CauseFailure, "")
	names := func() (list []string) {
		entries, err := os.ReadDir(filepath.Join(task.Dir, executor.OutDir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if info, err := e.Info(); err != nil || info.Size() == 0 || !info.Mode().IsRegular() {
				t.Errorf("%s: %v, %v", e.Name(), info, err)
			}
			list = append(list, e.Name())
		}
		return list
	}
	if got := names(); !slices.Equal(got, []string{executor.ArtifactsFile, executor.JUnitFile}) {
		t.Errorf("out has %v", got)
	}
	made := filepath.Join(task.Dir, executor.OutDir, executor.ArtifactsFile)
	next := k.task(t, "cat dist/one")
	next.Restore = []executor.Restore{{Name: "artifacts of test", Archive: "a"}}
	next.Caches = task.Caches
	data, err := os.ReadFile(made)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Join(next.Dir, executor.InDir), 0o755), os.WriteFile(filepath.Join(next.Dir, executor.InDir, "a"), data, 0o644)); err != nil {
		t.Fatal(err)
	}
	expect(t, k.run(t, next), fsm.Passed, "", "")
	if got := printed(t, next); got != "one\n" {
		t.Errorf("printed %q", got)
	}
	task = next
	if got := names(); !slices.Equal(got, []string{"cache-0"}) {
		t.Errorf("out has %v", got)
	}
}
