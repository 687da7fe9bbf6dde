package e2e

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// artifactsAndReports has a job leave files, which the next job and the API find,
// from nodes that did not run it.
func artifactsAndReports(t *testing.T, l *lab.Lab, _ engine) {
	c, r := anyNode(t, l), repository(t)
	sha := commit(t, r, inBusybox+`
jobs:
  test:
    steps:
      - command: |
          mkdir -p dist/deep && echo program > dist/app && echo deep > dist/deep/file && echo no > dist/app.tmp
          cat > report.xml <<'XML'
          <testsuite name="shop"><testcase name="adds" time="0.1"/><testcase name="pays" time="1.5"><failure message="no money">at shop.go:7</failure></testcase><testcase name="later"><skipped/></testcase></testsuite>
          XML
    artifacts: {paths: [dist/], exclude: ["**/*.tmp"], expire_in: 7d, reports: {junit: ["*.xml"]}}
  use:
    needs: [test]
    steps: [{command: 'cat dist/app dist/deep/file; test ! -e dist/app.tmp'}]
`)
	b := ended(t, c, trigger(t, c, r, sha).ID)
	wantStatus(t, b, fsm.Passed)
	says(t, c, job(t, b, "use").ID, "program", "deep")
	test := job(t, b, "test").ID
	for _, n := range l.Nodes {
		at := nodeClient(t, n)
		list, err := at.Artifacts(deadline(t, patience), test, 0)
		must(t, err)
		if len(list.Files) != 2 || list.Files[0].Path != "dist/app" || len(list.Artifacts.Archive.Holders) != 2 || list.Artifacts.ExpireAt.IsZero() {
			t.Errorf("%s lists %+v", n.Name, list)
		}
		body, err := at.Artifact(deadline(t, patience), test, 0, "dist/deep/file")
		must(t, err)
		text, err := io.ReadAll(body)
		must(t, err)
		must(t, body.Close())
		if string(text) != "deep\n" {
			t.Errorf("%s gives %q", n.Name, text)
		}
	}
	tests, err := c.Tests(deadline(t, patience), b.ID)
	must(t, err)
	if tests.Passed != 1 || tests.Failed != 1 || tests.Skipped != 1 || len(tests.Jobs) != 1 {
		t.Fatalf("tests are %+v", tests)
	}
	report := tests.Jobs[0].Report
	if f := report.Failures; len(f) != 1 || f[0].Name != "pays" || !strings.Contains(f[0].Text, "at shop.go:7") || report.Slowest[0].Name != "pays" {
		t.Errorf("report is %+v", report)
	}
}

// cacheOverNodes saves a cache on one node and finds it on another.
func cacheOverNodes(t *testing.T, l *lab.Lab, _ engine) {
	c, r := anyNode(t, l), repository(t)
	on := func(n *lab.Node) string {
		return inBusybox + "labels: {node: " + n.Name + `}
cache:
  - {key: "deps-${checksum:lock}", paths: [/cache/deps], restore_keys: [deps-]}
steps: [{command: 'cat /cache/deps/file || echo nothing; mkdir -p /cache/deps; echo "of $(cat lock)" > /cache/deps/file'}]
`
	}
	run := func(n *lab.Node, lock string) fsm.JobID {
		sha, err := r.Commit("lock "+lock, map[string]string{"narwhal.yml": on(n), "lock": lock})
		must(t, err)
		b := ended(t, c, trigger(t, c, r, sha).ID)
		wantStatus(t, b, fsm.Passed)
		return job(t, b, "build").ID
	}
	says(t, c, run(l.Nodes[0], "one"), "nothing")
	says(t, c, run(l.Nodes[1], "one"), "of one") // its own key, from another node
	says(t, c, run(l.Nodes[2], "two"), "of one") // another key, by the restore key
	says(t, c, run(l.Nodes[0], "two"), "of two") // which was then saved under its own
}

// cacheScopes has a pull request read its base's cache and poison nobody's.
func cacheScopes(t *testing.T, l *lab.Lab, _ engine) {
	c, r := anyNode(t, l), repository(t)
	const file = inBusybox + `
cache: [{key: "k-${checksum:lock}", paths: [/cache/k], restore_keys: [k-]}]
steps: [{command: 'cat /cache/k/file || echo nothing; mkdir -p /cache/k; echo "by $NARWHAL_EVENT" > /cache/k/file'}]
`
	sha, err := r.Commit("one", map[string]string{"narwhal.yml": file, "lock": "1"})
	must(t, err)
	b := ended(t, c, trigger(t, c, r, sha).ID)
	says(t, c, job(t, b, "build").ID, "nothing")
	sha, err = r.Commit("two", map[string]string{"lock": "2"})
	must(t, err)
	b = pullRequest(t, l, r, sha, 3, false)
	says(t, c, job(t, b, "build").ID, "by manual") // its base's
	sha, err = r.Commit("three", map[string]string{"lock": "3"})
	must(t, err)
	b = pullRequest(t, l, r, sha, 3, false)
	says(t, c, job(t, b, "build").ID, "by pull_request") // its own of before
	b = pullRequest(t, l, r, sha, 4, false)
	says(t, c, job(t, b, "build").ID, "by manual") // not another's
	b = ended(t, c, trigger(t, c, r, sha).ID)
	says(t, c, job(t, b, "build").ID, "by manual") // nor the base, though the key is the same
}

// schedule waits for the clock: within the next two minutes a build of each minute.
func schedule(t *testing.T, l *lab.Lab, _ engine) {
	c, r := anyNode(t, l), repository(t)
	b := ended(t, c, trigger(t, c, r, commit(t, r, inBusybox+`
schedule: [{cron: "* * * * *", branch: main, inputs: {who: clock}}]
inputs: {who: {default: nobody}}
steps: [{command: 'echo "$NARWHAL_EVENT by ${inputs.who}"'}]
`)).ID)
	says(t, c, job(t, b, "build").ID, "manual by nobody")
	ctx := deadline(t, patience+time.Minute)
	var found api.Build
	err := lab.Await(ctx, "a build by the clock", func(ctx context.Context) (bool, error) {
		page, err := c.Builds(ctx, client.Filter{Repo: r.Name, Limit: 10})
		for _, b := range page.Builds {
			if b.Event == fsm.EventSchedule {
				found = b
			}
		}
		return found.ID != 0, err
	})
	must(t, err)
	b = ended(t, c, found.ID)
	wantStatus(t, b, fsm.Passed)
	says(t, c, job(t, b, "build").ID, "schedule by clock")
	// A file without the schedule ends it.
	ended(t, c, trigger(t, c, r, commit(t, r, inBusybox+"steps: [{command: 'true'}]\n")).ID)
}
