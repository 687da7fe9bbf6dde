package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// TestLanguage drives each field of narwhal.yml from the file to the container and
// back, on a cluster.
func TestLanguage(t *testing.T) {
	t.Parallel()
	l, e := dockerCluster(t, lab.Options{Args: []string{"--stop-grace", "1s", "--cpu", "4"}})
	for name, test := range map[string]func(*testing.T, *lab.Lab, engine){
		"matrix and inputs":      matrixAndInputs,
		"services":               services,
		"steps side by side":     stepsSideBySide,
		"a step's own image":     stepImage,
		"when":                   conditions,
		"changed paths":          changedPaths,
		"retry":                  retries,
		"timeouts":               stepTimeout,
		"allow_failure":          allowFailure,
		"manual":                 manual,
		"concurrency":            concurrency,
		"cancel in progress":     cancelInProgress,
		"secrets":                secrets,
		"secrets and forks":      forkSecrets,
		"artifacts and reports":  artifactsAndReports,
		"cache":                  cacheOverNodes,
		"cache of pull requests": cacheScopes,
		"schedule":               schedule,
		"bad input":              badInput,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, l, e)
		})
	}
}

// build builds a file and returns the build at its end.
func build(t *testing.T, c *client.Client, file string) api.Build {
	t.Helper()
	r := repository(t)
	return ended(t, c, trigger(t, c, r, commit(t, r, file)).ID)
}

// says fails the test unless a job's log has these lines, in this order.
func says(t *testing.T, c *client.Client, id fsm.JobID, want ...string) {
	t.Helper()
	text := logText(t, c, id)
	rest := "\n" + text
	for _, line := range want {
		_, after, ok := strings.Cut(rest, "\n"+line+"\n")
		if !ok {
			t.Fatalf("no line %q, at its place, in the log of %s:\n%s", line, id, text)
		}
		rest = "\n" + after
	}
}

func matrixAndInputs(t *testing.T, l *lab.Lab, _ engine) {
	c, r := anyNode(t, l), repository(t)
	sha := commit(t, r, inBusybox+`
inputs:
  level: {type: choice, options: [info, debug], default: info}
  count: {type: number, required: true}
jobs:
  test:
    matrix:
      go: ["1.25", "1.26"]
      db: [a, b]
      exclude: [{go: "1.25", db: b}]
      include: [{go: tip, db: a}]
    env: {VERSION: "go ${matrix.go}"}
    steps: [{command: 'echo "$VERSION with ${matrix.db}, $MATRIX_GO, ${inputs.level} ${inputs.count}"'}]
  after:
    needs: [test]
    steps: [{command: echo after}]
`)
	made, err := c.CreateBuild(deadline(t, patience), api.NewBuild{
		Repo: r.Name, CloneURL: r.URL(), SHA: sha, Ref: "refs/heads/main",
		Inputs: map[string]string{"level": "debug", "count": "3; echo $(id)"},
	}, client.NewKey())
	must(t, err)
	bad := ended(t, c, made.ID)
	wantStatus(t, bad, fsm.Errored)
	if bad.Cause != fsm.CauseConfig || !strings.Contains(bad.Reason, "count") {
		t.Errorf("a number that is none: %s", outline(bad))
	}
	made, err = c.CreateBuild(deadline(t, patience), api.NewBuild{
		Repo: r.Name, CloneURL: r.URL(), SHA: sha, Ref: "refs/heads/main", Inputs: map[string]string{"level": "debug", "count": "3"},
	}, client.NewKey())
	must(t, err)
	b := ended(t, c, made.ID)
	wantStatus(t, b, fsm.Passed)
	for name, line := range map[string]string{
		"test (1.25, a)": "go 1.25 with a, 1.25, debug 3", "test (1.26, a)": "go 1.26 with a, 1.26, debug 3",
		"test (1.26, b)": "go 1.26 with b, 1.26, debug 3", "test (tip, a)": "go tip with a, tip, debug 3",
	} {
		says(t, c, job(t, b, name).ID, line)
	}
	if len(b.Jobs) != 6 || len(job(t, b, "after").Needs) != 4 {
		t.Errorf("want a plan, four of the matrix and one that needs them: %s", outline(b))
	}
}

