package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

const manualFile = inBusybox + `
steps:
  - {name: test, command: echo tested}
  - {name: deploy, when: manual, command: echo deployed}
  - {name: after, needs: [deploy], command: echo followed}
  - {name: told, when: on_failure, command: echo told}
  - {name: beside, needs: [test], command: echo "went on"}
`

// TestManualStep has processes wait for a person, and decides by other nodes than the
// one that leads.
func TestManualStep(t *testing.T) {
	t.Parallel()
	l := cluster(t, lab.Options{})
	c, r := anyNode(t, l), repository(t)
	sha := commit(t, r, manualFile)

	j := asks(t, c, trigger(t, c, r, sha).ID)
	awaitLog(t, c, j.ID, "went on\n")
	awaitLog(t, c, j.ID, "step deploy waits for a person: narwhal approve "+j.ID.String()+" --step deploy, or reject")
	other := nodeClient(t, follower(t, l))
	if _, err := other.Approve(deadline(t, patience), j.ID); err == nil || !strings.Contains(err.Error(), "step deploy") {
		t.Errorf("the job itself is approved: %v", err)
	}
	_, err := other.DecideStep(deadline(t, patience), j.ID, 1, "deploy", true)
	must(t, err)
	b := ended(t, c, j.Build)
	wantStatus(t, b, fsm.Passed)
	says(t, c, j.ID, "deployed", "followed")
	if d := job(t, b, "build").Attempts[0].Decisions; len(d) != 1 || !d[0].Approve || len(job(t, b, "build").Waiting) != 0 {
		t.Errorf("decisions are %+v: %s", d, outline(b))
	}
	if _, err := other.DecideStep(deadline(t, patience), j.ID, 1, "deploy", true); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("a step of a job that has ended is approved: %v", err)
	}

	j = asks(t, c, trigger(t, c, r, sha).ID)
	_, err = other.DecideStep(deadline(t, patience), j.ID, 1, "deploy", false)
	must(t, err)
	b = ended(t, c, j.Build)
	wantStatus(t, b, fsm.Failed)
	says(t, c, j.ID, "told")
	if j := job(t, b, "build"); j.Cause != fsm.CauseRejected || !strings.Contains(j.Reason, "step deploy: rejected by") {
		t.Errorf("want it rejected: %s", outline(b))
	}

	j = asks(t, c, trigger(t, c, r, sha).ID)
	_, err = c.CancelBuild(deadline(t, patience), j.Build)
	must(t, err)
	wantStatus(t, ended(t, c, j.Build), fsm.Canceled)
}

// TestManualStepOutlivesNarwhal restarts the node while its container waits.
func TestManualStepOutlivesNarwhal(t *testing.T) {
	t.Parallel()
	// What an engine makes late for a narwhal that was killed is swept half a minute later: leftovers_test.go has that.
	l, _ := dockerCluster(t, lab.Options{Args: []string{"--warm", "0"}})
	c, r := anyNode(t, l), repository(t)
	j := asks(t, c, trigger(t, c, r, commit(t, r, manualFile)).ID)
	at := slices.IndexFunc(l.Nodes, func(n *lab.Node) bool { return n.Name == j.Attempts[0].NodeName })
	n := l.Nodes[at]
	must(t, n.Kill())
	must(t, n.Start(deadline(t, patience)))
	settle(t, l)
	awaitLog(t, c, j.ID, "goes on with the job")
	j = asks(t, c, j.Build)
	if _, err := nodeClient(t, l.Nodes[(at+1)%len(l.Nodes)]).DecideStep(deadline(t, patience), j.ID, 1, "deploy", true); err != nil {
		t.Fatal(err)
	}
	b := ended(t, anyNode(t, l), j.Build)
	wantStatus(t, b, fsm.Passed)
	if n := len(job(t, b, "build").Attempts); n != 1 {
		t.Errorf("%d attempts: %s", n, outline(b))
	}
	says(t, c, j.ID, "deployed", "followed")
}

