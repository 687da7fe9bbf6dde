package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// TestJoin has nodes come to a cluster that they may join, and to one that they
// may not.
func TestJoin(t *testing.T) {
	t.Parallel()
	ours := cluster(t, lab.Options{Nodes: 1, Args: quick})
	theirs := cluster(t, lab.Options{Nodes: 1, Args: quick})
	t.Run("a wrong token", func(t *testing.T) { wrongToken(t, ours) })
	t.Run("another cluster's token", func(t *testing.T) { othersToken(t, ours, theirs) })
	t.Run("another cluster's data directory", func(t *testing.T) { othersDirectory(t, ours, theirs) })
	t.Run("two clusters", func(t *testing.T) { twoClusters(t, ours, theirs) })
}

// unharmed has a cluster of one node build, and know no other node.
func unharmed(t *testing.T, l *lab.Lab) {
	t.Helper()
	settle(t, l) // it may have been restarted a moment ago
	n := l.Nodes[0]
	c := nodeClient(t, n)
	nodes, err := c.Nodes(deadline(t, patience))
	must(t, err)
	if len(nodes) != 1 || nodes[0].ID != n.ID || !nodes[0].Leader {
		t.Errorf("the cluster of %s knows the nodes %+v", n.ID, nodes)
	}
	nodesOf(t, c, 2)
}

// refused starts a node that has to end by itself, leaving nothing that a later
// start would take for a membership.
func refused(t *testing.T, l *lab.Lab, status int, why string, args ...string) {
	t.Helper()
	n := l.Spare(args...)
	must(t, n.Launch())
	wantExit(t, n, status, why)
	if _, err := os.Stat(filepath.Join(n.Dir, "node.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a node that was refused has left the files of a member: %v", err)
	}
}

func wrongToken(t *testing.T, l *lab.Lab) {
	n := l.Nodes[0]
	data, err := os.ReadFile(n.JoinToken())
	must(t, err)
	good := strings.TrimSpace(string(data))
	refused(t, l, 1, "token", "--join", n.Cluster(), "--token", "NWL1-nonsense")
	refused(t, l, 1, "token", "--join", n.Cluster())
	// The cluster's own, but for one letter of the secret.
	last := good[len(good)-2]
	other := byte('a')
	if last == other {
		other = 'b'
	}
	refused(t, l, 1, "token", "--join", n.Cluster(), "--token", good[:len(good)-2]+string(other)+good[len(good)-1:])
	unharmed(t, l)
}

func othersToken(t *testing.T, ours, theirs *lab.Lab) {
	refused(t, ours, 78, "another cluster", "--join", ours.Nodes[0].Cluster(), "--token-file", theirs.Nodes[0].JoinToken())
	unharmed(t, ours)
	unharmed(t, theirs)
}

// othersDirectory restarts a node with its data directory, told to join another
// cluster, with that one's token.
func othersDirectory(t *testing.T, ours, theirs *lab.Lab) {
	n := theirs.Nodes[0]
	must(t, n.Stop())
	n.Args = []string{"--join", ours.Nodes[0].Cluster(), "--token-file", ours.Nodes[0].JoinToken()}
	must(t, n.Launch())
	wantExit(t, n, 78, "another cluster")
	n.Args = nil
	must(t, n.Start(deadline(t, patience)))
	unharmed(t, ours)
	unharmed(t, theirs)
}

