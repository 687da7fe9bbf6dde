package executor_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/volume"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// TestAdoptWithServicesAndSatellites: a job of many containers goes on as one.
func TestAdoptWithServicesAndSatellites(t *testing.T) {
	k, c := newDocker(t), api(t)
	task := k.task(t, "echo first", "echo up; while [ ! -e go ]; do sleep 0.05; done; "+ask("db"))
	task.Work.Spec.Steps[1].Image = derive(t, "ENV MARK=another")
	db := shell("db", hello, nil)
	db.Env = map[string]string{"GREETING": "still here"}
	task.Work.Spec.Services = []pipeline.Service{db}
	k.startElsewhere(t, task)
	if err := k.ex.Sweep(t.Context(), func(ref fsm.AttemptRef) bool { return ref == task.Ref }); err != nil {
		t.Fatal(err)
	}
	run, err := k.ex.Adopt(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	touch(t, filepath.Join(task.Workspace, "go"))
	expect(t, wait(t, run), fsm.Passed, "", "")
	if got := printed(t, task); got != "first\nup\nstill here\n" {
		t.Errorf("printed %q", got)
	}
	if left := things(t, c, k.node); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// TestAdoptWithoutTheJobsContainer: narwhal ended while it made the others.
func TestAdoptWithoutTheJobsContainer(t *testing.T) {
	k, c := newDocker(t), api(t)
	task := k.task(t, "echo up; sleep 600")
	task.Work.Spec.Services = []pipeline.Service{shell("db", "sleep 600", nil)}
	k.startElsewhere(t, task)
	id := "narwhal-" + string(k.node) + "-" + task.Ref.Job.String() + "-1-" + task.Ref.Token.String()
	if err := c.ContainerRemove(t.Context(), id, container.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := k.ex.Adopt(t.Context(), task); !errors.Is(err, executor.ErrGone) {
		t.Errorf("adopted: %v", err)
	}
	if left := things(t, c, k.node); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// TestSweepTakesAllOfAnAttempt: containers, network and volumes, and nothing of an
// attempt that lives or of another node.
func TestSweepTakesAllOfAnAttempt(t *testing.T) {
	k, other, c := newDocker(t), newDocker(t), api(t)
	withVolume := derive(t, "VOLUME /data")
	var runs []executor.Run
	var tasks []executor.Task
	for _, of := range []*kit{k, k, other} {
		task := of.task(t, "echo x > /data/x; echo up; sleep 600")
		task.Work.Spec.Image = withVolume
		task.Work.Spec.Services = []pipeline.Service{shell("db", "sleep 600", nil)}
		task.Secrets = map[string]string{"A": "b"}
		runs, tasks = append(runs, of.start(t, task)), append(tasks, task)
		until(t, task, "up")
	}
	count := func(node fsm.NodeID) (n int) {
		volumes, err := c.VolumeList(t.Context(), volume.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range volumes.Volumes {
			if v.Labels["narwhal.node"] == string(node) {
				n++
			}
		}
		return n + len(things(t, c, node))
	}
	if n, m := count(k.node), count(other.node); n != 8 || m != 4 { // two containers, a network and a volume each
		t.Errorf("before: %d and %d things", n, m)
	}
	if err := k.ex.Sweep(t.Context(), func(ref fsm.AttemptRef) bool { return ref == tasks[0].Ref }); err != nil {
		t.Fatal(err)
	}
	if n, m := count(k.node), count(other.node); n != 4 || m != 4 {
		t.Errorf("after: %d and %d things", n, m)
	}
	expect(t, wait(t, runs[1]), fsm.Errored, fsm.CauseNodeLost, "")
	for _, i := range []int{0, 2} {
		stop(t, runs[i], 0)
		wait(t, runs[i])
	}
	if n, m := count(k.node), count(other.node); n != 0 || m != 0 {
		t.Errorf("in the end: %d and %d things", n, m)
	}
}
