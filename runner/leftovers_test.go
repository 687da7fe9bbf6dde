package runner

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
)

// litter puts into an attempt's folder all that there can be.
func litter(t *testing.T, n *node, r fsm.AttemptRef) (dir string) {
	t.Helper()
	dir = filepath.Join(n.dir, "attempts", r.Job.String()+"-1")
	for _, sub := range []string{"src/.git", "in", "out", "sock"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"log", "journal", "spec.json", "caches.json", "src/.git/HEAD", "in/a.tar.zst"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func namesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestStartClearsFolders finds folders of attempts that nobody knows, that have ended
// before their result was acknowledged, and that live: all but the last are cleared,
// with no leader there.
func TestStartClearsFolders(t *testing.T) {
	n := newNode(t)
	n.adjust = func(c *Config) { c.LeaveRunning = true }
	n.start()
	dead, done, lives := ref(1, 1, 7), ref(2, 1, 8), ref(3, 1, 9)
	n.leader.update(func() { n.leader.deaf = true })
	n.leader.want(job(done), job(lives))
	n.m.awaitRun(t, lives)
	n.m.awaitRun(t, done)
	n.m.exit(done, passed())
	n.leader.awaitOutcome(t, done)
	n.end()
	folders := map[fsm.AttemptRef]string{}
	for _, r := range []fsm.AttemptRef{dead, done, lives} {
		folders[r] = litter(t, n, r)
	}
	n.leader.update(func() { n.leader.away = true })
	n.start()
	for _, r := range []fsm.AttemptRef{dead, done} {
		n.leader.await(t, "the folder of "+r.String()+" to be cleared", func() bool {
			return slices.Equal(namesIn(t, folders[r]), []string{"journal", "log"})
		})
	}
	if got := namesIn(t, folders[lives]); len(got) != 8 {
		t.Errorf("of the folder of an attempt that lives is left %v", got)
	}
	n.end()
}

// TestSweepNeedsNoLeader: what is in no ledger is nobody's, whoever leads.
func TestSweepNeedsNoLeader(t *testing.T) {
	n := newNode(t)
	n.leader.away = true
	orphan := ref(9, 1, 3)
	n.m.runs[orphan] = &fakeRun{m: n.m, task: executor.Task{Ref: orphan}, ended: make(chan struct{})}
	n.start()
	n.m.await(t, "the orphan to be swept", func() bool { return slices.Equal(n.m.swept, []fsm.AttemptRef{orphan}) })
	n.end()
}

// TestSweepWhatComesLate: an engine goes on making what a killed narwhal had asked for.
func TestSweepWhatComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.start()
		synctest.Wait()
		time.Sleep(5 * time.Second)
		orphan := ref(9, 1, 3)
		n.m.update(func() {
			n.m.runs[orphan] = &fakeRun{m: n.m, task: executor.Task{Ref: orphan}, ended: make(chan struct{})}
		})
		time.Sleep(40 * time.Second)
		synctest.Wait()
		n.m.look(func() {
			if !slices.Equal(n.m.swept, []fsm.AttemptRef{orphan}) {
				t.Errorf("swept: %v", n.m.swept)
			}
		})
		n.end()
	})
}

// TestSweepAfterLosingSight has the executor fail under an attempt: what it may have
// left is looked for at once.
func TestSweepAfterLosingSight(t *testing.T) {
	n := newNode(t)
	n.start()
	a, orphan := ref(1, 1, 7), ref(9, 1, 3)
	n.leader.want(job(a))
	n.m.awaitRun(t, a)
	n.m.update(func() {
		n.m.runs[orphan] = &fakeRun{m: n.m, task: executor.Task{Ref: orphan}, ended: make(chan struct{})}
	})
	n.m.exit(a, fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseNodeLost, Message: "lost sight of it"})
	n.m.await(t, "the orphan to be swept", func() bool { return slices.Equal(n.m.swept, []fsm.AttemptRef{orphan}) })
	n.settled()
	n.end()
}

func TestBorrowed(t *testing.T) {
	n := newNode(t)
	n.start()
	if got := n.r.Borrowed(); len(got) != 0 {
		t.Errorf("with nothing alive: %v", got)
	}
	a := ref(1, 1, 7)
	n.leader.want(job(a))
	n.m.awaitRun(t, a)
	if got := n.r.Borrowed(); !slices.Equal(got, []string{"/objects"}) {
		t.Errorf("with an attempt alive: %v", got)
	}
	n.m.exit(a, passed())
	n.settled()
	if got := n.r.Borrowed(); len(got) != 0 {
		t.Errorf("after its end: %v", got)
	}
	n.end()
}
