package runner

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
)

func passed() fsm.Outcome { return fsm.Outcome{Status: fsm.Passed} }

func TestRunsAJob(t *testing.T) {
	n := newNode(t)
	n.start()
	a := ref(1, 1, 7)
	n.leader.want(job(a))
	run := n.m.awaitRun(t, a)
	if env := run.task.Env; env["NARWHAL_NODE"] != "one" || env["NARWHAL_URL"] != "http://x" || run.task.Work.Commit.SHA != commit().SHA {
		t.Errorf("task is %+v", run.task)
	}
	if _, err := os.Stat(run.task.Workspace); err != nil {
		t.Errorf("workspace: %v", err)
	}
	n.m.exit(a, passed())
	if o := n.leader.awaitOutcome(t, a); o.Status != fsm.Passed || o.LogBytes == 0 {
		t.Errorf("outcome is %+v", o)
	}
	n.leader.await(t, "the start", func() bool { return n.leader.reports[0].Started && n.leader.reports[0].Ref == a })
	n.settled()
	n.end()
	if _, err := os.Stat(run.task.Workspace); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the workspace is still there: %v", err)
	}
	path, err := n.r.Logs().Path(a.Job, 1)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(path)
	if !strings.Contains(string(text), "\t-1\tnode one (n1)") || !strings.Contains(string(text), "\t-1\tpassed\n") {
		t.Errorf("log is %q", text)
	}
	if l := mustOpen(t, filepath.Join(n.dir, "ledger")); len(l.book.open) != 0 || len(l.book.closed) != 1 {
		t.Errorf("ledger holds %+v, %+v", l.book.open, l.book.closed)
	}
}

func TestPlans(t *testing.T) {
	for name, c := range map[string]struct {
		files  map[string]string
		ensure error
		want   fsm.Outcome
		words  []string
	}{
		"good":      {files: map[string]string{"narwhal.yml": "steps: [{name: a, command: make}]"}, want: fsm.Outcome{Status: fsm.Passed}},
		"hidden":    {files: map[string]string{".narwhal.yml": "steps: [{name: a, command: make}]"}, want: fsm.Outcome{Status: fsm.Passed}},
		"missing":   {want: fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseConfig}, words: []string{"narwhal.yml", ".narwhal.yml"}},
		"bad":       {files: map[string]string{"narwhal.yml": "stepz: 1\nimage: []\n"}, want: fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseConfig}, words: []string{"narwhal.yml:1:", "narwhal.yml:2:"}},
		"not there": {ensure: errors.New("no such commit"), want: fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseCheckout}, words: []string{"no such commit"}},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.files.content = c.files
			n.files.ensure = func(context.Context) error { return c.ensure }
			n.start()
			a := fsm.AttemptRef{Job: fsm.JobID{Build: 1}, N: 1, Token: fsm.Token{Index: 3}}
			n.leader.want(link.Assignment{Ref: a, Work: &link.Work{Kind: fsm.KindPlan, Name: "plan", Commit: commit()}})
			o := n.leader.awaitOutcome(t, a)
			if o.Status != c.want.Status || o.Cause != c.want.Cause || (o.Plan != nil) != (o.Status == fsm.Passed) {
				t.Errorf("outcome is %+v", o)
			}
			if o.Plan != nil && (o.Text == nil || o.Text.Message != "what it does" || o.Text.Author != "otter") {
				t.Errorf("nobody told of the commit, and its plan says %+v", o.Text)
			}
			for _, w := range c.words {
				if !strings.Contains(o.Message, w) {
					t.Errorf("message %q lacks %q", o.Message, w)
				}
			}
			n.settled()
			n.end()
		})
	}
}

