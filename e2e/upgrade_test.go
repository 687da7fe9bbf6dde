package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

var commitPattern = regexp.MustCompile(`(?m)^[0-9a-f]{40}$`)

// previous is the binary of the commit in testdata/previous.txt, and its version. It is
// built once a machine.
func previous(t *testing.T) (path, version string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "previous.txt"))
	must(t, err)
	sha := string(commitPattern.Find(text))
	if sha == "" {
		t.Fatal("testdata/previous.txt names no commit")
	}
	version = "previous-" + sha[:12]
	cache, err := os.UserCacheDir()
	must(t, err)
	dir := filepath.Join(cache, "narwhal", "previous")
	path = filepath.Join(dir, version)
	if _, err := os.Stat(path); err == nil {
		return path, version
	}
	must(t, os.MkdirAll(dir, 0o700))
	tree := t.TempDir()
	ctx := deadline(t, 5*patience)
	sh := func(in io.Reader, name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir, cmd.Stdin, cmd.Env = tree, in, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
		}
	}
	here, err := os.Getwd()
	must(t, err)
	archive := filepath.Join(tree, "tree.tar")
	out, err := exec.CommandContext(ctx, "git", "-C", filepath.Dir(here), "archive", "-o", archive, sha).CombinedOutput()
	if err != nil {
		t.Fatalf("commit %s is wanted, from which this one is upgraded, and a clone that is not shallow has it: git archive: %v: %s", sha, err, out)
	}
	sh(nil, "tar", "-xf", archive)
	built := filepath.Join(tree, "narwhal.built")
	sh(nil, "go", "build", "-ldflags", "-X main.version="+version, "-o", built, "./cmd/narwhal")
	copyFile(t, path, built) // whole or not at all: others may look for it too
	return path, version
}

// ticks is a file of one job on a node that prints a line again and again until it is
// told to stop, and then how many there were.
func ticks(n *lab.Node) string {
	return inBusybox + "labels: {node: " + n.Name + `}
steps:
  - command: 'i=0; while test ! -e go; do echo line $i; i=$((i+1)); sleep 0.2; done; echo total $i'
  - command: echo second
`
}

var totalPattern = regexp.MustCompile(`(?m)^total (\d+)$`)

// TestRollingUpgrade replaces the binary of the last release by this one, node by node,
// while a job runs on each and others come: all end as they would have, at their first
// attempt and with whole logs, and all nodes have the same state.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	old, version := previous(t)
	l, e := dockerCluster(t, lab.Options{Binary: old, Args: []string{"--cpu", "2", "--memory", "1Gi"}})
	c, r := anyNode(t, l), repository(t)
	quickly := commit(t, r, inBusybox+"steps: [{command: echo quickly}]\n")
	var long []api.Build
	for _, n := range l.Nodes {
		b := trigger(t, c, r, commit(t, r, ticks(n)))
		running(t, c, b.ID, "build")
		long = append(long, b)
	}
	// The leader is the second: one of the new version may lead one of the old.
	leads := leader(t, l)
	order := slices.DeleteFunc(slices.Clone(l.Nodes), func(n *lab.Node) bool { return n == leads })
	order = slices.Insert(order, 1, leads)
	var between []api.Build
	for i, n := range order {
		must(t, n.Stop())
		n.Binary = binary
		// One comes while it is away.
		between = append(between, trigger(t, anyNode(t, l), r, quickly))
		must(t, n.Start(deadline(t, patience)))
		settle(t, l)
		awaitVersions(t, l, version, len(order)-1-i)
		// The old leader may answer in the place of a node that has just come up.
		await(t, "status to say that versions are mixed, or are no more", func(context.Context) (bool, error) {
			out, stderr, code := cli(t, nil, "status", "--addr", n.API, "--data-dir", n.Dir)
			mixed := strings.Contains(out, "finish the upgrade")
			return code == 0 && mixed == (i < len(order)-1), fmt.Errorf("after %d of %d nodes it exits %d: %s\n%s", i+1, len(order), code, stderr, out)
		})
		if last := order[len(order)-1]; i == len(order)-2 && leader(t, l) == last {
			must(t, last.Stop()) // one of the new version is to lead it
			must(t, last.Start(deadline(t, patience)))
			settle(t, l)
		}
		at := nodeClient(t, n)
		b := trigger(t, at, r, quickly)
		wantStatus(t, ended(t, at, b.ID), fsm.Passed)
		awaitStateVersion(t, n, i == len(order)-1)
		between = append(between, b)
	}
	c = anyNode(t, l)
	for _, b := range long {
		j := running(t, c, b.ID, "build")
		put(t, e.container(t, j.ID), "go")
	}
	for _, b := range slices.Concat(long, between) {
		b = ended(t, c, b.ID)
		wantStatus(t, b, fsm.Passed)
		for _, j := range b.Jobs { // the plan too
			if len(j.Attempts) != 1 {
				t.Errorf("job %s was run %d times: %s", j.ID, len(j.Attempts), outline(b))
			}
		}
	}
	for _, b := range long {
		id := fsm.JobID{Build: b.ID, Seq: 1}
		if made := e.created(t, id); made != 1 {
			t.Errorf("the engine has made %d containers for job %s", made, id)
		}
		for _, n := range l.Nodes {
			text := logText(t, nodeClient(t, n), id)
			total := totalPattern.FindStringSubmatch(text)
			if total == nil {
				t.Errorf("%s shows the log of %s without its end:\n%s", n.Name, id, text)
				continue
			}
			if lines, err := strconv.Atoi(total[1]); err != nil || !counts(text, lines) || !strings.Contains(text, "second") {
				t.Errorf("%s shows the log of %s with a gap, or a line twice:\n%s", n.Name, id, text)
			}
		}
	}
	sameState(t, l)
}