// asks returns a build's job once it shows that its step deploy waits.
func asks(t *testing.T, c *client.Client, id fsm.BuildID) api.Job {
	t.Helper()
	b := until(t, c, id, "its step waits", func(b api.Build) bool {
		j, ok := find(b, "build")
		return ok && j.Status == fsm.Running && slices.Equal(j.Waiting, []string{"deploy"})
	})
	return job(t, b, "build")
}

// TestRunManualStep: on a laptop there is nobody else to ask. A step that nobody has
// approved is left out, with what depends on it, also for whoever names the job.
func TestRunManualStep(t *testing.T) {
	t.Parallel()
	h := checkoutHere(t, manualFile)
	r := h.run(t, "--executor", "process")
	out, code := r.end(t)
	if code != 0 || strings.Contains(out, "| deployed\n") || strings.Contains(out, "| followed\n") || strings.Contains(out, "| told\n") || !strings.Contains(out, "| went on\n") ||
		!strings.Contains(out, "step deploy is left out: it waits for a person: run it with `narwhal run --approve deploy`") ||
		!strings.Contains(out, "step after is left out: it needs deploy, which waits for a person") ||
		!strings.Contains(r.err.String(), "narwhal: step deploy waits for a person, and is left out: run it with `narwhal run --approve deploy`\n") {
		t.Errorf("exit status %d after\n%s%s", code, out, r.err.String())
	}
	for _, args := range [][]string{{"--approve", "deploy"}, {"build", "--approve", "deploy"}} {
		r := h.run(t, append([]string{"--executor", "process"}, args...)...)
		out, code := r.end(t)
		if code != 0 || !strings.Contains(out, "| deployed\n") || !strings.Contains(out, "| followed\n") || strings.Contains(r.err.String(), "left out") {
			t.Errorf("with %q: exit status %d after\n%s%s", args, code, out, r.err.String())
		}
	}
	r = h.run(t, "--executor", "process", "build")
	if out, code := r.end(t); code != 0 || strings.Contains(out, "| deployed\n") ||
		!strings.Contains(r.err.String(), "narwhal: step deploy waits for a person, and is left out: run it with `narwhal run build --approve deploy`\n") {
		t.Errorf("exit status %d after\n%s%s", code, out, r.err.String())
	}
	r = h.run(t, "--executor", "process", "--approve", "nosuch")
	if out, code := r.end(t); code != 2 || !strings.Contains(r.err.String(), "narwhal: --approve nosuch: nothing of that name waits for a person: what does is deploy") {
		t.Errorf("exit status %d after\n%s%s", code, out, r.err.String())
	}
}

// TestRunManualJob: whoever names a job approves that one, and no other that it needs.
func TestRunManualJob(t *testing.T) {
	t.Parallel()
	h := checkoutHere(t, inBusybox+`
jobs:
  gate: {when: manual, steps: [{command: echo opened}]}
  ship: {needs: [gate], when: manual, steps: [{command: echo shipped}]}
`)
	r := h.run(t, "--executor", "process", "ship")
	if out, code := r.end(t); code != 2 || strings.Contains(out, "| ") ||
		!strings.Contains(r.err.String(), "job ship can't be run: it needs gate: it waits for a person: run it with `narwhal run ship --approve gate`") {
		t.Errorf("exit status %d after\n%s%s", code, out, r.err.String())
	}
	for _, args := range [][]string{{"ship", "--approve", "gate"}, {"--approve", "gate", "--approve", "ship"}} {
		r = h.run(t, append([]string{"--executor", "process"}, args...)...)
		if out, code := r.end(t); code != 0 || !strings.Contains(out, "| opened\n") || !strings.Contains(out, "| shipped\n") {
			t.Errorf("with %q: exit status %d after\n%s%s", args, code, out, r.err.String())
		}
	}
}
