package supervise_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog"
	"github.com/codepr/narwhal/pipeline"
	"github.com/codepr/narwhal/supervise"
)

// statuses are those of all steps, in their order.
func statuses(o fsm.Outcome) string {
	var list []string
	for _, s := range o.Steps {
		text := string(s.Status)
		if s.Allowed {
			text += "!"
		}
		list = append(list, text)
	}
	return strings.Join(list, " ")
}

func TestParallelSteps(t *testing.T) {
	// Each waits for what the other has done: one after the other they would never end.
	meet := func(me, other string) string {
		return "printf 'half of " + me + "'; touch " + me + "; while [ ! -e " + other + " ]; do sleep 0.01; done; echo ' a line'"
	}
	j := newJob(t, "echo first", meet("a", "b"), meet("b", "a"), "ls a b; echo last")
	j.task.Steps[1].Parallel, j.task.Steps[1].Needs = true, []int{0}
	j.task.Steps[2].Parallel, j.task.Steps[2].Needs = true, []int{0}
	j.task.Timeout = time.Minute
	o := j.run(t.Context())
	expect(t, o, fsm.Passed, "", 0, "")
	got := strings.Split(strings.TrimSpace(j.printed()), "\n")
	for _, want := range []string{"1 half of a a line", "2 half of b a line"} {
		whole := slices.Contains(got, want)
		parts := slices.Contains(got, want[:11]) && slices.Contains(got, want[:1]+"  a line") // flushed in between
		if !whole && !parts {
			t.Errorf("no %q in %q", want, got)
		}
	}
	if got[0] != "0 first" || got[len(got)-1] != "3 last" {
		t.Errorf("printed %q", got)
	}
	if got := statuses(o); got != "passed passed passed passed" {
		t.Errorf("steps %s", got)
	}
}

func TestStepsAfterAFailure(t *testing.T) {
	j := newJob(t, "true", "exit 3", "echo not", "echo tell; exit 4", "echo tidy", "echo other", "echo out")
	for i, on := range []pipeline.RunOn{"", "", "", pipeline.OnFailure, pipeline.Always} {
		j.task.Steps[i].On = on
	}
	j.task.Steps[5].Parallel = true
	j.task.Steps[6].Skip, j.task.Steps[6].On = "it isn't Tuesday", pipeline.Always
	o := j.run(t.Context())
	expect(t, o, fsm.Failed, fsm.CauseFailure, 3, "step s1: exit code 3")
	if got := statuses(o); got != "passed failed skipped failed passed passed skipped" {
		t.Errorf("steps %s", got)
	}
	if got := lines(j.printed()); !slices.Equal(got, []string{"3 tell", "4 tidy", "5 other"}) {
		t.Errorf("printed %q", got)
	}
	if !strings.Contains(j.said(), "step s6 is left out: it isn't Tuesday") {
		t.Errorf("narwhal said %q", j.said())
	}
	j = newJob(t, "true", "echo not")
	j.task.Steps[1].On = pipeline.OnFailure
	o = j.run(t.Context())
	if expect(t, o, fsm.Passed, "", 0, ""); statuses(o) != "passed skipped" || j.printed() != "" {
		t.Errorf("steps %s, printed %q", statuses(o), j.printed())
	}
}

// lines are the lines of a text, sorted: those of parallel steps have no order.
func lines(text string) []string {
	list := strings.Split(strings.TrimSpace(text), "\n")
	slices.Sort(list)
	return list
}

// said are narwhal's own lines.
func (j *job) said() string {
	j.t.Helper()
	all, err := joblog.Read(j.log(), 0, 0)
	if err != nil {
		j.t.Fatal(err)
	}
	var b strings.Builder
	for _, l := range all {
		if l.Step < 0 {
			b.WriteString(l.Text + "\n")
		}
	}
	return b.String()
}

func TestAllowedFailures(t *testing.T) {
	j := newJob(t, "exit 5", "echo goes on", "sleep 600", "echo and on")
	j.task.Steps[0].AllowFailure, j.task.Steps[2].AllowFailure = true, true
	j.task.Steps[2].Timeout = 50 * time.Millisecond
	o := j.run(t.Context())
	expect(t, o, fsm.Passed, "", 0, "")
	if got := statuses(o); got != "failed! passed failed! passed" || o.Steps[0].ExitCode != 5 || o.Steps[2].Cause != fsm.CauseTimeout {
		t.Errorf("steps %s: %+v", got, o.Steps)
	}
	// The job's own time is nothing that a step may use up.
	j = newJob(t, "sleep 600")
	j.task.Steps[0].AllowFailure, j.task.Timeout = true, time.Second
	o = j.run(t.Context())
	if expect(t, o, fsm.Failed, fsm.CauseTimeout, 143, "the job took longer"); statuses(o) != "failed" {
		t.Errorf("steps %s", statuses(o))
	}
}

func TestAStepsTimeoutIsAFailureOfTheStep(t *testing.T) {
	j := newJob(t, "sleep 600", "echo tell", "echo not", "echo tidy")
	j.task.Steps[0].Timeout = 50 * time.Millisecond
	j.task.Steps[1].On, j.task.Steps[3].On = pipeline.OnFailure, pipeline.Always
	o := j.run(t.Context())
	expect(t, o, fsm.Failed, fsm.CauseTimeout, 143, "step s0: it took longer than its timeout of 50ms")
	if got := j.printed(); got != "1 tell\n3 tidy\n" || o.Steps[0].Cause != fsm.CauseTimeout {
		t.Errorf("printed %q, steps %+v", got, o.Steps)
	}
}