// awaitVersions waits until that many nodes run the old version as `narwhal nodes` shows
// it, and the others this one.
func awaitVersions(t *testing.T, l *lab.Lab, version string, old int) {
	t.Helper()
	n := l.Nodes[0]
	await(t, "the nodes' versions", func(ctx context.Context) (bool, error) {
		out, stderr, code := cli(t, nil, "nodes", "--addr", n.API, "--data-dir", n.Dir)
		if code != 0 {
			return false, errors.New(stderr)
		}
		return strings.Count(out, version) == old, fmt.Errorf("want %d of %s:\n%s", old, version, out)
	})
}

// awaitStateVersion waits until a node's state is that of its version, where all nodes
// have it; or looks that what the old version can't apply is held back.
func awaitStateVersion(t *testing.T, n *lab.Node, all bool) {
	t.Helper()
	await(t, "what is new to begin", func(ctx context.Context) (bool, error) {
		_, data, err := stateOf(ctx, n)
		if err != nil {
			return false, err
		}
		s, err := fsm.Restore(bytes.NewReader(data))
		if err != nil {
			return false, err
		}
		if !all && s.Version() > 1 {
			t.Fatalf("the state has version %d, which the old nodes can't apply", s.Version())
		}
		return !all || s.Version() == fsm.StateVersion, fmt.Errorf("the state has version %d", s.Version())
	})
}

// sameState waits until all nodes that run have the same entries, and compares what has
// become of these.
func sameState(t *testing.T, l *lab.Lab) {
	t.Helper()
	await(t, "all nodes to have the same entries", func(ctx context.Context) (bool, error) {
		hashes := make(map[string][]string) // by index
		for _, n := range l.Nodes {
			index, state, err := stateOf(ctx, n)
			if err != nil {
				return false, err
			}
			hashes[index] = append(hashes[index], fmt.Sprintf("%x", sha256.Sum256(state)))
		}
		if len(hashes) > 1 {
			return false, fmt.Errorf("they are at %v", hashes)
		}
		for index, of := range hashes {
			for _, hash := range of {
				if hash != of[0] {
					t.Fatalf("the states at index %s differ: %v", index, of)
				}
			}
		}
		return true, nil
	})
}

// stateOf is a node's own state, however old, and its index.
func stateOf(ctx context.Context, n *lab.Node) (index string, state []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.API+"/api/v1/snapshot", nil)
	if err != nil {
		return "", nil, err
	}
	req.Header.Set("Authorization", "Bearer "+n.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return "", nil, fmt.Errorf("%s answers %s", n.Name, resp.Status)
	}
	state, err = io.ReadAll(resp.Body)
	return resp.Header.Get(api.HeaderIndex), state, err
}