// twoClusters restarts the nodes of both, each told to join the other: one after
// the other, then at the same time. Who finds the other up is refused.
func twoClusters(t *testing.T, ours, theirs *lab.Lab) {
	pair := []*lab.Node{ours.Nodes[0], theirs.Nodes[0]}
	for i, n := range pair {
		must(t, n.Stop())
		n.Args = []string{"--join", pair[1-i].Cluster()}
		must(t, n.Launch())
		wantExit(t, n, 78, "another cluster")
		n.Args = nil
		must(t, n.Start(deadline(t, patience)))
	}
	said := strings.Count(pair[0].Log()+pair[1].Log(), "another cluster")
	for i, n := range pair {
		must(t, n.Stop())
		n.Args = []string{"--join", pair[1-i].Cluster()}
	}
	for _, n := range pair {
		must(t, n.Launch())
	}
	await(t, "one of the two to refuse the other", func(context.Context) (bool, error) {
		logs := pair[0].Log() + pair[1].Log()
		return strings.Count(logs, "another cluster") > said, fmt.Errorf("they said\n%s", logs)
	})
	for _, n := range pair {
		n.Args = nil
		must(t, n.Stop())
		must(t, n.Start(deadline(t, patience)))
	}
	unharmed(t, ours)
	unharmed(t, theirs)
}

// TestAddressesChange gives nodes other addresses: one, then all at a time. A
// fourth node joins, and gets jobs.
func TestAddressesChange(t *testing.T) {
	t.Parallel()
	l := cluster(t, lab.Options{Args: quick})
	t.Run("of a node", func(t *testing.T) {
		n := follower(t, l)
		must(t, n.Stop())
		must(t, n.Move("127.0.0.42"))
		must(t, n.Start(deadline(t, patience)))
		wantMoved(t, l, n)
	})
	t.Run("of all nodes", func(t *testing.T) {
		for _, n := range l.Nodes {
			must(t, n.Stop())
		}
		for i, n := range l.Nodes {
			must(t, n.Move(fmt.Sprintf("127.0.0.%d", 51+i)))
		}
		for _, n := range l.Nodes {
			must(t, n.Launch())
		}
		for _, n := range l.Nodes {
			must(t, n.Up(deadline(t, patience)))
		}
		wantMoved(t, l, l.Nodes...)
	})
	t.Run("a fourth node", func(t *testing.T) {
		n, err := l.Add(deadline(t, patience), "--label", "planet=mars")
		must(t, err)
		settle(t, l)
		c, r := nodeClient(t, n), repository(t)
		b := ended(t, c, trigger(t, c, r, commit(t, r, small+"labels: {planet: mars}\nsteps: [{command: \"true\"}]\n")).ID)
		wantStatus(t, b, fsm.Passed)
		if j := job(t, b, "build"); j.Node != n.ID {
			t.Errorf("a job that only %s can run ran on %s", n.ID, j.Node)
		}
		only(t, l, n, func() {
			if ran := nodesOf(t, c, 2); !slices.Equal(ran, []fsm.NodeID{n.ID}) {
				t.Errorf("jobs ran on %v, want %s alone", ran, n.ID)
			}
		})
	})
}

// wantMoved has the cluster know nodes by their new addresses, and each of them run
// a job.
func wantMoved(t *testing.T, l *lab.Lab, moved ...*lab.Node) {
	t.Helper()
	settle(t, l)
	for _, n := range moved {
		for _, asked := range l.Nodes {
			c := nodeClient(t, asked)
			await(t, asked.Name+" to know the address of "+n.Name, func(ctx context.Context) (bool, error) {
				nodes, err := c.Nodes(ctx)
				ok := slices.ContainsFunc(nodes, func(seen api.Node) bool {
					return seen.ID == n.ID && seen.Addr == n.Cluster() && strings.HasPrefix(seen.APIAddr, n.Host+":") && seen.Alive
				})
				return ok, errors.Join(err, fmt.Errorf("nodes %+v, want %s at %s", nodes, n.ID, n.Cluster()))
			})
		}
		only(t, l, n, func() {
			if ran := nodesOf(t, anyNode(t, l), 1); !slices.Equal(ran, []fsm.NodeID{n.ID}) {
				t.Errorf("jobs ran on %v, want %s alone", ran, n.ID)
			}
		})
	}
	if nodes, err := anyNode(t, l).Nodes(deadline(t, patience)); err != nil || len(nodes) != len(l.Nodes) {
		t.Errorf("the cluster has %d nodes (%v), want %d", len(nodes), err, len(l.Nodes))
	}
}
