package e2e

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// TestBuild builds files of all kinds on one cluster.
func TestBuild(t *testing.T) {
	t.Parallel()
	l := cluster(t, lab.Options{Args: []string{"--stop-grace", "1s"}})
	for name, test := range map[string]func(*testing.T, *lab.Lab){
		"several jobs":      severalJobs,
		"environment":       environment,
		"a step fails":      stepFails,
		"timeout":           timeout,
		"broken file":       brokenFile,
		"large files":       largeFiles,
		"no file":           noFile,
		"YAML bomb":         yamlBomb,
		"no checkout":       cloneSkip,
		"cancel":            cancelRunning,
		"cancel what waits": cancelQueued,
		"retry":             retry,
		"one key":           oneKey,
		"logs":              logs,
		"why":               why,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, l)
		})
	}
}

func severalJobs(t *testing.T, l *lab.Lab) {
	c, r, ran := anyNode(t, l), repository(t), newLedger(t)
	b := ended(t, c, trigger(t, c, r, commit(t, r, ran.file(small+`
name: several
jobs:
  publish:
    needs: [test, lint]
    steps: [{command: echo publish >> LEDGER}]
  test:
    needs: [compile]
    steps:
      - {name: first, command: echo test-1 >> LEDGER}
      - {name: second, command: [echo test-2 >> LEDGER, echo test-3 >> LEDGER]}
  compile:
    steps: [{command: "sleep 0.2; echo compile >> LEDGER"}]
  lint:
    steps: [{command: echo lint >> LEDGER}]
`))).ID)
	wantStatus(t, b, fsm.Passed)
	lines := ran.lines(t)
	at := func(line string) int { return slices.Index(lines, line) }
	for _, order := range [][2]string{{"compile", "test-1"}, {"test-1", "test-2"}, {"test-2", "test-3"}, {"test-3", "publish"}, {"lint", "publish"}} {
		if at(order[0]) < 0 || at(order[0]) > at(order[1]) {
			t.Errorf("%s ran after %s, or not at all: %q", order[0], order[1], lines)
		}
	}
	if len(lines) != 6 {
		t.Errorf("steps have written %q, want each line once", lines)
	}
	if steps := job(t, b, "test").Attempts[0].Steps; len(steps) != 2 || steps[0].Name != "first" || steps[1].Status != fsm.Passed {
		t.Errorf("job test tells of the steps %+v", steps)
	}
}

// largeFiles builds a matrix of 256 jobs, all of which are skipped to be quick, beside
// scripts of 250 KB; and is told what can't be built.
func largeFiles(t *testing.T, l *lab.Lab) {
	c, r, ran := anyNode(t, l), repository(t), newLedger(t)
	var script strings.Builder
	for i := range 8000 {
		if i%2000 == 0 {
			script.WriteString("      - command: |\n")
		}
		fmt.Fprintf(&script, "          : this is line %d of a script\n", i)
	}
	b := ended(t, c, trigger(t, c, r, commit(t, r, ran.file(small+`
jobs:
  square:
    when: {branch: none}
    matrix:
      a: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
      b: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
    steps:
`+strings.Repeat("      - {command: 'go test -race -count=1 ./...', env: {LEVEL: debug, TARGET: \"/a/b/c\"}}\n", 12)+`
  script:
    steps:
`+script.String()+`
      - command: echo done >> LEDGER
`))).ID)
	wantStatus(t, b, fsm.Passed)
	if ran.count(t, "done") != 1 || len(b.Jobs) != 1+240+1 {
		t.Errorf("the script ran %d times; %d jobs", ran.count(t, "done"), len(b.Jobs))
	}
	rng, raw, noise := rand.NewChaCha8([32]byte{}), make([]byte, 60<<10), ""
	for range 5 {
		_, _ = rng.Read(raw)
		noise += "{command: " + hex.EncodeToString(raw) + "}, "
	}
	b = ended(t, c, trigger(t, c, r, commit(t, r, "jobs: {noise: {steps: ["+noise+"]}}\n")).ID)
	wantStatus(t, b, fsm.Errored)
	if !strings.Contains(b.Reason, "narwhal.yml:1:8: packed for the cluster's log the jobs have") {
		t.Errorf("of what can't be packed it says %q", b.Reason)
	}
}

