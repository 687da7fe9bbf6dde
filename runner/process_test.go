package runner

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog"
	"github.com/codepr/narwhal/pipeline"
)

// TestWithProcesses runs real steps with the real process executor.
func TestWithProcesses(t *testing.T) {
	n := newNode(t)
	processes := executor.NewProcess(executor.ProcessConfig{Node: "n1", Attempts: filepath.Join(n.dir, "attempts")}, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { _ = processes.Close() })
	n.adjust = func(c *Config) { c.Executor = processes }
	n.start()
	says := func(command string) func(*pipeline.Job) {
		return func(j *pipeline.Job) { j.Steps[0].Command = []string{command} }
	}
	good, bad, long := ref(1, 1, 7), ref(2, 1, 8), ref(3, 1, 9)
	n.leader.want(job(good, says("echo on $NARWHAL_NODE as $NARWHAL_FENCE_TOKEN")), job(bad, says("exit 3")), job(long, says("echo begun; sleep 600")))
	if o := n.leader.awaitOutcome(t, good); o.Status != fsm.Passed || len(o.Steps) != 1 {
		t.Errorf("good: %+v", o)
	}
	if o := n.leader.awaitOutcome(t, bad); o.Status != fsm.Failed || o.ExitCode != 3 {
		t.Errorf("bad: %+v", o)
	}
	follow, err := n.r.Logs().Follow(t.Context(), long.Job, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	last := ""
	for line, err := range follow {
		if err != nil {
			t.Fatal(err)
		}
		if line.Text == "begun" { // only now is it canceled, and following ends with it
			stop := job(long)
			stop.Cancel = true
			n.leader.want(stop)
		}
		last = line.Text
	}
	if last != "canceled (canceled): stopped on request" {
		t.Errorf("the log ends with %q", last)
	}
	if o := n.leader.awaitOutcome(t, long); o.Status != fsm.Canceled {
		t.Errorf("long: %+v", o)
	}
	lines := logText(t, n, good)
	if !strings.Contains(lines, "on one as 00000000-00000000000000000007\n") {
		t.Errorf("log is %q", lines)
	}
	n.settled()
	n.end()
}

func logText(t *testing.T, n *node, r fsm.AttemptRef) string {
	t.Helper()
	path, err := n.r.Logs().Path(r.Job, r.N)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := joblog.Read(path, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, l := range lines {
		text.WriteString(l.Text + "\n")
	}
	return text.String()
}
