package executor_test

import (
	"testing"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

const nowhere = "127.0.0.1:1/no/such:image"

// TestStepImageThatCannotBeHad: it is the step's error, where that may fail: the others
// run. Where it may not, the job does not begin.
func TestStepImageThatCannotBeHad(t *testing.T) {
	k, c := newDocker(t), api(t)
	with := func(allowed bool) executor.Task {
		task := k.task(t, "echo first", "echo scanned", "echo last")
		task.Work.Spec.Steps[1].Image, task.Work.Spec.Steps[1].AllowFailure = nowhere, allowed
		task.Work.Spec.Steps = append(task.Work.Spec.Steps, pipeline.Step{Name: "else", Image: derive(t, "ENV MARK=another"), Command: []string{"echo $MARK"}},
			pipeline.Step{Name: "cry", Command: []string{"echo cried"}, When: pipeline.When{On: pipeline.OnFailure}})
		return task
	}
	task := with(true)
	o := k.run(t, task)
	expect(t, o, fsm.Passed, "", "")
	if s := o.Steps[1]; s.Status != fsm.Errored || s.Cause != fsm.CauseImagePull || !s.Allowed {
		t.Errorf("the step: %+v", s)
	}
	if got := printed(t, task); got != "first\nlast\nanother\n" {
		t.Errorf("printed %q", got)
	}
	untilOwn(t, task, "step s1: pull image "+nowhere)

	task = with(false)
	expect(t, k.run(t, task), fsm.Errored, fsm.CauseImagePull, "step s1: pull image "+nowhere)
	if got := printed(t, task); got != "" {
		t.Errorf("printed %q", got)
	}

	// One of two steps may not fail.
	task = with(true)
	task.Work.Spec.Steps[2].Image = nowhere
	expect(t, k.run(t, task), fsm.Errored, fsm.CauseImagePull, "step s2: pull image "+nowhere)

	// A step that is left out needs no image.
	task = with(false)
	task.Work.Spec.Steps[1].Skip = "not on this branch"
	expect(t, k.run(t, task), fsm.Passed, "", "")

	// It is the only one with an image of its own, and narwhal is started again meanwhile.
	task = k.task(t, "echo up; while [ ! -e go ]; do sleep 0.02; done", "echo scanned")
	task.Work.Spec.Steps[1].Image, task.Work.Spec.Steps[1].AllowFailure = nowhere, true
	k.startElsewhere(t, task)
	run, err := k.ex.Adopt(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	touch(t, task.Workspace+"/go")
	o = wait(t, run)
	expect(t, o, fsm.Passed, "", "")
	if o.Steps[1].Cause != fsm.CauseImagePull {
		t.Errorf("the step: %+v", o.Steps[1])
	}
	if left := things(t, c, k.node); len(left) > 1 { // the node's network
		t.Errorf("left: %v", left)
	}
}