func TestTheJobsEndEndsAll(t *testing.T) {
	stops := map[string]func(j *job, cancel context.CancelFunc){
		"timeout": func(j *job, _ context.CancelFunc) { j.task.Timeout = 300 * time.Millisecond },
		"cancel":  func(_ *job, cancel context.CancelFunc) { cancel() },
	}
	for name, stop := range stops {
		t.Run(name, func(t *testing.T) {
			j := newJob(t, "touch a; sleep 600", "touch b; sleep 600", "echo not", "echo neither")
			j.task.Steps[1].Parallel = true
			j.task.Steps[2].On, j.task.Steps[3].On = pipeline.OnFailure, pipeline.Always
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan struct{})
			if name == "timeout" {
				stop(j, cancel)
				close(ended)
			} else {
				go func() {
					defer close(ended)
					awaitFiles(t, filepath.Join(j.dir, "a"), filepath.Join(j.dir, "b"))
					stop(j, cancel)
				}()
			}
			o := j.run(ctx)
			<-ended
			if o.Status == fsm.Passed || j.printed() != "" || o.Steps[2].Status != fsm.Skipped || o.Steps[3].Status != fsm.Skipped {
				t.Errorf("%+v, printed %q", o, j.printed())
			}
			if o.Steps[0].Status == fsm.Passed || o.Steps[1].Status == fsm.Passed {
				t.Errorf("steps %s", statuses(o))
			}
		})
	}
}

func awaitFiles(t *testing.T, paths ...string) {
	for deadline := time.Now().Add(30 * time.Second); ; {
		there := 0
		for _, path := range paths {
			if _, err := os.Stat(path); err == nil {
				there++
			}
		}
		if there == len(paths) {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%d of %q are there", there, paths)
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestRetry(t *testing.T) {
	j := newJob(t, "echo try; echo x >> tries; [ $(wc -l < tries) -ge 3 ]", "[ -e once ] || { touch once; sleep 600; }", "exit 9")
	j.task.Steps[0].Retry = &pipeline.Retry{Max: 5, Backoff: time.Millisecond}
	j.task.Steps[1].Retry = &pipeline.Retry{Max: 1, When: []pipeline.Class{pipeline.ClassTimeout}}
	j.task.Steps[1].Timeout = 3 * time.Second // a busy machine takes long to start a shell
	j.task.Steps[2].Retry = &pipeline.Retry{Max: 1, ExitCodes: []int{8}}
	o := j.run(t.Context())
	expect(t, o, fsm.Failed, fsm.CauseFailure, 9, "step s2: exit code 9")
	if got := statuses(o); got != "passed passed failed" || o.Steps[0].Tries != 3 || o.Steps[1].Tries != 2 || o.Steps[2].Tries != 0 {
		t.Errorf("steps %s: %+v", got, o.Steps)
	}
	if got := j.printed(); got != "0 try\n0 try\n0 try\n" {
		t.Errorf("printed %q", got)
	}
	if !strings.Contains(j.said(), "step s0: exit code 1; trying again (3 of 6) in 2ms") {
		t.Errorf("narwhal said %q", j.said())
	}
	j = newJob(t, "exit 1")
	j.task.Steps[0].Retry = &pipeline.Retry{Max: 1, Backoff: time.Hour}
	j.task.Timeout = 50 * time.Millisecond
	expect(t, j.run(t.Context()), fsm.Failed, fsm.CauseTimeout, 0, "the job took longer")
}

func TestShells(t *testing.T) {
	if _, err := os.Stat("/bin/bash"); err != nil {
		t.Fatalf("it takes bash: %v", err)
	}
	j := newJob(t, "false | true; echo sh goes on", "echo $BASH; false | true; echo not reached")
	j.task.Steps[1].Shell = pipeline.ShellBash
	expect(t, j.run(t.Context()), fsm.Failed, fsm.CauseFailure, 1, "step s1")
	if got := j.printed(); !strings.HasPrefix(got, "0 sh goes on\n1 /") || strings.Contains(got, "reached") {
		t.Errorf("printed %q", got)
	}
	j = newJob(t, "true")
	j.task.Env, j.task.Steps[0].Shell = []string{"PATH=" + j.dir}, pipeline.ShellBash
	j.task.Where = "image x"
	if _, err := os.Stat("/bin/bash"); err != nil {
		expect(t, j.run(t.Context()), fsm.Errored, fsm.CauseConfig, 0, "image x has no bash in its PATH: use one that has, or leave out `shell: bash`")
	}
}

func TestUsage(t *testing.T) {
	burn := "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null"
	j := newJob(t, "sh -c '"+burn+"'", "true")
	o := j.run(t.Context())
	expect(t, o, fsm.Passed, "", 0, "")
	if s := o.Steps[0]; s.CPUTime < 5*time.Millisecond || s.PeakMemory < 150<<20 || s.CPUTime < o.Steps[1].CPUTime {
		t.Errorf("usage %+v", o.Steps)
	}
	if o.CPUTime != o.Steps[0].CPUTime+o.Steps[1].CPUTime || o.PeakMemory < o.Steps[0].PeakMemory {
		t.Errorf("in all %s and %d bytes: %+v", o.CPUTime, o.PeakMemory, o.Steps)
	}
	// The reaper, which waits for anybody, tells whose it was.
	j = newJob(t, "sh -c '"+burn+"'")
	if err := supervise.WriteSpec(j.dir, j.task); err != nil {
		t.Fatal(err)
	}
	j.main(nil)
	o, _ = supervise.Outcome(j.records())
	if expect(t, o, fsm.Passed, "", 0, ""); o.Steps[0].CPUTime < 5*time.Millisecond || o.Steps[0].PeakMemory < 150<<20 {
		t.Errorf("usage %+v", o.Steps)
	}
}
