package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// TestLeadershipMoves takes leadership from a node that lives on.
func TestLeadershipMoves(t *testing.T) {
	t.Parallel()
	// Elections that a busy machine causes would look like those that a death does.
	l := cluster(t, lab.Options{Args: slices.Concat(quick, []string{"--heartbeat", patientHeartbeat.String()})})
	t.Run("SIGTERM", func(t *testing.T) { handsOver(t, l) })
	t.Run("SIGSTOP", func(t *testing.T) { deposed(t, l) })
	t.Run("SIGKILL", func(t *testing.T) { succeeded(t, l) })
}

// handsOver ends the leader as an operator would: another leads before its
// process has ended, and a job elsewhere does not notice.
func handsOver(t *testing.T, l *lab.Lab) {
	old, other := leader(t, l), follower(t, l)
	h := hold(t, l, other)
	must(t, old.Stop())
	over := time.Now()
	if err := old.Exit(); err != nil {
		t.Errorf("the leader's process ended with %v", err)
	}
	next := leader(t, l)
	// An election would take its timeout, 500 ms at the least, from then on.
	if at := leads(t, next); at.After(over.Add(250 * time.Millisecond)) {
		t.Errorf("%s leads %s after the end of %s: it was elected, not handed over", next.Name, at.Sub(over), old.Name)
	}
	h.release(t)
	b := ended(t, h.client, h.build)
	wantStatus(t, b, fsm.Passed)
	if a := job(t, b, "build").Attempts; len(a) != 1 {
		t.Errorf("a job on another node took %d attempts: %s", len(a), outline(b))
	}
	must(t, old.Start(deadline(t, patience)))
	settle(t, l)
}

// succeeded kills the leader: another voter sees that its process is gone and stands for
// election without waiting for Raft's timeout, and a job elsewhere does not notice.
func succeeded(t *testing.T, l *lab.Lab) {
	old, other := leader(t, l), follower(t, l)
	h := hold(t, l, other)
	const stands = "the leader's process is gone, standing for election"
	before := 0
	for _, n := range l.Nodes {
		before += strings.Count(n.Log(), stands)
	}
	must(t, old.Kill())
	next := leader(t, l)
	after := 0
	for _, n := range l.Nodes {
		after += strings.Count(n.Log(), stands)
	}
	if after == before { // the second in line stands too where the first is slow
		t.Errorf("nobody saw it, and %s leads: %s", next.Name, next.Log())
	}
	h.release(t)
	b := ended(t, h.client, h.build)
	wantStatus(t, b, fsm.Passed)
	if a := job(t, b, "build").Attempts; len(a) != 1 {
		t.Errorf("a job on another node took %d attempts: %s", len(a), outline(b))
	}
	must(t, old.Start(deadline(t, patience)))
	settle(t, l)
}

// leads is when a node began to lead, the last time, by its log.
func leads(t *testing.T, n *lab.Node) (at time.Time) {
	t.Helper()
	for line := range strings.Lines(n.Log()) {
		if !strings.Contains(line, `msg="this node leads"`) {
			continue
		}
		word, _, _ := strings.Cut(strings.TrimPrefix(line, "time="), " ")
		var err error
		at, err = time.Parse(time.RFC3339Nano, word)
		must(t, err)
	}
	if at.IsZero() {
		t.Fatalf("%s does not say that it leads", n.Name)
	}
	return at
}

// deposed stops the leader's process for so long that another leads and its job
// runs elsewhere, and lets it go on: it believes to lead for a moment, and has a
// result that nobody wants.
func deposed(t *testing.T, l *lab.Lab) {
	old := leader(t, l)
	h := hold(t, l, old)
	must(t, old.Signal(syscall.SIGSTOP))
	others := slices.DeleteFunc(slices.Clone(l.Nodes), func(n *lab.Node) bool { return n == old })
	c := nodeClient(t, others[0])
	h.begun(t, 2)
	r, ran := repository(t), newLedger(t)
	sha := commit(t, r, ran.file(small+"steps: [{command: echo run >> LEDGER}]\n"))
	wantStatus(t, ended(t, c, trigger(t, c, r, sha).ID), fsm.Passed)
	before := allBuilds(t, c)

	// The first step ends too, before its node goes on: both have a result then.
	h.release(t)
	await(t, "both steps to end", func(context.Context) (bool, error) {
		return h.ran.count(t, "1 ends") == 1 && h.ran.count(t, "2 ends") == 1, fmt.Errorf("they have written %q", h.ran.lines(t))
	})
	must(t, old.Signal(syscall.SIGCONT))
	// It is asked at once, while it may not know yet.
	asked := nodeClient(t, old)
	made := trigger(t, asked, r, sha)
	wantStatus(t, ended(t, asked, made.ID), fsm.Passed)
	if n := ran.count(t, "run"); n != 2 {
		t.Errorf("two builds have run their step %d times", n)
	}
	b := ended(t, h.client, h.build)
	wantStatus(t, b, fsm.Passed)
	if a := job(t, b, "build").Attempts; len(a) != 2 || a[0].Cause != fsm.CauseNodeLost || a[0].Node != old.ID || a[1].Node == old.ID || a[1].Status != fsm.Passed {
		t.Errorf("want the second attempt's result to count: %s", outline(b))
	}
	settle(t, l)
	wantBuilds(t, l, append(before, made.ID))
}