func TestCancels(t *testing.T) {
	n := newNode(t)
	n.start()
	a, never := ref(1, 1, 7), ref(2, 1, 8)
	n.leader.want(job(a))
	n.m.awaitRun(t, a)
	running, unstarted := job(a), job(never)
	running.Cancel, unstarted.Cancel = true, true
	n.leader.want(running, unstarted)
	for _, r := range []fsm.AttemptRef{a, never} {
		if o := n.leader.awaitOutcome(t, r); o.Status != fsm.Canceled || o.Cause != fsm.CauseCanceled {
			t.Errorf("%s: %+v", r, o)
		}
	}
	n.settled()
	n.end()
	if n.m.started[never] != 0 {
		t.Error("what was canceled before its start was started")
	}
}

func TestCancelsDuringCheckout(t *testing.T) {
	n := newNode(t)
	n.files.ensure = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	n.start()
	a := job(ref(1, 1, 7))
	n.leader.want(a)
	n.leader.await(t, "it to be here", func() bool { return n.r.Running() == 1 })
	a.Cancel = true
	n.leader.want(a)
	if o := n.leader.awaitOutcome(t, a.Ref); o.Status != fsm.Canceled {
		t.Errorf("outcome is %+v", o)
	}
	n.settled()
	n.end()
}

func TestSupersededReportsNothing(t *testing.T) {
	n := newNode(t)
	n.m.hold = true
	n.start()
	old, next := ref(1, 1, 7), ref(1, 2, 9)
	n.leader.want(job(old))
	run := n.m.awaitRun(t, old)
	n.leader.want(job(next))
	n.m.await(t, "the old one to be stopped", func() bool { return len(run.stops) == 1 })
	n.m.exit(old, passed()) // it ends, and only now may the next begin
	n.m.awaitRun(t, next)
	n.m.exit(next, passed())
	n.leader.awaitOutcome(t, next)
	n.settled()
	n.end()
	if o := n.leader.outcome(old); o != nil {
		t.Errorf("the superseded attempt reported %+v", o)
	}
}

func TestReportsUntilAcknowledged(t *testing.T) {
	n := newNode(t)
	n.leader.deaf = true
	n.adjust = func(c *Config) { c.Farewell = 50 * time.Millisecond }
	n.start()
	a := ref(1, 1, 7)
	n.leader.want(job(a))
	n.m.awaitRun(t, a)
	n.m.exit(a, passed())
	n.leader.awaitOutcome(t, a)
	first := 0
	n.leader.look(func() { first = len(n.leader.reports) })
	n.leader.update(func() { n.leader.cut() })
	n.leader.await(t, "the same reports again", func() bool {
		l := n.leader
		return len(l.hellos) == 2 && len(l.reports) == 2*first && l.reports[first].ID == l.reports[0].ID
	})
	var runs []fsm.AttemptRef
	n.leader.look(func() { runs = n.leader.hellos[1].Runs })
	if !slices.Equal(runs, []fsm.AttemptRef{a}) {
		t.Errorf("the second hello lists %v", runs)
	}
	n.end()
	n.start() // a third time, from the disk
	n.leader.await(t, "the outcome again", func() bool { return len(n.leader.hellos) == 3 && len(n.leader.reports) > 2*first })
	n.leader.update(func() { n.leader.deaf = false; n.leader.cut() })
	n.settled()
	n.end()
	if n.m.started[a] != 1 {
		t.Errorf("started %d times", n.m.started[a])
	}
}

func TestStaleOutcomeIsDiscarded(t *testing.T) {
	n := newNode(t)
	n.start()
	ended, alive := ref(1, 1, 7), ref(2, 1, 8)
	n.leader.want(job(ended), job(alive))
	n.m.awaitRun(t, ended)
	n.m.awaitRun(t, alive)
	n.leader.update(func() { n.leader.stale[ended], n.leader.stale[alive] = true, true })
	n.leader.want()
	n.m.exit(ended, passed())
	n.settled()
	n.end()
	if o := n.leader.outcome(alive); o != nil {
		t.Errorf("a superseded attempt reported %+v", o)
	}
}