func environment(t *testing.T, l *lab.Lab) {
	c, r, ran := anyNode(t, l), repository(t), newLedger(t)
	sha := commit(t, r, ran.file(small+`
env: {A: top, B: top, C: top}
jobs:
  job:
    env: {B: job, C: job}
    steps:
      - env: {C: step}
        command: |
          echo "$A $B $C" >> LEDGER
          echo "$CI $NARWHAL_COMMIT $NARWHAL_BRANCH $NARWHAL_JOB_NAME $NARWHAL_ATTEMPT $NARWHAL_BUILD" >> LEDGER
          echo "$NARWHAL_NODE" >> LEDGER
          git rev-parse HEAD >> LEDGER
          echo "token: ${NARWHAL_TOKEN:-none}" >> LEDGER
`))
	b := ended(t, c, trigger(t, c, r, sha).ID)
	wantStatus(t, b, fsm.Passed)
	want := []string{
		"top job step",
		fmt.Sprintf("true %s main job 1 %d", sha, b.ID),
		job(t, b, "job").Attempts[0].NodeName,
		sha,
		"token: none",
	}
	if got := ran.lines(t); !slices.Equal(got, want) {
		t.Errorf("the step saw\n%q, want\n%q", got, want)
	}
}

func stepFails(t *testing.T, l *lab.Lab) {
	c, r, ran := anyNode(t, l), repository(t), newLedger(t)
	b := ended(t, c, trigger(t, c, r, commit(t, r, ran.file(small+`
jobs:
  breaks:
    steps:
      - {name: fine, command: echo fine >> LEDGER}
      - {name: bad, command: "echo bad >> LEDGER; exit 7; echo never >> LEDGER"}
      - {name: later, command: echo later >> LEDGER}
  after:
    needs: [breaks]
    steps: [{command: echo after >> LEDGER}]
`))).ID)
	wantStatus(t, b, fsm.Failed)
	j := job(t, b, "breaks")
	if b.Cause != fsm.CauseFailure || j.Status != fsm.Failed || len(j.Attempts) != 1 || j.Attempts[0].ExitCode != 7 || !strings.Contains(b.Reason, "bad") {
		t.Errorf("want one attempt that failed with exit status 7 in step bad: %s", outline(b))
	}
	if after := job(t, b, "after"); after.Status != fsm.Canceled || after.Cause != fsm.CauseNeeds || len(after.Attempts) != 0 {
		t.Errorf("job after is %s (%s), want it canceled for its needs", after.Status, after.Cause)
	}
	if got := ran.lines(t); !slices.Equal(got, []string{"fine", "bad"}) {
		t.Errorf("steps have written %q", got)
	}
}

func timeout(t *testing.T, l *lab.Lab) {
	c, r := anyNode(t, l), repository(t)
	b := ended(t, c, trigger(t, c, r, commit(t, r, small+`
jobs:
  job: {timeout: 1s, steps: [{command: sleep 600}]}
  step: {steps: [{name: slow, timeout: 1s, command: sleep 600}, {command: "true"}]}
`)).ID)
	wantStatus(t, b, fsm.Failed)
	for _, name := range []string{"job", "step"} {
		j := job(t, b, name)
		if j.Status != fsm.Failed || j.Cause != fsm.CauseTimeout || len(j.Attempts) != 1 {
			t.Errorf("job %s: want one attempt that ran out of time: %s", name, outline(b))
		}
		if took := j.EndedAt.Sub(j.StartedAt).Seconds(); took < 1 || took > 30 {
			t.Errorf("job %s took %.1f s for a timeout of 1 s", name, took)
		}
	}
}

func brokenFile(t *testing.T, l *lab.Lab) {
	c, r := anyNode(t, l), repository(t)
	b := ended(t, c, trigger(t, c, r, commit(t, r, `name: broken
imagee: alpine
jobs:
  test:
    needs: [biuld]
    timeout: 20
    steps:
      - command: make
  build:
    resources: {cpu: lots}
    steps: []
`)).ID)
	wantStatus(t, b, fsm.Errored)
	if b.Cause != fsm.CauseConfig {
		t.Errorf("the cause is %s, want %s", b.Cause, fsm.CauseConfig)
	}
	for _, want := range []string{
		`narwhal.yml:2:1: unknown key "imagee": did you mean "image"?`,
		`narwhal.yml:5:13: needs: there is no job "biuld": did you mean "build"?`,
		`narwhal.yml:6:14: timeout: "20"`,
		`narwhal.yml:10:22: resources.cpu: "lots"`,
		`narwhal.yml:11:12: steps`,
	} {
		if !strings.Contains(b.Reason, want) {
			t.Errorf("the reason lacks %s", want)
		}
	}
	if lines := strings.Count(b.Reason, "\n") + 1; lines != 5 || t.Failed() {
		t.Errorf("want five errors, the reason is\n%s", b.Reason)
	}
}

