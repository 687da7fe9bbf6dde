package runner

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/pipeline"
)

func asking() *pipeline.Job {
	return &pipeline.Job{Steps: []pipeline.Step{
		{Name: "test"}, {Name: "ship", When: pipeline.When{Manual: true}}, {Name: "undo", When: pipeline.When{Manual: true}},
	}}
}

// TestApprovals: the keys are those of the manual steps, the same after a restart, and
// of one attempt, step and node alone.
func TestApprovals(t *testing.T) {
	n := newNode(t)
	n.start()
	a, b := ref(1, 1, 7), ref(1, 1, 8)
	keys := n.r.approvals(a, asking())
	if names := slices.Sorted(maps.Keys(keys)); !slices.Equal(names, []string{"ship", "undo"}) || keys["ship"] == keys["undo"] {
		t.Errorf("keys are %v", keys)
	}
	if other := n.r.approvals(b, asking()); other["ship"] == keys["ship"] {
		t.Error("another token's key is the same")
	}
	if none := n.r.approvals(a, &pipeline.Job{Steps: []pipeline.Step{{Name: "test"}}}); none != nil {
		t.Errorf("a job that asks nobody has %v", none)
	}
	n.end()
	n.start()
	if again := n.r.approvals(a, asking()); !maps.Equal(again, keys) {
		t.Error("the keys are others after a restart")
	}
	n.end()
	path := filepath.Join(n.dir, "approvals.key")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info, err)
	}
	if err := os.WriteFile(path, []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if key, err := readApprovalKey(n.dir); err != nil || len(key) != approvalKeySize {
		t.Errorf("a torn key is not made anew: %d bytes, %v", len(key), err)
	}
}

// deaf is a run that doesn't answer a number of times.
type deaf struct {
	executor.Run
	times int
	heard []executor.Decision
}

func (d *deaf) Decide(_ context.Context, word executor.Decision) error {
	if d.times > 0 {
		d.times--
		return errors.New("it does not answer")
	}
	d.heard = append(d.heard, word)
	return nil
}

// TestHand: decisions go in their order, once each, with a key only where they approve,
// and again where they were not heard.
func TestHand(t *testing.T) {
	n := newNode(t)
	n.start()
	a := newAttempt(ref(1, 1, 7), link.Work{})
	a.decisions = []fsm.StepDecision{{Step: "ship", Approve: true, By: "ann"}, {Step: "undo", By: "bob"}}
	task := executor.Task{Ref: a.ref, Approvals: n.r.approvals(a.ref, asking())}
	run := &deaf{times: 1}
	if got := n.r.hand(t.Context(), a, task, run, 0); got != 0 || len(run.heard) > 0 {
		t.Errorf("what was not heard counts as handed in: %d, %v", got, run.heard)
	}
	if got := n.r.hand(t.Context(), a, task, run, 0); got != 2 {
		t.Errorf("handed in %d of 2", got)
	}
	if got := n.r.hand(t.Context(), a, task, run, 2); got != 2 {
		t.Errorf("a second time: %d", got)
	}
	want := []executor.Decision{{Step: "ship", Approve: true, By: "ann", Key: task.Approvals["ship"]}, {Step: "undo", By: "bob"}}
	if !slices.Equal(run.heard, want) {
		t.Errorf("heard %+v, want %+v", run.heard, want)
	}
	n.end()
}