func TestRefusedButWantedIsTold(t *testing.T) {
	n := newNode(t)
	n.start()
	a := ref(1, 1, 7)
	n.leader.want(job(a))
	n.m.awaitRun(t, a)
	n.leader.await(t, "the start", func() bool { return len(n.leader.reports) == 1 })
	n.leader.update(func() { n.leader.stale[a] = true })
	n.m.exit(a, passed())
	n.leader.await(t, "the result to be refused", func() bool { return len(n.leader.reports) == 2 })
	n.settled()
	n.leader.update(func() { n.leader.stale[a] = false })
	n.leader.want(job(a))
	n.leader.await(t, "node_lost", func() bool { o := n.leader.outcome(a); return o.Cause == fsm.CauseNodeLost })
	n.end()
}

func TestRestartAdopts(t *testing.T) {
	n := newNode(t)
	n.adjust = func(c *Config) { c.LeaveRunning = true }
	n.start()
	stays, dies, orphan := ref(1, 1, 7), ref(2, 1, 8), ref(3, 1, 9)
	n.leader.want(job(stays), job(dies))
	n.m.awaitRun(t, stays)
	n.m.awaitRun(t, dies)
	n.leader.await(t, "both to be reported", func() bool { return len(n.leader.reports) == 2 })
	n.end()
	if o := n.leader.outcome(stays); o != nil {
		t.Fatalf("what was left running reported %+v", o)
	}
	n.m.update(func() {
		delete(n.m.runs, dies)
		n.m.runs[orphan] = &fakeRun{m: n.m, task: executor.Task{Ref: orphan}, ended: make(chan struct{})}
	})
	n.start()
	n.leader.await(t, "a second hello", func() bool { return len(n.leader.hellos) == 2 })
	var h link.Hello
	n.leader.look(func() { h = n.leader.hellos[1] })
	if h.Node.Incarnation != 2 || !slices.Equal(h.Runs, []fsm.AttemptRef{stays, dies}) {
		t.Errorf("hello is %+v", h)
	}
	if o := n.leader.awaitOutcome(t, dies); o.Cause != fsm.CauseNodeLost || !strings.Contains(o.Message, "restarted") {
		t.Errorf("outcome is %+v", o)
	}
	n.m.await(t, "the orphan to be swept", func() bool { return slices.Equal(n.m.swept, []fsm.AttemptRef{orphan}) })
	n.m.exit(stays, passed())
	if o := n.leader.awaitOutcome(t, stays); o.Status != fsm.Passed {
		t.Errorf("outcome is %+v", o)
	}
	n.settled()
	n.end()
}

