package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
	"github.com/codepr/narwhal/supervise"
)

// quick are the flags of clusters whose nodes are lost: the same everywhere, so
// that a node counts as lost soon, and four jobs of half a CPU fit on each.
var quick = []string{"--suspect-after", "2s", "--lost-after", "6s", "--cpu", "2", "--memory", "2Gi", "--stop-grace", "1s"}

// TestNodesDieUnderLoad crashes the leader, and then all nodes, with builds queued
// and running and more coming in.
func TestNodesDieUnderLoad(t *testing.T) {
	t.Parallel()
	l := cluster(t, lab.Options{Args: quick})
	for _, tt := range []struct {
		name  string
		crash func(t *testing.T) []*lab.Node
	}{
		{"the leader", func(t *testing.T) []*lab.Node { return []*lab.Node{busyLeader(t, l)} }},
		{"all", func(t *testing.T) []*lab.Node { busyLeader(t, l); return l.Nodes }},
	} {
		t.Run(tt.name, func(t *testing.T) { dieUnderLoad(t, l, tt.crash) })
	}
}

func dieUnderLoad(t *testing.T, l *lab.Lab, crash func(*testing.T) []*lab.Node) {
	c, r, ran := anyNode(t, l), repository(t), newLedger(t)
	sha := commit(t, r, ran.file(`
resources: {cpu: 500m, memory: 16Mi}
steps: [{command: "sleep 0.5; echo $NARWHAL_BUILD $NARWHAL_ATTEMPT >> LEDGER"}]
`))
	before := allBuilds(t, c)
	ids := make([]fsm.BuildID, 36)
	first, rest := ids[:24], ids[24:]
	must(t, createAll(deadline(t, patience), c, r, sha, first))

	dead := crash(t)
	for _, n := range dead {
		must(t, n.Crash())
	}
	if len(dead) == len(l.Nodes) {
		for _, n := range dead {
			must(t, n.Launch())
		}
		for _, n := range dead {
			must(t, n.Up(deadline(t, patience)))
		}
	}
	// While the others elect: what is asked for now is taken all the same.
	must(t, createAll(deadline(t, patience), c, r, sha, rest))
	for _, id := range ids {
		b := ended(t, c, id)
		wantStatus(t, b, fsm.Passed)
		checkAttempts(t, b, dead, ran)
	}
	for _, n := range dead {
		if !n.Running() {
			must(t, n.Start(deadline(t, patience)))
		}
	}
	settle(t, l)
	want := slices.Concat(before, slices.Sorted(slices.Values(ids)))
	wantBuilds(t, l, want)
}

// wantBuilds waits until every node knows the same builds: one that follows the log
// is a moment behind.
func wantBuilds(t *testing.T, l *lab.Lab, want []fsm.BuildID) {
	t.Helper()
	for _, n := range l.Nodes {
		c := nodeClient(t, n)
		await(t, "the builds at "+n.Name, func(context.Context) (bool, error) {
			got := allBuilds(t, c)
			return slices.Equal(got, want), fmt.Errorf("it knows %v, want %v", got, want)
		})
	}
}

// createAll starts a build for each of ids, four at a time. Each is sent until it
// is answered.
func createAll(ctx context.Context, c *client.Client, r *lab.Repository, sha string, ids []fsm.BuildID) error {
	senders, ctx := errgroup.WithContext(ctx)
	senders.SetLimit(4)
	for i := range ids {
		senders.Go(func() error {
			b, err := create(ctx, c, r, sha, client.NewKey())
			ids[i] = b.ID
			return err
		})
	}
	return senders.Wait()
}

// busyLeader waits until the leader has jobs and others are queued.
func busyLeader(t *testing.T, l *lab.Lab) *lab.Node {
	t.Helper()
	leads, c := leader(t, l), anyNode(t, l)
	await(t, "jobs on the leader and in the queue", func(ctx context.Context) (bool, error) {
		s, err := c.Status(ctx)
		if err != nil {
			return false, err
		}
		nodes, err := c.Nodes(ctx)
		if err != nil {
			return false, err
		}
		at := slices.IndexFunc(nodes, func(n api.Node) bool { return n.ID == leads.ID })
		return at >= 0 && nodes[at].Jobs >= 2 && s.Jobs.Queued >= 4, fmt.Errorf("%+v, %d queued", nodes, s.Jobs.Queued)
	})
	return leads
}