func services(t *testing.T, l *lab.Lab, e engine) {
	c := anyNode(t, l)
	b := build(t, c, inBusybox+`
services:
  - name: web
    image: `+busyboxImage+`
    env: {WORD: served}
    command: [sh, -c, 'mkdir /www; echo "$WORD" > /www/index.html; sleep 1; exec httpd -f -p 8080 -h /www']
    ready: {port: 8080, timeout: 60s}
  - name: side
    image: `+busyboxImage+`
    command: 'sleep 1; touch /tmp/up; exec sleep 600'
    ready: {command: [test, -e, /tmp/up], timeout: 60s}
steps:
  - command: |
      ip=$(nslookup web 127.0.0.11 | awk '/^Address/ {a=$NF} END {print a}')
      printf 'GET / HTTP/1.0\r\n\r\n' | nc "$ip" 8080 | tail -n 1
`)
	wantStatus(t, b, fsm.Passed)
	j := job(t, b, "build")
	says(t, c, j.ID, "served")
	if left := e.containers(t, j.ID); len(left) != 0 {
		t.Errorf("%d containers are left", len(left))
	}
	bad := build(t, c, inBusybox+"services: [{name: web, image: "+busyboxImage+", command: [sh, -c, 'echo no luck; exit 3'], ready: {port: 8080, timeout: 30s}}]\nsteps: [{command: echo never}]\n")
	if j := job(t, bad, "build"); bad.Status == fsm.Passed || !strings.Contains(j.Reason, "web") {
		t.Errorf("a service that ends: %s", outline(bad))
	}
}

func stepsSideBySide(t *testing.T, l *lab.Lab, _ engine) {
	c := anyNode(t, l)
	b := build(t, c, inBusybox+`
steps:
  - {name: first, command: mkfifo a b}
  - {name: left, needs: [first], command: 'echo left > a; cat b'}
  - {name: right, needs: [first], command: 'cat a; echo right > b'}
  - {name: last, command: echo last}
`)
	wantStatus(t, b, fsm.Passed) // one after the other they would wait for ever
	j := job(t, b, "build")
	says(t, c, j.ID, "left", "last")
	says(t, c, j.ID, "right", "last")
}

func stepImage(t *testing.T, l *lab.Lab, e engine) {
	c := anyNode(t, l)
	b := build(t, c, "image: "+busyboxImage+`
resources: {cpu: 500m, memory: 128Mi}
steps:
  - {name: here, command: 'echo from busybox > file; test ! -e /etc/debian_version'}
  - {name: there, image: `+debianImage+`, command: 'cat file; cat /etc/debian_version | cut -d. -f1; echo from debian > file2'}
  - {name: back, command: cat file2}
`)
	wantStatus(t, b, fsm.Passed)
	j := job(t, b, "build")
	says(t, c, j.ID, "from busybox", "12", "from debian")
	if left := e.containers(t, j.ID); len(left) != 0 {
		t.Errorf("%d containers are left", len(left))
	}
}

func conditions(t *testing.T, l *lab.Lab, _ engine) {
	c := anyNode(t, l)
	b := build(t, c, inBusybox+`
jobs:
  main: {when: {branch: main}, steps: [{command: echo main}]}
  tags: {when: {event: tag}, steps: [{command: echo tags}]}
  either: {when: [{event: tag}, {branch: "m*"}], steps: [{command: echo either}]}
  breaks:
    steps:
      - {name: bad, command: exit 1}
      - {name: skipped, command: echo skipped}
      - {name: told, when: on_failure, command: echo told}
      - {name: always, when: always, command: echo always}
  rescue: {needs: [breaks], when: on_failure, steps: [{command: echo rescue}]}
  whatever: {needs: [breaks], when: always, steps: [{command: echo whatever}]}
  depends: {needs: [breaks], steps: [{command: echo never}]}
  follows: {needs: [tags], steps: [{command: echo never}]}
`)
	wantStatus(t, b, fsm.Failed)
	for name, want := range map[string]fsm.Status{
		"main": fsm.Passed, "tags": fsm.Skipped, "either": fsm.Passed, "breaks": fsm.Failed, "rescue": fsm.Passed,
		"whatever": fsm.Passed, "depends": fsm.Canceled, "follows": fsm.Skipped,
	} {
		if j := job(t, b, name); j.Status != want {
			t.Errorf("%s is %s, want %s", name, j.Status, want)
		}
	}
	j := job(t, b, "breaks")
	says(t, c, j.ID, "told", "always")
	var got []string
	for _, s := range j.Attempts[0].Steps {
		got = append(got, string(s.Status))
	}
	if strings.Join(got, " ") != "failed skipped passed passed" {
		t.Errorf("steps are %v", got)
	}
}

