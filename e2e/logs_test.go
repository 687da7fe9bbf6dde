package e2e

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// logs follows a job at another node than the one that runs it, while the step
// waits for a sign, and reads its log at every node afterwards.
func logs(t *testing.T, l *lab.Lab) {
	c, r := anyNode(t, l), repository(t)
	sign := filepath.Join(t.TempDir(), "sign")
	made := trigger(t, c, r, commit(t, r, strings.ReplaceAll(small+`
steps:
  - name: speak
    command: |
      echo before the sign
      while [ ! -e SIGN ]; do sleep 0.02; done
      echo after the sign, ünïcödé
      echo to stderr >&2
      printf 'without end of line'
  - name: last
    command: echo the last step
`, "SIGN", sign)))
	runs := running(t, c, made.ID, "build")
	other := l.Nodes[slices.IndexFunc(l.Nodes, func(n *lab.Node) bool { return n.ID != runs.Node })]
	var text []string
	var end *api.LogStatus
	err := nodeClient(t, other).FollowLog(deadline(t, patience), runs.ID, 0, func(e client.LogEvent) error {
		switch {
		case e.Problem != nil:
			return e.Problem
		case e.End != nil:
			end = e.End
		case e.Line != nil:
			text = append(text, e.Line.Text)
			if e.Line.Text == "before the sign" {
				return os.WriteFile(sign, nil, 0o600)
			}
		}
		return nil
	})
	must(t, err)
	if end == nil || end.Status != fsm.Passed {
		t.Errorf("the stream ended with %+v, want passed", end)
	}
	want := []string{"before the sign", "after the sign, ünïcödé", "to stderr", "without end of line", "the last step"}
	at := 0
	for _, line := range text {
		if at < len(want) && line == want[at] {
			at++
		}
	}
	if at != len(want) {
		t.Errorf("the stream lacks %q, or has it out of order:\n%s", want[at], strings.Join(text, "\n"))
	}
	wantStatus(t, ended(t, c, made.ID), fsm.Passed)
	for _, n := range l.Nodes {
		if got := strings.Split(strings.TrimSuffix(logText(t, nodeClient(t, n), runs.ID), "\n"), "\n"); !slices.Equal(got, text) {
			t.Errorf("%s shows\n%s, followed was\n%s", n.Name, strings.Join(got, "\n"), strings.Join(text, "\n"))
		}
	}
	var none bytes.Buffer
	var p *api.Problem
	if err := c.ReadLog(deadline(t, patience), fsm.JobID{Build: made.ID, Seq: 99}, 0, &none); !errors.As(err, &p) || p.Status != 404 {
		t.Errorf("the log of a job that is not there: %v", err)
	}
}

// why asks for jobs that fit nowhere, at every node: not now, and never.
func why(t *testing.T, l *lab.Lab) {
	c, r := anyNode(t, l), repository(t)
	made := trigger(t, c, r, commit(t, r, small+`
jobs:
  labels: {labels: {planet: mars}, steps: [{command: "true"}]}
  size: {resources: {cpu: 1000, memory: 16Mi}, steps: [{command: "true"}]}
  needs: {needs: [size], steps: [{command: "true"}]}
`))
	b := until(t, c, made.ID, "its jobs are there", func(b api.Build) bool { return len(b.Jobs) == 4 })
	for _, tt := range []struct {
		job, message string
		code         fsm.ReasonCode
	}{
		{"labels", "planet=mars", fsm.ReasonLabels},
		{"size", "1000 CPU", fsm.ReasonCPU},
	} {
		for _, n := range l.Nodes {
			x, err := nodeClient(t, n).Why(deadline(t, patience), job(t, b, tt.job).ID)
			must(t, err)
			if x.Status != fsm.Queued || len(x.Reasons) != len(l.Nodes)+1 || !x.Reasons[len(l.Nodes)].Never {
				t.Fatalf("%s, at %s: want a reason a node and that no node ever can: %+v", tt.job, n.Name, x)
			}
			for _, reason := range x.Reasons[:len(l.Nodes)] {
				if reason.Code != tt.code || !reason.Never || !strings.Contains(reason.Message, tt.message) {
					t.Errorf("%s, at %s: %+v", tt.job, n.Name, reason)
				}
			}
		}
	}
	x, err := c.Why(deadline(t, patience), job(t, b, "needs").ID)
	must(t, err)
	if x.Status != fsm.Blocked || len(x.Reasons) != 1 || x.Reasons[0].Code != fsm.ReasonBlocked || !strings.Contains(x.Reasons[0].Message, "size") {
		t.Errorf("a blocked job: %+v", x)
	}
	_, err = c.CancelBuild(deadline(t, patience), made.ID)
	must(t, err)
	wantStatus(t, ended(t, c, made.ID), fsm.Canceled)
}