// TestRestartStartsWhatHadNotBegun ends narwhal while a job is checked out and
// another is told to stop at that time.
func TestRestartStartsWhatHadNotBegun(t *testing.T) {
	n := newNode(t)
	n.adjust = func(c *Config) { c.LeaveRunning = true }
	checkouts := make(chan struct{}, 2)
	n.files.ensure = func(ctx context.Context) error {
		checkouts <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	n.start()
	goes, stops := ref(1, 1, 7), ref(2, 1, 8)
	n.leader.want(job(goes), job(stops))
	<-checkouts
	<-checkouts
	n.end()
	if o := n.leader.outcome(goes); o != nil {
		t.Fatalf("what was left reported %+v", o)
	}
	n.files.ensure = nil
	canceled := job(stops)
	canceled.Cancel = true
	n.leader.update(func() { n.leader.away = true })
	n.start()
	n.m.awaitRun(t, goes)
	n.leader.want(job(goes), canceled)
	n.leader.update(func() { n.leader.away = false })
	n.m.exit(goes, passed())
	if o := n.leader.awaitOutcome(t, goes); o.Status != fsm.Passed {
		t.Errorf("outcome is %+v", o)
	}
	if o := n.leader.awaitOutcome(t, stops); o.Status != fsm.Canceled {
		t.Errorf("outcome is %+v", o)
	}
	n.settled()
	n.end()
	if n.m.started[goes] != 1 {
		t.Errorf("%s was started %d times", goes, n.m.started[goes])
	}
}

// TestRestartAfterStepsBegan finds nothing of a job of which the journal says that
// its steps had begun, though the ledger did not get to it.
func TestRestartAfterStepsBegan(t *testing.T) {
	n := newNode(t)
	n.adjust = func(c *Config) { c.LeaveRunning = true }
	n.files.ensure = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	n.start()
	a := ref(1, 1, 7)
	n.leader.want(job(a))
	n.leader.await(t, "the attempt's folder", func() bool { _, err := os.Stat(filepath.Join(n.r.dir(a), "log")); return err == nil })
	n.end()
	if err := os.WriteFile(filepath.Join(n.r.dir(a), "journal"), []byte(`{"kind":"process","pid":7}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()
	if o := n.leader.awaitOutcome(t, a); o.Cause != fsm.CauseNodeLost || !strings.Contains(o.Message, "while the job ran") {
		t.Errorf("outcome is %+v", o)
	}
	n.settled()
	n.end()
}

// TestRestartOfTheMachine finds an attempt that was accepted before the machine went down.
// Its journal says nothing: that may not have come to the disk.
func TestRestartOfTheMachine(t *testing.T) {
	n := newNode(t)
	boot := "first"
	n.adjust = func(c *Config) { c.LeaveRunning, c.Boot = true, boot }
	held := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	n.files.ensure = held
	n.start()
	a, b := ref(1, 1, 7), ref(2, 1, 8)
	n.leader.want(job(a))
	n.leader.await(t, "the attempt's folder", func() bool { _, err := os.Stat(filepath.Join(n.r.dir(a), "log")); return err == nil })
	n.end()
	boot = "second"
	n.start()
	if o := n.leader.awaitOutcome(t, a); o.Cause != fsm.CauseNodeLost {
		t.Errorf("outcome is %+v", o)
	}
	n.leader.want(job(b))
	n.leader.await(t, "the attempt's folder", func() bool { _, err := os.Stat(filepath.Join(n.r.dir(b), "log")); return err == nil })
	n.end()
	n.files.ensure = nil
	n.start()
	n.m.awaitRun(t, b) // the machine was up all the time
	n.m.exit(b, passed())
	if o := n.leader.awaitOutcome(t, b); o.Status != fsm.Passed {
		t.Errorf("outcome is %+v", o)
	}
	n.settled()
	n.end()
}

func TestShutdownTellsTheLeader(t *testing.T) {
	n := newNode(t)
	n.start()
	a := ref(1, 1, 7)
	n.leader.want(job(a))
	n.m.awaitRun(t, a)
	n.end()
	if o := n.leader.outcome(a); o == nil || o.Cause != fsm.CauseNodeLost {
		t.Errorf("outcome is %+v", o)
	}
}

func TestShutdownWithoutALeader(t *testing.T) {
	n := newNode(t)
	n.adjust = func(c *Config) { c.Farewell = 100 * time.Millisecond }
	n.start()
	a := ref(1, 1, 7)
	n.leader.want(job(a))
	n.m.awaitRun(t, a)
	n.leader.update(func() { n.leader.away = true; n.leader.cut() })
	n.end()
	n.leader.update(func() { n.leader.away = false })
	n.start()
	if o := n.leader.awaitOutcome(t, a); o.Cause != fsm.CauseNodeLost {
		t.Errorf("outcome is %+v", o)
	}
	n.settled()
	n.end()
}

func TestWorkWithoutSteps(t *testing.T) {
	n := newNode(t)
	n.start()
	a := job(ref(1, 1, 7))
	a.Work.Spec = nil
	n.leader.want(a)
	if o := n.leader.awaitOutcome(t, a.Ref); o.Status != fsm.Errored || o.Cause != fsm.CauseConfig {
		t.Errorf("outcome is %+v", o)
	}
	n.settled()
	n.end()
}

func TestDeposedLeaderDoesNotAbort(t *testing.T) {
	n := newNode(t)
	n.start()
	a := ref(1, 1, 500)
	n.leader.update(func() { n.leader.index = 600 })
	n.leader.want(job(a))
	n.m.awaitRun(t, a)
	n.leader.update(func() { n.leader.index, n.leader.attempts = 400, nil; n.leader.cut() })
	n.leader.await(t, "a second hello and a wish", func() bool { return len(n.leader.hellos) == 2 })
	n.leader.want() // index 401 knows nothing of entry 500
	n.m.exit(a, passed())
	if o := n.leader.awaitOutcome(t, a); o.Status != fsm.Passed {
		t.Errorf("outcome is %+v", o)
	}
	n.settled()
	n.end()
}

func TestLeaseFences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		deploy, test := ref(1, 1, 7), ref(2, 1, 8)
		n.leader.want(job(deploy, failOnLoss), job(test))
		synctest.Wait()
		time.Sleep(time.Minute) // beats go and come
		synctest.Wait()
		stops := func(r fsm.AttemptRef) (out []time.Duration) {
			n.m.look(func() { out = slices.Clone(n.m.runs[r].stops) })
			return out
		}
		here := func(r fsm.AttemptRef) (ok bool) {
			n.m.look(func() { ok = n.m.runs[r] != nil })
			return ok
		}
		if len(stops(deploy)) != 0 {
			t.Fatal("stopped while the leader answers")
		}
		n.leader.update(func() { n.leader.mute = true })
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if len(stops(deploy)) != 0 {
			t.Error("stopped before the lease has run out")
		}
		time.Sleep(3*time.Second + time.Millisecond)
		synctest.Wait()
		if !slices.Equal(stops(deploy), []time.Duration{2 * time.Second}) {
			t.Errorf("stops of the deployment: %v", stops(deploy))
		}
		if len(stops(test)) != 0 {
			t.Error("a job that may run again was stopped")
		}
		late := ref(3, 1, 9)
		n.leader.want(job(deploy, failOnLoss), job(test), job(late, failOnLoss))
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if here(late) {
			t.Error("a deployment was started without a lease")
		}
		n.leader.update(func() { n.leader.mute = false })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if !here(late) {
			t.Error("the lease is back, but the deployment was not started")
		}
		var o *fsm.Outcome
		n.leader.look(func() { o = n.leader.outcome(deploy) })
		if o == nil || o.Cause != fsm.CauseNodeLost || !strings.HasPrefix(o.Message, "fenced") {
			t.Errorf("outcome is %+v", o)
		}
		n.end()
	})
}

func TestExpired(t *testing.T) {
	day := func(d int) time.Time { return time.Date(2026, 11, d, 0, 0, 0, 0, time.UTC) }
	kept := []keptLog{{"a", 10, day(1)}, {"b", 10, day(5)}, {"c", 10, day(6)}, {"d", 10, day(7)}}
	for _, c := range []struct {
		oldest time.Time
		bytes  int64
		count  int
		want   []string
	}{
		{day(1), 100, 10, nil},
		{day(2), 100, 10, []string{"a"}},
		{day(1), 25, 10, []string{"b", "a"}},
		{day(1), 100, 1, []string{"c", "b", "a"}},
	} {
		if got := expired(slices.Clone(kept), c.oldest, c.bytes, c.count); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestTidySparesWhatIsHeld(t *testing.T) {
	n := newNode(t)
	n.adjust = func(c *Config) { c.LogAge = time.Nanosecond }
	left := filepath.Join(n.dir, "attempts", "9.1-1", "src")
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}
	n.start()
	a := ref(1, 1, 7)
	n.leader.want(job(a))
	n.m.awaitRun(t, a)
	n.r.tidyOnce(t.Context(), time.Now())
	if _, err := os.Stat(filepath.Dir(left)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an old log is kept: %v", err)
	}
	if _, err := os.Stat(n.r.workspace(a)); err != nil {
		t.Errorf("a running attempt's workspace: %v", err)
	}
	n.m.exit(a, passed())
	n.settled()
	n.end()
}

func TestValidate(t *testing.T) {
	n := newNode(t)
	for name, change := range map[string]func(*Config){
		"lease reaches beyond lost": func(c *Config) { c.Lease = 14 * time.Second },
		"lease shorter than beats":  func(c *Config) { c.Lease = 3 * time.Second },
		"no node":                   func(c *Config) { c.Node.ID = "" },
		"no executor":               func(c *Config) { c.Executor = nil },
	} {
		cfg := Config{Dir: n.dir, Node: fsm.Node{ID: "n1"}, Leader: n.leader, Checkout: n.files, Executor: n.m}
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestDetect(t *testing.T) {
	got, err := Detect(t.TempDir())
	if err != nil || got.CPU < 1000 || got.Memory <= 0 || got.Disk <= 0 {
		t.Errorf("detected %+v, %v", got, err)
	}
	if load := Sampler(t.TempDir())(); load.Memory <= 0 || load.Disk <= 0 {
		t.Errorf("load is %+v", load)
	}
	if l := Labels("one", map[string]string{"zone": "a", "os": "fake"}); l["node"] != "one" || l["os"] == "fake" || l["zone"] != "a" {
		t.Errorf("labels are %v", l)
	}
}

func TestNothingStartsUnlessItIsOnTheDisk(t *testing.T) {
	n := newNode(t)
	n.adjust = func(c *Config) { c.Farewell = 50 * time.Millisecond }
	n.start()
	n.leader.await(t, "a hello", func() bool { return len(n.leader.hellos) == 1 })
	n.r.ledger.disk.Lock()
	_ = n.r.ledger.file.f.Close()
	n.r.ledger.disk.Unlock()
	a := ref(1, 1, 7)
	n.leader.want(job(a))
	select {
	case <-n.over:
	case <-time.After(15 * time.Second):
		t.Fatal("the runner goes on without a disk")
	}
	if err := n.stop(); err == nil || !strings.Contains(err.Error(), "write ledger") {
		t.Errorf("run: %v", err)
	}
	if n.m.started[a] != 0 {
		t.Error("started what is not on the disk")
	}
}

func TestPlansAFewAtATime(t *testing.T) {
	n := newNode(t)
	var at, most atomic.Int32
	n.files.ensure = func(ctx context.Context) error {
		most.Store(max(most.Load(), at.Add(1)))
		defer at.Add(-1)
		pause(ctx, 5*time.Millisecond)
		return nil
	}
	n.start()
	var wanted []link.Assignment
	for i := range 12 {
		wanted = append(wanted, link.Assignment{Ref: fsm.AttemptRef{Job: fsm.JobID{Build: fsm.BuildID(i + 1)}, N: 1, Token: fsm.Token{Index: uint64(i + 1)}},
			Work: &link.Work{Kind: fsm.KindPlan, Name: "plan", Commit: commit()}})
	}
	n.leader.want(wanted...)
	for _, a := range wanted {
		n.leader.awaitOutcome(t, a.Ref)
	}
	n.settled()
	n.end()
	if most.Load() > 4 {
		t.Errorf("%d plans at a time", most.Load())
	}
}

func TestHoleTakesNoRoom(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := dirSize(dir); n < 4 {
		t.Errorf("%d bytes", n)
	}
	if err := os.Truncate(path, 11<<30); err != nil {
		t.Fatal(err)
	}
	if n := dirSize(dir); n > 1<<20 {
		t.Errorf("a hole is counted: %d bytes", n)
	}
}
