package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// TestDamagedLog starts a node whose log can't be read: its process ends, says why,
// and with a status that systemd does not answer with another start.
func TestDamagedLog(t *testing.T) {
	t.Parallel()
	l := cluster(t, lab.Options{Nodes: 1})
	n := l.Nodes[0]
	must(t, n.Stop())
	f, err := os.OpenFile(filepath.Join(n.Dir, "raft", "raft.db"), os.O_WRONLY, 0)
	must(t, err)
	_, err = f.Write(make([]byte, 8<<10)) // both meta pages
	must(t, errors.Join(err, f.Close()))
	must(t, n.Launch())
	await(t, "the process to end", func(context.Context) (bool, error) { return !n.Running(), nil })
	var exit *exec.ExitError
	if !errors.As(n.Exit(), &exit) || exit.ExitCode() != 78 {
		t.Errorf("it ended with %v, want status 78", n.Exit())
	}
	if !strings.Contains(n.Log(), "damaged") || !strings.Contains(n.Log(), "raft.db") {
		t.Error("it does not say what is damaged")
	}
}

// TestLeaveGivenUp has the only voter leave, and gives up before another has its
// vote: the node is a member as before.
func TestLeaveGivenUp(t *testing.T) {
	t.Parallel()
	l := cluster(t, lab.Options{Nodes: 2})
	n := leader(t, l)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := nodeClient(t, n).Leave(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("leave ended with %v before it was given up", err)
	}
	c := anyNode(t, l)
	only(t, l, n, func() {
		r := repository(t)
		b := ended(t, c, trigger(t, c, r, commit(t, r, small+"steps: [{command: \"true\"}]\n")).ID)
		wantStatus(t, b, fsm.Passed)
		if a := job(t, b, "build").Attempts; len(a) != 1 || a[0].Node != n.ID {
			t.Errorf("it was not built on the node that stayed: %s", outline(b))
		}
	})
}
