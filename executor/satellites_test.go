package executor_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

func TestStepsWithImagesOfTheirOwn(t *testing.T) {
	k, c := newDocker(t), api(t)
	marked, user := derive(t, "ENV MARK=another"), derive(t, "USER 1000:1000")
	task := k.task(t, "echo made > file; echo mark $MARK", "echo mark $MARK; cat file; echo $NARWHAL_ATTEMPT >> file; hostname > name",
		"cat file; id -u; echo more > users", "cat users; [ $(cat name) != $(hostname) ] && echo elsewhere")
	steps := task.Work.Spec.Steps
	steps[1].Image, steps[2].Image, steps[3].Image = marked, user, busybox // the job's own image needs no container more
	run := k.start(t, task)
	args := filters.NewArgs(filters.Arg("label", "narwhal.token="+task.Ref.Token.String()), filters.Arg("label", "narwhal.role=satellite"))
	if found, err := c.ContainerList(t.Context(), container.ListOptions{All: true, Filters: args}); err != nil || len(found) > 2 {
		t.Errorf("satellites: %v, %v", found, err)
	}
	expect(t, wait(t, run), fsm.Passed, "", "")
	if got := printed(t, task); got != "mark\nmark another\nmade\nmade\n1\n1000\nmore\nelsewhere\n" {
		t.Errorf("printed %q", got)
	}
	if left := things(t, c, k.node); len(left) != 1 { // the node's network
		t.Errorf("left: %v", left)
	}
}

func TestSatelliteOutOfMemory(t *testing.T) {
	k := newDocker(t)
	other := derive(t, "ENV MARK=another")
	task := k.task(t, "echo first", "exec tail /dev/zero")
	task.Work.Spec.Resources.Memory = 64 << 20
	task.Work.Spec.Steps[1].Image = other
	o := k.run(t, task)
	expect(t, o, fsm.Failed, fsm.CauseOOM, "memory limit of 64 MiB")
	if o.PeakMemory < 32<<20 {
		t.Errorf("its peak is said to be %d bytes", o.PeakMemory)
	}
}

func TestSatelliteKilledFromOutside(t *testing.T) {
	k, c := newDocker(t), api(t)
	task := k.task(t, "echo up; sleep 600")
	task.Work.Spec.Steps[0].Image = derive(t, "ENV MARK=another")
	run := k.start(t, task)
	until(t, task, "up")
	if err := c.ContainerKill(t.Context(), "narwhal-"+string(k.node)+"-"+task.Ref.Job.String()+"-1-"+task.Ref.Token.String()+"-satellite-s1", "KILL"); err != nil {
		t.Fatal(err)
	}
	o := wait(t, run)
	if o.Status != fsm.Errored || !strings.Contains(o.Message, "container") {
		t.Errorf("got %+v", o)
	}
}

func TestSatelliteStops(t *testing.T) {
	k := newDocker(t)
	task := k.task(t, "trap 'echo tidied; exit 5' TERM; sleep 600 & echo up; wait")
	task.Work.Spec.Steps[0].Image = derive(t, "ENV MARK=another")
	run := k.start(t, task)
	until(t, task, "up")
	stop(t, run, 10*time.Second)
	expect(t, wait(t, run), fsm.Canceled, fsm.CauseCanceled, "")
	if got := printed(t, task); got != "up\ntidied\n" {
		t.Errorf("printed %q", got)
	}
}

// withSecrets has a job that names two of the three values that it is given.
func withSecrets(t *testing.T, k *kit) executor.Task {
	task := k.task(t, `echo "$TOKEN"; echo ${TOKEN#s}; [ -z "$OTHER" ] && echo none`, `[ "${#OTHER}" = 14 ] && echo there; env`)
	task.Work.Spec.Secrets = []string{"TOKEN", "NARWHAL_JOB"}
	task.Work.Spec.Steps[1].Secrets = []string{"OTHER"}
	task.Secrets = map[string]string{"TOKEN": "s3cr3t-t0k3n", "OTHER": "an other value", "NARWHAL_JOB": "forged", "UNNAMED": "never-given"}
	return task
}

// TestSecretsAreNowhere looks for a secret wherever the engine and the attempt's
// folder could have it.
func TestSecretsAreNowhere(t *testing.T) {
	k, c := newDocker(t), api(t)
	task := withSecrets(t, k)
	task.Work.Spec.Steps = append(task.Work.Spec.Steps, pipeline.Step{Name: "late",
		Command: []string{"cat /narwhal/job/spec.json; cat /proc/1/environ || echo hidden; echo up; while [ ! -e go ]; do sleep 0.05; done"}})
	run := k.start(t, task)
	until(t, task, "up")
	id := "narwhal-" + string(k.node) + "-" + task.Ref.Job.String() + "-1-" + task.Ref.Token.String()
	_, raw, err := c.ContainerInspectWithRaw(t.Context(), id, false)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	err = filepath.WalkDir(task.Dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		text += string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range task.Secrets {
		if secret != "forged" && strings.Contains(text, secret) {
			t.Errorf("%q is to be found", secret)
		}
	}
	touch(t, filepath.Join(task.Workspace, "go"))
	expect(t, wait(t, run), fsm.Passed, "", "")
	if got := printed(t, task); strings.Contains(got, "forged") || strings.Contains(got, "TOKEN=s3") {
		t.Errorf("printed %q", got)
	}
}