func changedPaths(t *testing.T, l *lab.Lab, _ engine) {
	c, r := anyNode(t, l), repository(t)
	const file = inBusybox + `
jobs:
  web: {when: {path: "web/**"}, steps: [{command: echo web}]}
  docs: {when: {path: ["docs/*.md", README]}, steps: [{command: echo docs}]}
`
	before := commit(t, r, file)
	after, err := r.Commit("web", map[string]string{"web/app/x.js": "1"})
	must(t, err)
	made, err := c.CreateBuild(deadline(t, patience), api.NewBuild{Repo: r.Name, CloneURL: r.URL(), SHA: after, Ref: "refs/heads/main", Before: before}, client.NewKey())
	must(t, err)
	b := ended(t, c, made.ID)
	wantStatus(t, b, fsm.Passed)
	if job(t, b, "web").Status != fsm.Passed || job(t, b, "docs").Status != fsm.Skipped {
		t.Errorf("want web, and docs left out: %s", outline(b))
	}
	all := ended(t, c, trigger(t, c, r, after).ID)
	if job(t, all, "docs").Status != fsm.Passed {
		t.Errorf("where it is not known what has changed all is built: %s", outline(all))
	}
}

func retries(t *testing.T, l *lab.Lab, _ engine) {
	c := anyNode(t, l)
	b := build(t, c, inBusybox+`
jobs:
  again:
    retry: {max: 2, when: [failure], exit_codes: [75]}
    steps: [{command: 'test "$NARWHAL_ATTEMPT" = 3 || exit 75'}]
  once:
    retry: {max: 2, when: [failure], exit_codes: [75]}
    steps: [{command: exit 1}]
  step:
    steps:
      - {name: flaky, retry: 3, command: 'echo x >> n; test $(wc -l < n) = 3'}
`)
	wantStatus(t, b, fsm.Failed)
	if j := job(t, b, "again"); j.Status != fsm.Passed || len(j.Attempts) != 3 {
		t.Errorf("again: %s", outline(b))
	}
	if j := job(t, b, "once"); j.Status != fsm.Failed || len(j.Attempts) != 1 {
		t.Errorf("once: %s", outline(b))
	}
	if j := job(t, b, "step"); j.Status != fsm.Passed || len(j.Attempts) != 1 || j.Attempts[0].Steps[0].Tries != 3 {
		t.Errorf("step: %s", outline(b))
	}
}

func stepTimeout(t *testing.T, l *lab.Lab, _ engine) {
	c := anyNode(t, l)
	b := build(t, c, inBusybox+`
steps:
  - {name: slow, timeout: 1s, command: sleep 600}
  - {name: told, when: on_failure, command: echo told}
`)
	wantStatus(t, b, fsm.Failed)
	j := job(t, b, "build")
	if j.Cause != fsm.CauseTimeout || j.Attempts[0].Steps[0].Cause != fsm.CauseTimeout {
		t.Errorf("want timeout: %s", outline(b))
	}
	says(t, c, j.ID, "told")
}

func allowFailure(t *testing.T, l *lab.Lab, _ engine) {
	c := anyNode(t, l)
	b := build(t, c, inBusybox+`
jobs:
  may: {allow_failure: true, steps: [{command: exit 4}]}
  gone: {allow_failure: true, image: "127.0.0.1:1/gone:1", retry: {max: 0, when: [image_pull]}, steps: [{command: exit 0}]}
  next: {needs: [may, gone], steps: [{name: lint, command: exit 5, allow_failure: true}, {command: echo on}]}
  scan:
    steps:
      - {name: scan, image: "127.0.0.1:1/gone:2", allow_failure: true, command: echo never}
      - {name: later, command: echo went on}
`)
	wantStatus(t, b, fsm.Passed)
	if j := job(t, b, "may"); j.Status != fsm.Failed || !j.Allowed {
		t.Errorf("may: %s", outline(b))
	}
	if j := job(t, b, "gone"); j.Status != fsm.Errored || j.Cause != fsm.CauseImagePull || !j.Allowed || len(j.Attempts) != 1 {
		t.Errorf("gone: %s", outline(b))
	}
	if j := job(t, b, "next"); j.Status != fsm.Passed || !j.Attempts[0].Steps[0].Allowed {
		t.Errorf("next: %s", outline(b))
	}
	scan := job(t, b, "scan")
	if s := scan.Attempts[0].Steps[0]; scan.Status != fsm.Passed || len(scan.Attempts) != 1 || s.Status != fsm.Errored || s.Cause != fsm.CauseImagePull || !s.Allowed {
		t.Errorf("scan: %s, %+v", outline(b), s)
	}
	says(t, c, scan.ID, "went on")
}

