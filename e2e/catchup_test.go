package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// logged waits until any node's log has a text so often.
func logged(t *testing.T, l *lab.Lab, text string, times int) {
	t.Helper()
	await(t, "a node to say: "+text, func(context.Context) (bool, error) {
		n := 0
		for _, node := range l.Nodes {
			n += strings.Count(node.Log(), text)
		}
		return n >= times, fmt.Errorf("said %d times", n)
	})
}

const (
	remoteKnown  = "branches and tags are known from here on"
	remotesAsked = "remotes were asked for what was pushed while nobody listened"
)

// TestPushedWhileAllWereDown kills all nodes, pushes, and starts them again: what was
// pushed is built once, also when another leader looks, and its webhook comes after all.
func TestPushedWhileAllWereDown(t *testing.T) {
	t.Parallel()
	f := newForge(t)
	l := webhooked(t, f)
	ran := newLedger(t)
	file := ran.file(small + "schedule: [{cron: 0 3 1 1 *, branch: gone}]\nsteps: [{command: echo $NARWHAL_REPO $NARWHAL_REF $NARWHAL_COMMIT >> LEDGER}]\n")
	r, still := f.repository(t, "acme/api"), f.repository(t, "acme/still")
	git := func(args ...string) string {
		t.Helper()
		out, err := r.Git(args...)
		must(t, err)
		return out
	}
	told := func(r *lab.Repository, branch, sha, id string) answer {
		t.Helper()
		body := pushOf(t, r.Name, f.url+"/"+r.Name+".git", branch, sha)
		a, err := send(deadline(t, patience), anotherThan(l, nil), "/hooks/github", body, delivery(id, secret, body))
		if err != nil || a.code != http.StatusAccepted {
			t.Fatalf("a webhook is answered %+v, %v", a, err)
		}
		wantStatus(t, ended(t, anyNode(t, l), a.Build), fsm.Passed)
		return a
	}
	first := commit(t, r, file)
	git("branch", "untouched")
	git("branch", "gone")
	told(r, "main", first, "d1")
	told(r, "gone", first, "d2")
	told(still, "main", commit(t, still, file), "d3")
	logged(t, l, remoteKnown, 2)
	if got := scheduled(t, leader(t, l), r.Name); got != "gone" {
		t.Fatalf("schedules of %q", got)
	}

	for _, n := range l.Nodes {
		must(t, n.Kill())
	}
	commit(t, r, file+"# one\n")
	last := commit(t, r, file+"# two\n")
	git("checkout", "--quiet", "-b", "feature")
	feature := commit(t, r, file+"# three\n")
	git("tag", "-a", "-m", "a tag", "v1", last)
	git("branch", "-D", "gone")
	before := 3
	for _, n := range l.Nodes {
		must(t, n.Launch())
	}
	for _, n := range l.Nodes {
		must(t, n.Up(deadline(t, patience)))
	}
	settle(t, l)

	c := anyNode(t, l)
	await(t, "what was pushed to be built", func(ctx context.Context) (bool, error) {
		builds := allBuilds(t, c)
		return len(builds) >= before+3, fmt.Errorf("the builds are %v", builds)
	})
	want := map[string]string{"refs/heads/main": last, "refs/heads/feature": feature, "refs/tags/v1": last}
	got := make(map[string]string)
	for _, id := range allBuilds(t, c)[before:] {
		b := ended(t, c, id)
		wantStatus(t, b, fsm.Passed)
		got[b.Ref] = b.SHA
		wantMissed(t, b, r)
	}
	if !maps.Equal(got, want) {
		t.Errorf("built are %v, want %v", got, want)
	}
	await(t, "the schedules of the branch that is gone to go", func(context.Context) (bool, error) {
		left := scheduled(t, leader(t, l), r.Name)
		return left == "", errors.New(left)
	})

	// The webhooks, by a forge that sends again; and another leader, that looks again.
	if a := told(r, "main", last, "d4"); !a.Known {
		t.Errorf("a webhook of what was missed is answered %+v", a)
	}
	asked := 0
	for _, n := range l.Nodes {
		asked += strings.Count(n.Log(), remotesAsked)
	}
	must(t, leader(t, l).Kill())
	logged(t, l, remotesAsked, asked+1)
	if builds := allBuilds(t, anyNode(t, l)); len(builds) != before+3 {
		t.Errorf("the builds are %v", builds)
	}
	lines := ran.lines(t)
	slices.Sort(lines)
	if once := slices.Compact(slices.Clone(lines)); len(once) != len(lines) || len(lines) != before+3 {
		t.Errorf("steps have written %q", lines)
	}
}

// wantMissed looks at what a build of a missed push says of its commit.
func wantMissed(t *testing.T, b api.Build, r *lab.Repository) {
	t.Helper()
	if b.Repo != r.Name || b.RetryOf != 0 || b.Event != fsm.EventPush && b.Event != fsm.EventTag {
		t.Errorf("build %d is %+v", b.ID, b)
	}
	if b.Author != "lab" || b.Message != "commit of "+t.Name() {
		t.Errorf("build %d is said to be %q by %q", b.ID, b.Message, b.Author)
	}
}

// TestWitnessLooks has a node lead that runs no jobs, and so no git: another one asks.
func TestWitnessLooks(t *testing.T) {
	t.Parallel()
	f := newForge(t)
	l := webhooked(t, f)
	r := f.repository(t, "acme/api")
	file := small + "steps: [{command: 'true'}]\n"
	sha := commit(t, r, file)
	body := f.push(t, r, sha)
	a, err := send(deadline(t, patience), l.Nodes[0], "/hooks/github", body, delivery("d1", secret, body))
	must(t, err)
	wantStatus(t, ended(t, anyNode(t, l), a.Build), fsm.Passed)
	for _, n := range l.Nodes { // of three voters two are witnesses from here on
		must(t, n.Kill())
		if n != l.Nodes[0] {
			n.Args = []string{"--voter-only"}
		}
	}
	missed := commit(t, r, file+"# missed\n")
	for _, n := range l.Nodes {
		must(t, n.Launch())
	}
	for _, n := range l.Nodes {
		must(t, n.Up(deadline(t, patience)))
	}
	for leader(t, l) == l.Nodes[0] { // which asked by itself; now it is another's turn
		must(t, l.Nodes[0].Kill())
		leader(t, l)
		must(t, l.Nodes[0].Start(deadline(t, patience)))
	}
	var b api.Build
	await(t, "what was pushed to be built", func(ctx context.Context) (bool, error) {
		ids := allBuilds(t, anyNode(t, l))
		if len(ids) < 2 {
			return false, fmt.Errorf("the builds are %v", ids)
		}
		b = ended(t, anyNode(t, l), ids[len(ids)-1])
		return true, nil
	})
	wantStatus(t, b, fsm.Passed)
	if b.SHA != missed {
		t.Errorf("built is %+v", b)
	}
	await(t, "a witness to have it asked", func(context.Context) (bool, error) {
		for _, n := range l.Nodes[1:] {
			if strings.Contains(n.Log(), remotesAsked+`" part=heads remotes=1 not_answered=0`) {
				return true, nil
			}
		}
		return false, errors.New("none has")
	})
}
