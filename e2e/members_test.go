package e2e

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// TestNodesGoOnPurpose drains a node and takes it back, and has nodes leave until
// one is left.
func TestNodesGoOnPurpose(t *testing.T) {
	t.Parallel()
	l := cluster(t, lab.Options{Args: quick})
	t.Run("drain", func(t *testing.T) { drain(t, l) })
	t.Run("deadline", func(t *testing.T) { drainWithin(t, l) })
	t.Run("leave", func(t *testing.T) { leave(t, l) })
}

// nodesOf builds a commit n times, and returns the nodes that ran its jobs.
func nodesOf(t *testing.T, c *client.Client, n int) []fsm.NodeID {
	t.Helper()
	r := repository(t)
	sha := commit(t, r, small+"steps: [{command: \"true\"}]\n")
	ids := make([]fsm.BuildID, n)
	must(t, createAll(deadline(t, patience), c, r, sha, ids))
	var nodes []fsm.NodeID
	for _, id := range ids {
		b := ended(t, c, id)
		wantStatus(t, b, fsm.Passed)
		for _, j := range b.Jobs {
			nodes = append(nodes, j.Node)
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(nodes)))
}

func drain(t *testing.T, l *lab.Lab) {
	n, c := follower(t, l), anyNode(t, l)
	h := hold(t, l, n)
	seen, err := c.Drain(deadline(t, patience), n.Name)
	must(t, err)
	if !seen.Drained || seen.Jobs != 1 {
		t.Errorf("the drained node: %+v, want it with one job", seen)
	}
	if ran := nodesOf(t, c, 9); slices.Contains(ran, n.ID) {
		t.Errorf("a drained node, %s, got jobs", n.ID)
	}
	h.release(t)
	b := ended(t, c, h.build)
	wantStatus(t, b, fsm.Passed)
	if a := job(t, b, "build").Attempts; len(a) != 1 || a[0].Node != n.ID {
		t.Errorf("what ran on the drained node did not run on: %s", outline(b))
	}
	seen, err = c.Resume(deadline(t, patience), n.Name)
	must(t, err)
	if seen.Drained {
		t.Errorf("the node that was taken back: %+v", seen)
	}
	only(t, l, n, func() {
		if ran := nodesOf(t, c, 1); !slices.Equal(ran, []fsm.NodeID{n.ID}) {
			t.Errorf("jobs ran on %v, want the node that was taken back, %s", ran, n.ID)
		}
	})
}

// drainWithin gives a node a deadline and kills the leader before it: under the next one
// the job that the node runs is stopped there, runs on another, and its build passes.
func drainWithin(t *testing.T, l *lab.Lab) {
	n, led := follower(t, l), leader(t, l)
	r, c := repository(t), nodeClient(t, n)
	once := newLedger(t)
	sha := commit(t, r, small+once.file("steps: [{command: 'echo ran >> LEDGER; [ $(wc -l < LEDGER) -gt 1 ] || sleep 600'}]\n"))
	var b api.Build
	only(t, l, n, func() {
		b = trigger(t, c, r, sha)
		await(t, "the job to run", func(context.Context) (bool, error) { return once.count(t, "ran") == 1, nil })
	})
	seen, err := c.DrainWithin(deadline(t, patience), n.Name, 3*time.Second)
	must(t, err)
	if !seen.Drained || time.Until(seen.DrainUntil) > 3*time.Second || seen.Jobs != 1 {
		t.Errorf("the drained node: %+v", seen)
	}
	must(t, led.Kill())
	b = ended(t, c, b.ID)
	wantStatus(t, b, fsm.Passed)
	a := job(t, b, "build").Attempts
	if len(a) != 2 || a[0].Node != n.ID || a[0].Status != fsm.Canceled || !strings.Contains(a[0].Reason, "was to be empty by") || a[1].Node == n.ID {
		t.Errorf("the attempts: %s", outline(b))
	}
	if got := once.count(t, "ran"); got != 2 {
		t.Errorf("the step ran %d times", got)
	}
	_, err = c.Resume(deadline(t, patience), n.Name)
	must(t, err)
	must(t, led.Start(deadline(t, patience)))
	settle(t, l)
}

// leave takes a follower out, then the leader.
func leave(t *testing.T, l *lab.Lab) {
	for _, pick := range []func(*testing.T, *lab.Lab) *lab.Node{follower, leader} {
		n := pick(t, l)
		began := time.Now()
		left, err := nodeClient(t, n).Leave(deadline(t, patience))
		must(t, err)
		t.Logf("%s left in %s", n.Name, time.Since(began).Round(time.Millisecond))
		if !left.Left || left.Node != n.ID {
			t.Errorf("the node that left answers %+v", left)
		}
		if err := n.Await(deadline(t, patience)); err != nil {
			t.Errorf("the process of the node that left ended with %v", err)
		}
		settle(t, l)
		c := anyNode(t, l)
		await(t, "the node to be forgotten", func(ctx context.Context) (bool, error) {
			nodes, err := c.Nodes(ctx)
			known := slices.ContainsFunc(nodes, func(seen api.Node) bool { return seen.ID == n.ID && (seen.Alive || seen.Role != "none") })
			return err == nil && !known, errors.Join(err, fmt.Errorf("nodes %+v", nodes))
		})
		if ran := nodesOf(t, c, 4); slices.Contains(ran, n.ID) {
			t.Errorf("%s got jobs after it left", n.Name)
		}
		must(t, n.Launch())
		wantExit(t, n, 78, "left its cluster")
	}
	last := l.Nodes[slices.IndexFunc(l.Nodes, (*lab.Node).Running)]
	var p *api.Problem
	if _, err := nodeClient(t, last).Leave(deadline(t, patience)); !errors.As(err, &p) || p.Status != 409 {
		t.Errorf("the last node was told to leave, and answered %v", err)
	}
	nodesOf(t, nodeClient(t, last), 1)
}

// wantExit has a node's process end with a status, and its log say why.
func wantExit(t *testing.T, n *lab.Node, status int, why string) {
	t.Helper()
	err := n.Await(deadline(t, patience))
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != status {
		t.Errorf("%s ended with %v, want exit status %d; its log:\n%s", n.Name, err, status, n.Log())
	}
	if !strings.Contains(n.Log(), why) {
		t.Errorf("%s does not say %q; its log:\n%s", n.Name, why, n.Log())
	}
}

// TestWitness has two nodes and a witness go on when one of the two dies.
func TestWitness(t *testing.T) {
	t.Parallel()
	l := cluster(t, lab.Options{Nodes: 2, Args: quick})
	witness, err := l.Add(deadline(t, patience), "--voter-only")
	must(t, err)
	settle(t, l) // with three voters
	for round := range 2 {
		c := anyNode(t, l)
		if ran := nodesOf(t, c, 6); slices.Contains(ran, witness.ID) {
			t.Errorf("round %d: the witness ran jobs", round)
		}
		if round == 0 {
			victim := l.Nodes[0]
			must(t, victim.Crash())
			leader(t, l)
		}
	}
	// It serves the API like any other node, the logs of the others included.
	c := nodeClient(t, witness)
	page, err := c.Builds(deadline(t, patience), client.Filter{Limit: 1})
	must(t, err)
	if text := logText(t, c, fsm.JobID{Build: page.Builds[0].ID, Seq: 1}); !strings.Contains(text, "attempt") {
		t.Errorf("the witness shows the log %q", text)
	}
	must(t, l.Nodes[0].Start(deadline(t, patience)))
	settle(t, l)
}