func manual(t *testing.T, l *lab.Lab, _ engine) {
	c, r := anyNode(t, l), repository(t)
	made := trigger(t, c, r, commit(t, r, inBusybox+`
jobs:
  test: {steps: [{command: echo test}]}
  deploy: {needs: [test], when: manual, steps: [{command: echo deployed}]}
  other: {when: manual, steps: [{command: echo never}]}
`))
	b := until(t, c, made.ID, "both wait", func(b api.Build) bool {
		d, ok := find(b, "deploy")
		o, _ := find(b, "other")
		return ok && d.Status == fsm.Held && o.Status == fsm.Held
	})
	why, err := c.Why(deadline(t, patience), job(t, b, "deploy").ID)
	must(t, err)
	if len(why.Reasons) != 1 || !strings.Contains(why.Reasons[0].Message, "narwhal approve") {
		t.Errorf("why is %+v", why)
	}
	_, err = c.Approve(deadline(t, patience), job(t, b, "deploy").ID)
	must(t, err)
	_, err = c.Reject(deadline(t, patience), job(t, b, "other").ID)
	must(t, err)
	b = ended(t, c, made.ID)
	if d, o := job(t, b, "deploy"), job(t, b, "other"); d.Status != fsm.Passed || d.ApprovedBy == "" || o.Status != fsm.Canceled || o.Cause != fsm.CauseRejected {
		t.Errorf("want one approved, one rejected: %s", outline(b))
	}
}

// concurrency starts five builds whose job is one of a group of two: each notes when
// it comes and goes, in a file that all of them have.
func concurrency(t *testing.T, l *lab.Lab, _ engine) {
	c, r := anyNode(t, l), repository(t)
	sha := commit(t, r, inBusybox+"concurrency: {group: \"${NARWHAL_REPO}\", limit: 2}\nsteps: [{command: sleep 1}]\n")
	var all []api.Build
	for range 5 {
		all = append(all, trigger(t, c, r, sha))
	}
	type span struct{ from, to int64 }
	var spans []span
	for _, made := range all {
		b := ended(t, c, made.ID)
		wantStatus(t, b, fsm.Passed)
		a := job(t, b, "build").Attempts[0]
		spans = append(spans, span{a.Steps[0].StartedAt.UnixNano(), a.Steps[0].EndedAt.UnixNano()})
	}
	for _, at := range spans {
		n := 0
		for _, s := range spans {
			if s.from <= at.from && at.from < s.to {
				n++
			}
		}
		if n > 2 {
			t.Errorf("%d of a group of 2 ran at a time", n)
		}
	}
}

func cancelInProgress(t *testing.T, l *lab.Lab, _ engine) {
	c, r := anyNode(t, l), repository(t)
	sha := commit(t, r, inBusybox+"concurrency: {group: \"${NARWHAL_REPO}/${NARWHAL_BRANCH}\", cancel_in_progress: true}\nsteps: [{command: 'test -e fast || sleep 600'}]\n")
	old := trigger(t, c, r, sha)
	running(t, c, old.ID, "build")
	fast, err := r.Commit("fast", map[string]string{"fast": ""})
	must(t, err)
	made := trigger(t, c, r, fast)
	wantStatus(t, ended(t, c, made.ID), fsm.Passed)
	b := ended(t, c, old.ID)
	if j := job(t, b, "build"); j.Status != fsm.Canceled || j.Cause != fsm.CauseReplaced || !strings.Contains(j.Reason, fmt.Sprint(made.ID)) {
		t.Errorf("want it replaced by build %d: %s", made.ID, outline(b))
	}
}