func noFile(t *testing.T, l *lab.Lab) {
	c, r := anyNode(t, l), repository(t)
	sha, err := r.Commit("nothing to build", map[string]string{"README": "Nothing.\n"})
	must(t, err)
	b := ended(t, c, trigger(t, c, r, sha).ID)
	wantStatus(t, b, fsm.Errored)
	if b.Cause != fsm.CauseConfig || !strings.Contains(b.Reason, "narwhal.yml") || !strings.Contains(b.Reason, sha) {
		t.Errorf("the reason is (%s) %s, want it to name the file and the commit", b.Cause, b.Reason)
	}
}

// yamlBomb has files refused whose anchors multiply, to a million times what they
// hold, and files that are too large as they stand.
func yamlBomb(t *testing.T, l *lab.Lab) {
	c, r := anyNode(t, l), repository(t)
	before := pids(l)
	var bomb strings.Builder
	bomb.WriteString("x-0: &x0 [" + strings.Repeat("lol, ", 9) + "lol]\n")
	for i := range 9 {
		fmt.Fprintf(&bomb, "x-%d: &x%d [%s*x%d]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*x%d, ", i), 9), i)
	}
	bomb.WriteString("steps: [{command: \"true\"}]\n")
	fill := func(size int) string { // comments up to a size
		return bomb.String() + strings.Repeat("# "+strings.Repeat("x", 61)+"\n", (size-bomb.Len())/64)
	}
	for _, tt := range []struct{ name, file, reason string }{
		{"small", bomb.String(), "with its aliases written out the file has more than"},
		{"of nearly 1 MiB", fill(1 << 20), "with its aliases written out the file has more than"},
		{"of 2 MiB", fill(2 << 20), "1 MiB"},
		{"deep", "x-a: " + strings.Repeat("[", 1<<20-10), "narwhal.yml:1:"},
	} {
		b := ended(t, c, trigger(t, c, r, commit(t, r, tt.file)).ID)
		wantStatus(t, b, fsm.Errored)
		if b.Cause != fsm.CauseConfig || !strings.Contains(b.Reason, tt.reason) {
			t.Errorf("%s: refused (%s) for %.200s, want the reason %q", tt.name, b.Cause, b.Reason, tt.reason)
		}
		if len(b.Reason) > 4<<10 {
			t.Errorf("%s: the reason has %d bytes", tt.name, len(b.Reason))
		}
	}
	if after := pids(l); !slices.Equal(before, after) {
		t.Errorf("the nodes' processes were %v and are %v", before, after)
	}
	b := ended(t, c, trigger(t, c, r, commit(t, r, small+"steps: [{command: \"true\"}]\n")).ID)
	wantStatus(t, b, fsm.Passed)
}

func pids(l *lab.Lab) []int {
	var out []int
	for _, n := range l.Nodes {
		out = append(out, n.PID())
	}
	return out
}

func cloneSkip(t *testing.T, l *lab.Lab) {
	c, r, ran := anyNode(t, l), repository(t), newLedger(t)
	b := ended(t, c, trigger(t, c, r, commit(t, r, ran.file(small+`
clone: {skip: true}
steps: [{command: "echo files: $(ls -A) >> LEDGER"}]
`))).ID)
	wantStatus(t, b, fsm.Passed)
	if got := ran.lines(t); !slices.Equal(got, []string{"files:"}) {
		t.Errorf("the workspace holds %q, want nothing", got)
	}
}

