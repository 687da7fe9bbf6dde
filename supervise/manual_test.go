package supervise_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog"
	"github.com/codepr/narwhal/supervise"
)

// manualJob has a manual step s1.
func manualJob(t *testing.T, commands ...string) *job {
	j := newJob(t, commands...)
	j.task.Job, j.task.Desk, j.task.Steps[1].Manual = "42.1", supervise.NewDesk(), true
	return j
}

// asked follows the log until the job says that step s1 waits.
func (j *job) asked(ctx context.Context) {
	for line, err := range joblog.Follow(ctx, j.log(), 0, nil) {
		if err != nil {
			j.t.Errorf("waiting for the question: %v", err)
			return
		}
		if strings.Contains(line.Text, "step s1 waits for a person: narwhal approve 42.1 --step s1") {
			return
		}
	}
}

func TestManualStep(t *testing.T) {
	j := manualJob(t, "echo test", "echo deploy", "echo after", "echo beside")
	j.task.Steps[1].Timeout = time.Nanosecond << 34 // its own time does not run while it waits
	j.task.Steps[3].Parallel = true
	done := make(chan fsm.Outcome, 1)
	go func() { done <- j.run(t.Context()) }()
	j.asked(t.Context())
	j.until(t.Context(), "beside")
	if strings.Contains(j.printed(), "deploy") {
		t.Error("nobody has approved")
	}
	j.task.Desk.Decide(supervise.Decision{Step: "other", Approve: true})
	j.task.Desk.Decide(supervise.Decision{Step: "s1", Approve: true, By: "me"})
	j.task.Desk.Decide(supervise.Decision{Step: "s1", By: "too late"})
	expect(t, <-done, fsm.Passed, "", 0, "")
	if got := j.printed(); !strings.Contains(got, "1 deploy\n2 after\n") {
		t.Errorf("printed %q", got)
	}
	records := j.records()
	at := slices.IndexFunc(records, func(r supervise.Record) bool { return r.Kind == supervise.RecordGo })
	if got := supervise.WaitingSteps(records[:at]); !slices.Equal(got, []int{1}) {
		t.Errorf("before the decision %v wait", got)
	}
	if got := supervise.WaitingSteps(records); len(got) > 0 {
		t.Errorf("at the end %v wait", got)
	}
}

func TestManualStepApprovedAhead(t *testing.T) {
	j := manualJob(t, "echo test", "echo deploy")
	j.task.Desk.Decide(supervise.Decision{Step: "s1", Approve: true, By: "me"})
	expect(t, j.run(t.Context()), fsm.Passed, "", 0, "")
	if supervise.Has(j.records(), supervise.RecordWait) {
		t.Error("it waited")
	}
}

func TestManualStepRejected(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		j := manualJob(t, "echo test", "echo deploy", "echo told", "echo after")
		j.task.Steps[1].AllowFailure, j.task.Steps[2].On = allowed, "on_failure"
		j.task.Desk.Decide(supervise.Decision{Step: "s1", By: "me"})
		o := j.run(t.Context())
		if s := o.Steps[1]; s.Status != fsm.Failed || s.Cause != fsm.CauseRejected || s.Allowed != allowed {
			t.Errorf("step is %+v", s)
		}
		want := "0 test\n2 told\n"
		if allowed {
			want = "0 test\n3 after\n"
			expect(t, o, fsm.Passed, "", 0, "")
		} else {
			expect(t, o, fsm.Failed, fsm.CauseRejected, 0, "step s1: rejected by me")
		}
		if got := j.printed(); got != want {
			t.Errorf("printed %q, want %q", got, want)
		}
	}
}

func TestManualStepIsCanceledAndTimesOut(t *testing.T) {
	j := manualJob(t, "echo test", "echo deploy")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan fsm.Outcome, 1)
	go func() { done <- j.run(ctx) }()
	j.asked(t.Context())
	cancel()
	if o := <-done; o.Status != fsm.Canceled || o.Steps[1].Status != fsm.Canceled {
		t.Errorf("canceled: %+v", o)
	}
	j = manualJob(t, "true", "echo deploy")
	j.task.Timeout = 2 * time.Second
	if o := j.run(t.Context()); o.Status != fsm.Failed || o.Cause != fsm.CauseTimeout || j.printed() != "" {
		t.Errorf("timed out: %+v", o)
	}
}

// TestManualStepByControl decides as narwhal does, and as the job itself could try to.
func TestManualStepByControl(t *testing.T) {
	j := manualJob(t, "echo test", "echo deploy")
	j.task.Steps[1].Lock = supervise.Lock("key")
	j.task.SocketDir = j.dir
	if err := supervise.WriteSpec(j.dir, j.task); err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), mainEnv+"="+j.dir)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	j.asked(t.Context())
	socket := filepath.Join(j.dir, supervise.ControlSocket)
	for _, word := range []supervise.Decision{
		{Step: "s0", Approve: true, Key: "key"}, {Step: "s1", Approve: true}, {Step: "s1", Approve: true, Key: j.task.Steps[1].Lock},
	} {
		if err := supervise.AskDecide(t.Context(), socket, word); err == nil {
			t.Errorf("%+v is taken", word)
		}
	}
	if err := supervise.AskDecide(t.Context(), socket, supervise.Decision{Step: "s1", Approve: true, By: "me", Key: "key"}); err != nil {
		t.Error(err)
	}
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
	if got := j.printed(); got != "0 test\n1 deploy\n" {
		t.Errorf("printed %q", got)
	}
}