// allBuilds are the IDs of all builds, the oldest first.
func allBuilds(t *testing.T, c *client.Client) []fsm.BuildID {
	t.Helper()
	page, err := c.Builds(deadline(t, patience), client.Filter{Limit: 200})
	must(t, err)
	var ids []fsm.BuildID
	for _, b := range page.Builds {
		ids = append(ids, b.ID)
	}
	slices.Reverse(ids)
	return ids
}

// checkAttempts holds a build that passed to: one result a job, nothing tried
// again but what was on a node that died, and no step run twice on a node.
func checkAttempts(t *testing.T, b api.Build, dead []*lab.Node, ran ledger) {
	t.Helper()
	died := func(id fsm.NodeID) bool {
		return slices.ContainsFunc(dead, func(n *lab.Node) bool { return n.ID == id })
	}
	for _, j := range b.Jobs {
		for i, a := range j.Attempts {
			last := i == len(j.Attempts)-1
			switch {
			case last && a.Status == fsm.Passed:
			case !last && died(a.Node) && (a.Cause == fsm.CauseNodeLost || a.Status == fsm.Canceled): // canceled: it never began
			default:
				t.Errorf("attempt %d of %s: %s", a.N, j.ID, outline(b))
			}
			runs := ran.count(t, fmt.Sprintf("%d %d", b.ID, a.N))
			if j.Kind == fsm.KindRun && (runs > 1 || last && runs != 1) {
				t.Errorf("the step of attempt %d of %s has run %d times: %s", a.N, j.ID, runs, outline(b))
			}
		}
	}
}

// TestNodeDies takes a node away that runs a job: in the ways that machines and
// processes end.
func TestNodeDies(t *testing.T) {
	t.Parallel()
	l := cluster(t, lab.Options{Args: quick})
	t.Run("the machine, for good", func(t *testing.T) { machineDies(t, l) })
	t.Run("the process, killed and restarted", func(t *testing.T) { processRestarts(t, l, (*lab.Node).Kill) })
	t.Run("the process, stopped and restarted", func(t *testing.T) { processRestarts(t, l, (*lab.Node).Stop) })
	t.Run("two, one after the other", func(t *testing.T) { twoDie(t, l) })
}

// twoDie has a job lose two nodes: it is quarantined, and not tried on a third.
func twoDie(t *testing.T, l *lab.Lab) {
	h := hold(t, l, follower(t, l))
	for attempt := 1; attempt <= 2; attempt++ {
		h.begun(t, attempt)
		b, err := h.client.Build(deadline(t, patience), h.build)
		must(t, err)
		a := job(t, b, "build").Attempts
		at := slices.IndexFunc(l.Nodes, func(n *lab.Node) bool { return n.ID == a[attempt-1].Node })
		must(t, l.Nodes[at].Crash())
		await(t, "the job to be lost", func(ctx context.Context) (bool, error) {
			b, err := h.client.Build(ctx, h.build)
			if err != nil {
				return false, err
			}
			a := job(t, b, "build").Attempts
			return a[attempt-1].Cause == fsm.CauseNodeLost, fmt.Errorf("%s", outline(b))
		})
		must(t, l.Nodes[at].Start(deadline(t, patience)))
		settle(t, l)
	}
	h.release(t)
	b := ended(t, h.client, h.build)
	wantStatus(t, b, fsm.Errored)
	j := job(t, b, "build")
	if j.Cause != fsm.CauseNodeLost || len(j.Attempts) != 2 || !strings.Contains(j.Reason, "quarantined: it has lost 2 nodes") {
		t.Errorf("it ended as %s: %s", outline(b), j.Reason)
	}
	if n := h.ran.count(t, "3 ends"); n != 0 {
		t.Error("it ran on a third node")
	}
}

// held is a build whose step waits for a sign.
type held struct {
	client *client.Client // of all nodes
	build  fsm.BuildID
	ran    ledger // "ATTEMPT begins PID", then "ATTEMPT ends"
	sign   string
}