// cancelRunning cancels two jobs: one ends itself at TERM, the other doesn't and
// has to be killed.
func cancelRunning(t *testing.T, l *lab.Lab) {
	c, r, ran := anyNode(t, l), repository(t), newLedger(t)
	made := trigger(t, c, r, commit(t, r, ran.file(small+`
jobs:
  polite:
    steps:
      - command: |
          trap 'echo polite-term >> LEDGER; exit 0' TERM
          echo polite $$ >> LEDGER
          while :; do sleep 0.05; done
      - command: echo later >> LEDGER
  deaf:
    steps:
      - command: |
          trap 'echo deaf-term >> LEDGER' TERM
          echo deaf $$ >> LEDGER
          while :; do sleep 0.05 || true; done
  waits:
    needs: [deaf]
    steps: [{command: echo waits >> LEDGER}]
`)))
	await(t, "both steps to run", func(context.Context) (bool, error) {
		return len(ran.lines(t)) == 2, fmt.Errorf("they have written %q", ran.lines(t))
	})
	_, err := c.CancelBuild(deadline(t, patience), made.ID)
	must(t, err)
	b := ended(t, c, made.ID)
	wantStatus(t, b, fsm.Canceled)
	for _, name := range []string{"polite", "deaf", "waits"} {
		if j := job(t, b, name); j.Status != fsm.Canceled || j.Cause != fsm.CauseCanceled {
			t.Errorf("job %s is %s (%s): %s", name, j.Status, j.Cause, outline(b))
		}
	}
	if ran.count(t, "polite-term") != 1 || ran.count(t, "deaf-term") != 1 || ran.count(t, "later") != 0 || ran.count(t, "waits") != 0 {
		t.Errorf("steps have written %q, want one TERM for each and nothing later", ran.lines(t))
	}
	for _, line := range ran.lines(t) {
		name, number, ok := strings.Cut(line, " ")
		if pid, err := strconv.Atoi(number); ok && (err != nil || !gone(t, pid)) {
			t.Errorf("step %s, process %s, is still there after its job has ended", name, number)
		}
	}
	if _, err := c.CancelBuild(deadline(t, patience), made.ID); err == nil {
		t.Error("a build that has ended could be canceled once more")
	}
}

func cancelQueued(t *testing.T, l *lab.Lab) {
	c, r := anyNode(t, l), repository(t)
	made := trigger(t, c, r, commit(t, r, small+"labels: {planet: mars}\nsteps: [{command: \"true\"}]\n"))
	until(t, c, made.ID, "its job is queued", func(b api.Build) bool { return len(b.Jobs) == 2 })
	_, err := c.CancelBuild(deadline(t, patience), made.ID)
	must(t, err)
	b := ended(t, c, made.ID)
	wantStatus(t, b, fsm.Canceled)
	if b.CanceledBy == "" {
		t.Error("the build does not say who canceled it")
	}
}

func retry(t *testing.T, l *lab.Lab) {
	c, r, ran := anyNode(t, l), repository(t), newLedger(t)
	first := ended(t, c, trigger(t, c, r, commit(t, r, ran.file(small+`
steps: [{command: "echo run >> LEDGER; test $(wc -l < LEDGER) -gt 1"}]
`))).ID)
	wantStatus(t, first, fsm.Failed)
	key := client.NewKey()
	again, err := c.RetryBuild(deadline(t, patience), first.ID, key)
	must(t, err)
	b := ended(t, c, again.ID)
	wantStatus(t, b, fsm.Passed)
	if b.ID == first.ID || b.RetryOf != first.ID || b.SHA != first.SHA {
		t.Errorf("build %d is a retry of %d, want a new one of %d", b.ID, b.RetryOf, first.ID)
	}
	once, err := c.RetryBuild(deadline(t, patience), first.ID, key)
	must(t, err)
	if once.ID != b.ID || len(ran.lines(t)) != 2 {
		t.Errorf("the same key made build %d beside %d; the step has run %d times", once.ID, b.ID, len(ran.lines(t)))
	}
}

// oneKey sends one build many times at a time, to all nodes.
func oneKey(t *testing.T, l *lab.Lab) {
	r, ran := repository(t), newLedger(t)
	sha := commit(t, r, ran.file(small+"steps: [{command: echo run >> LEDGER}]\n"))
	key, ids := client.NewKey(), make([]fsm.BuildID, 12)
	senders, ctx := errgroup.WithContext(deadline(t, patience))
	clients := make([]*client.Client, len(ids)) // each reads what it has made
	for i := range ids {
		c := nodeClient(t, l.Nodes[i%len(l.Nodes)])
		clients[i] = c
		senders.Go(func() error {
			b, err := create(ctx, c, r, sha, key)
			ids[i] = b.ID
			return err
		})
	}
	must(t, senders.Wait())
	if distinct := slices.Compact(slices.Sorted(slices.Values(ids))); len(distinct) != 1 {
		t.Errorf("one key made the builds %v", distinct)
	}
	wantStatus(t, ended(t, clients[0], ids[0]), fsm.Passed)
	if n := ran.count(t, "run"); n != 1 {
		t.Errorf("the step has run %d times", n)
	}
	other := trigger(t, clients[0], r, sha)
	if other.ID == ids[0] {
		t.Error("another key made no build of its own")
	}
	wantStatus(t, ended(t, clients[0], other.ID), fsm.Passed)
}