func secrets(t *testing.T, l *lab.Lab, e engine) {
	c, r := anyNode(t, l), repository(t)
	const token = "swordfish-is-the-word\nand a second line"
	must(t, c.SetSecret(deadline(t, patience), r.Name, "TOKEN", token))
	made := trigger(t, c, r, commit(t, r, inBusybox+`
steps:
  - {name: with, secrets: [TOKEN], command: 'echo "[$TOKEN]"; echo "$TOKEN" | base64; printf sword; sleep 0.3; echo fish-is-the-word; test "${#TOKEN}" = 39'}
  - {name: without, command: 'echo "none: [$TOKEN]"; cat /proc/1/environ /narwhal/job/secrets /narwhal/job/spec.json 2>/dev/null | grep -c sword"fish" || true'}
  - {name: holds, command: 'while test ! -e go; do sleep 0.1; done'}
`))
	j := running(t, c, made.ID, "build")
	awaitLog(t, c, j.ID, "none: []\n")
	seen := e.container(t, j.ID)
	put(t, seen, "go")
	b := ended(t, c, made.ID)
	wantStatus(t, b, fsm.Passed)
	says(t, c, j.ID, "[***]", "***Cg==", "***", "none: []", "0") // Cg== is the line break of echo
	if text := logText(t, c, j.ID); strings.Contains(text, "swordfish") || strings.Contains(text, "second line") || strings.Contains(text, "c3dvcmRmaXNo") {
		t.Errorf("the log shows the secret:\n%s", text)
	}
	if strings.Contains(fmt.Sprintf("%+v %+v", seen.Config, seen.HostConfig), "swordfish") {
		t.Error("the engine knows the secret")
	}
	for _, n := range l.Nodes {
		holds(t, n.Dir, "swordfish")
	}
	missing := build(t, c, inBusybox+"secrets: [NOBODY_HAS_SET]\nsteps: [{command: echo never}]\n")
	if missing.Cause != fsm.CauseConfig || !strings.Contains(missing.Reason, "narwhal secret set NOBODY_HAS_SET") {
		t.Errorf("a secret that is missing: %s", outline(missing))
	}
}

// holds fails the test where a file below dir has the text.
func holds(t *testing.T, dir, text string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // it is being removed
		}
		if data, err := os.ReadFile(path); err == nil && bytes.Contains(data, []byte(text)) {
			t.Errorf("%s has %q", path, text)
		}
		return nil
	})
	must(t, err)
}

// pullRequest has a commit built as a pull request's.
func pullRequest(t *testing.T, l *lab.Lab, r *lab.Repository, sha string, number int, fork bool) api.Build {
	t.Helper()
	n := leader(t, l)
	body := fmt.Sprintf(`{"repo":%q,"clone_url":%q,"commit":%q,"ref":"refs/pull/%d/head","event":"pull_request","pull_request":%d,"base":"main","fork":%v}`,
		r.Name, r.URL(), sha, number, number, fork)
	req, err := http.NewRequestWithContext(deadline(t, patience), http.MethodPost, n.API+"/commit", strings.NewReader(body))
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+n.Token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer func() { _ = resp.Body.Close() }()
	var text bytes.Buffer
	_, err = text.ReadFrom(resp.Body)
	must(t, err)
	if resp.StatusCode != http.StatusAccepted {
		t.Fatalf("pull request: %s %s", resp.Status, text.String())
	}
	c := anyNode(t, l)
	page, err := c.Builds(deadline(t, patience), client.Filter{Repo: r.Name, Limit: 1})
	must(t, err)
	return ended(t, c, page.Builds[0].ID)
}

func forkSecrets(t *testing.T, l *lab.Lab, _ engine) {
	c, r := anyNode(t, l), repository(t)
	must(t, c.SetSecret(deadline(t, patience), r.Name, "TOKEN", "swordfish"))
	sha := commit(t, r, inBusybox+"steps: [{secrets: [TOKEN], command: 'echo \"length ${#TOKEN}\"'}]\n")
	for number, fork := range []bool{true, false} {
		want := "length 9"
		if fork {
			want = "length 0"
		}
		b := pullRequest(t, l, r, sha, number+1, fork)
		wantStatus(t, b, fsm.Passed)
		says(t, c, job(t, b, "build").ID, want)
	}
}

func badInput(t *testing.T, l *lab.Lab, _ engine) {
	c := anyNode(t, l)
	b := build(t, c, inBusybox+"inputs: {who: {required: true}}\nsteps: [{command: echo never}]\n")
	if b.Status != fsm.Errored || b.Cause != fsm.CauseConfig || !strings.Contains(b.Reason, "who") {
		t.Errorf("an input that is missing: %s", outline(b))
	}
}
