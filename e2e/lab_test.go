package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// patience is how long a test waits for anything at all. It is far above what
// anything takes, since the machine may be busy with other tests.
const patience = 90 * time.Second

// cluster starts nodes, three by default, and ends them with the test. When the
// test has failed their logs are shown.
func cluster(t *testing.T, opts lab.Options) *lab.Lab {
	t.Helper()
	if opts.Binary == "" {
		opts.Binary = binary
	}
	if opts.Dir == "" {
		opts.Dir = filepath.Join(t.TempDir(), "nodes")
	}
	l, err := lab.Start(deadline(t, patience), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			var logs bytes.Buffer
			l.Logs(&logs)
			t.Log(logs.String())
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// deadline is a context that ends after d, or with the test.
func deadline(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// await looks until what is so.
func await(t *testing.T, what string, look func(context.Context) (bool, error)) {
	t.Helper()
	if err := lab.Await(deadline(t, patience), what, look); err != nil {
		t.Fatal(err)
	}
}

// anyNode is a client of all nodes that run now.
func anyNode(t *testing.T, l *lab.Lab) *client.Client {
	t.Helper()
	c, err := l.Client()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// nodeClient is a client of one node.
func nodeClient(t *testing.T, n *lab.Node) *client.Client {
	t.Helper()
	c, err := n.Client()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// leader waits for the cluster to have one that runs.
func leader(t *testing.T, l *lab.Lab) *lab.Node {
	t.Helper()
	var found *lab.Node
	await(t, "a leader", func(ctx context.Context) (bool, error) {
		var err error
		found, err = l.Leader(ctx)
		return err == nil, err
	})
	return found
}

// follower is a node that runs and does not lead.
func follower(t *testing.T, l *lab.Lab) *lab.Node {
	t.Helper()
	leads := leader(t, l)
	for _, n := range l.Nodes {
		if n != leads && n.Running() {
			return n
		}
	}
	t.Fatal("no follower runs")
	return nil
}

// settle waits until the cluster has all voters and nodes that it should have.
func settle(t *testing.T, l *lab.Lab) {
	t.Helper()
	if err := l.Settle(deadline(t, patience)); err != nil {
		t.Fatal(err)
	}
}

// must ends the test with an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var notInNames = regexp.MustCompile("[^a-z0-9]+")

// repository makes a git repository; its name is that of the test.
func repository(t *testing.T) *lab.Repository {
	t.Helper()
	name := "e2e/" + notInNames.ReplaceAllString(strings.ToLower(t.Name()), "-")
	r, err := lab.NewRepository(filepath.Join(t.TempDir(), "repository"), name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// small asks for so little that many jobs fit on a node.
const small = "resources: {cpu: 50m, memory: 16Mi}\n"

// commit commits a narwhal.yml and returns the SHA.
func commit(t *testing.T, r *lab.Repository, file string) string {
	t.Helper()
	sha, err := r.Commit("commit of "+t.Name(), map[string]string{"narwhal.yml": file})
	if err != nil {
		t.Fatal(err)
	}
	return sha
}

// trigger has c build a commit.
func trigger(t *testing.T, c *client.Client, r *lab.Repository, sha string) api.Build {
	t.Helper()
	b, err := create(deadline(t, patience), c, r, sha, client.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func create(ctx context.Context, c *client.Client, r *lab.Repository, sha, key string) (api.Build, error) {
	return c.CreateBuild(ctx, api.NewBuild{Repo: r.Name, CloneURL: r.URL(), SHA: sha, Ref: "refs/heads/main"}, key)
}

// ended waits for a build to end.
func ended(t *testing.T, c *client.Client, id fsm.BuildID) api.Build {
	t.Helper()
	var last api.Build
	if err := c.FollowBuild(deadline(t, patience), id, func(b api.Build) error { last = b; return nil }); err != nil {
		t.Fatalf("follow build %d: %v", id, err)
	}
	return last
}

// errSeen ends the following of a build.
var errSeen = errors.New("seen")

// until follows a build until it stands as wanted; that it ends before is a failure.
func until(t *testing.T, c *client.Client, id fsm.BuildID, what string, seen func(api.Build) bool) api.Build {
	t.Helper()
	var last api.Build
	err := c.FollowBuild(deadline(t, patience), id, func(b api.Build) error {
		last = b
		if seen(b) {
			return errSeen
		}
		return nil
	})
	if !errors.Is(err, errSeen) {
		t.Fatalf("build %d, before %s: %v; it is %s (%s)", id, what, err, last.Status, last.Reason)
	}
	return last
}

// running waits until a build's job of that name runs, and returns it.
func running(t *testing.T, c *client.Client, id fsm.BuildID, name string) api.Job {
	t.Helper()
	b := until(t, c, id, "job "+name+" runs", func(b api.Build) bool {
		j, ok := find(b, name)
		return ok && j.Status == fsm.Running
	})
	j, _ := find(b, name)
	return j
}

// find is a build's job of that name.
func find(b api.Build, name string) (api.Job, bool) {
	for _, j := range b.Jobs {
		if j.Name == name {
			return j, true
		}
	}
	return api.Job{}, false
}

// job is find for a job that must be there.
func job(t *testing.T, b api.Build, name string) api.Job {
	t.Helper()
	j, ok := find(b, name)
	if !ok {
		t.Fatalf("build %d has no job %s: %s", b.ID, name, outline(b))
	}
	return j
}

// wantStatus fails the test unless a build has ended so.
func wantStatus(t *testing.T, b api.Build, want fsm.Status) {
	t.Helper()
	if b.Status != want {
		t.Fatalf("build %d is %s, want %s: %s", b.ID, b.Status, want, outline(b))
	}
}

// outline is a build in a few lines, for a failure.
func outline(b api.Build) string {
	var s strings.Builder
	fmt.Fprintf(&s, "build %d %s (%s) %s", b.ID, b.Status, b.Cause, b.Reason)
	for _, j := range b.Jobs {
		fmt.Fprintf(&s, "\n  %s %s %s (%s) %s", j.ID, j.Name, j.Status, j.Cause, j.Reason)
		for _, a := range j.Attempts {
			fmt.Fprintf(&s, "\n    attempt %d on %s %s (%s) %s", a.N, a.Node, a.Status, a.Cause, a.Reason)
		}
	}
	return s.String()
}

// logText is what there is of a job's log.
func logText(t *testing.T, c *client.Client, id fsm.JobID) string {
	t.Helper()
	var text bytes.Buffer
	if err := c.ReadLog(deadline(t, patience), id, 0, &text); err != nil {
		t.Fatalf("read log of %s: %v", id, err)
	}
	return text.String()
}

// ledger is a file outside of the cluster that steps append lines to: what has
// really been run. In a shell it is `>> LEDGER`.
type ledger string

// file is a narwhal.yml with the ledger's path for the word LEDGER.
func (l ledger) file(text string) string { return strings.ReplaceAll(text, "LEDGER", string(l)) }

func newLedger(t *testing.T) ledger {
	t.Helper()
	return ledger(filepath.Join(t.TempDir(), "ledger"))
}

// lines are what steps have written so far.
func (l ledger) lines(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile(string(l))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimRight(string(data), "\n"), "\n")
}

// count is how often a line is there.
func (l ledger) count(t *testing.T, line string) int {
	t.Helper()
	n := 0
	for _, have := range l.lines(t) {
		if have == line {
			n++
		}
	}
	return n
}

// only runs do while no node but n gets new jobs.
func only(t *testing.T, l *lab.Lab, n *lab.Node, do func()) {
	t.Helper()
	c := anyNode(t, l)
	var drained []fsm.NodeID
	for _, other := range l.Nodes {
		if other != n && other.Running() {
			_, err := c.Drain(deadline(t, patience), string(other.ID))
			must(t, err)
			drained = append(drained, other.ID)
		}
	}
	do()
	for _, id := range drained {
		_, err := c.Resume(deadline(t, patience), string(id))
		must(t, err)
	}
}