// hold starts such a build on a node, and returns when its step runs.
func hold(t *testing.T, l *lab.Lab, n *lab.Node) held {
	t.Helper()
	c, r := anyNode(t, l), repository(t)
	h := held{client: c, ran: newLedger(t), sign: filepath.Join(t.TempDir(), "sign")}
	sha := commit(t, r, strings.ReplaceAll(h.ran.file(small+`
steps:
  - command: |
      echo "$NARWHAL_ATTEMPT begins $$" | tee -a LEDGER
      while [ ! -e SIGN ]; do sleep 0.05; done
      echo "$NARWHAL_ATTEMPT ends" | tee -a LEDGER
`), "SIGN", h.sign))
	only(t, l, n, func() {
		h.build = trigger(t, c, r, sha).ID
		h.begun(t, 1)
	})
	return h
}

// begun waits until the step of an attempt runs, and returns its process's ID.
func (h held) begun(t *testing.T, attempt int) (pid int) {
	t.Helper()
	begins := strconv.Itoa(attempt) + " begins "
	await(t, fmt.Sprintf("attempt %d to begin", attempt), func(context.Context) (bool, error) {
		for _, line := range h.ran.lines(t) {
			if number, ok := strings.CutPrefix(line, begins); ok {
				var err error
				pid, err = strconv.Atoi(number)
				return err == nil, err
			}
		}
		return false, fmt.Errorf("its steps have written %q", h.ran.lines(t))
	})
	return pid
}

// release lets the step end.
func (h held) release(t *testing.T) {
	t.Helper()
	must(t, os.WriteFile(h.sign, nil, 0o600))
}

// wantSecondAttempt has the build pass with its second attempt, the first one lost.
func (h held) wantSecondAttempt(t *testing.T, first *lab.Node) api.Build {
	t.Helper()
	b := ended(t, h.client, h.build)
	wantStatus(t, b, fsm.Passed)
	a := job(t, b, "build").Attempts
	if len(a) != 2 || a[0].Node != first.ID || a[0].Cause != fsm.CauseNodeLost || a[1].Status != fsm.Passed {
		t.Errorf("want two attempts, the first one lost on %s: %s", first.ID, outline(b))
	}
	if h.ran.count(t, "1 ends") != 0 || h.ran.count(t, "2 ends") != 1 {
		t.Errorf("the steps have written %q, want attempt 2 alone to have ended", h.ran.lines(t))
	}
	return b
}

// gone reports whether a process has ended, whoever is to reap it.
func gone(t *testing.T, pid int) bool {
	t.Helper()
	all, err := supervise.Processes()
	must(t, err)
	return !slices.ContainsFunc(all, func(p supervise.Proc) bool { return p.Pid == pid })
}

func machineDies(t *testing.T, l *lab.Lab) {
	victim := follower(t, l)
	h := hold(t, l, victim)
	time.Sleep(2 * time.Second) // as far as a copy of the log may be behind
	must(t, victim.Crash())
	h.begun(t, 2)
	h.release(t)
	b := h.wantSecondAttempt(t, victim)
	j := job(t, b, "build")
	if j.Attempts[1].Node == victim.ID {
		t.Errorf("the second attempt ran on the node that died: %s", outline(b))
	}
	if text := logText(t, h.client, j.ID); !strings.Contains(text, "2 ends") {
		t.Errorf("the log of the second attempt is\n%s", text)
	}
	first := func() string {
		var text strings.Builder
		must(t, h.client.ReadLog(deadline(t, patience), j.ID, 1, &text))
		if !strings.Contains(text.String(), "1 begins") {
			t.Errorf("the log of the first attempt is\n%s", text.String())
		}
		return text.String()
	}
	copied := first()
	must(t, victim.Start(deadline(t, patience)))
	settle(t, l)
	if whole := first(); !strings.HasPrefix(whole, copied) {
		t.Errorf("with its node back the log of the first attempt is\n%sand was\n%s", whole, copied)
	}
	h.wantSecondAttempt(t, victim) // its return changes nothing
}

// processRestarts ends the narwhal process alone, and starts it again at once.
// What it ran must not run on beside the second attempt.
func processRestarts(t *testing.T, l *lab.Lab, end func(*lab.Node) error) {
	n := follower(t, l)
	h := hold(t, l, n)
	step := h.begun(t, 1)
	must(t, end(n))
	must(t, n.Start(deadline(t, patience)))
	h.begun(t, 2)
	if !gone(t, step) {
		t.Errorf("process %d of attempt 1 runs beside attempt 2", step)
	}
	h.release(t)
	h.wantSecondAttempt(t, n)
	settle(t, l)
}
