package e2e

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/internal/lab"
)

// drilled is what `narwhal drill --json` prints.
type drilled struct {
	Nodes, Voters int
	Leader        struct{ Detected, Dispatch spread }
	Runner        struct{ Detected, Rerun spread }
	Partition     struct{ Detected, Dispatch spread }

	Builds, Lost, Doubled, Disturbed, Diverged int
}

type spread struct {
	N   int     `json:"n"`
	Max float64 `json:"max_s"`
}

func (d drilled) check(t *testing.T, builds int) {
	t.Helper()
	if d.Builds != builds || d.Lost != 0 || d.Doubled != 0 || d.Disturbed != 0 || d.Diverged != 0 {
		t.Errorf("want %d builds and nothing else: %+v", builds, d)
	}
}

func drill(t *testing.T, env []string, args ...string) (d drilled) {
	t.Helper()
	out, errs, code := cli(t, env, append([]string{"drill", "--json", "--running", "5", "--queued", "40"}, args...)...)
	if code != 0 {
		t.Fatalf("exit status %d: %s%s", code, out, errs)
	}
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	return d
}

// TestLocalDrill starts a cluster for a drill, on a network of its own.
func TestLocalDrill(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Fatal("a network that can be cut takes root")
	}
	d := drill(t, nil, "--local", "3", "--partition", "--runner-kills", "0")
	d.check(t, 2*45)
	if d.Nodes != 3 || d.Voters != 3 || d.Leader.Dispatch.N != 1 || d.Leader.Dispatch.Max <= 0 || d.Partition.Dispatch.N != 1 || d.Partition.Dispatch.Max <= 0 {
		t.Errorf("%+v", d)
	}
}

// TestDrill drills a cluster that runs, once all its nodes let it.
func TestDrill(t *testing.T) {
	t.Parallel()
	l := cluster(t, lab.Options{Args: quick})
	env := []string{"NARWHAL_ADDR=" + l.Nodes[0].API, "NARWHAL_TOKEN=" + l.Nodes[0].Token}
	for _, n := range l.Nodes[1:] {
		n.Args = []string{"--allow-drill"}
		must(t, n.Stop())
		must(t, n.Start(deadline(t, patience)))
	}
	settle(t, l)
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"drill"}, 2, "--yes"},
		{[]string{"drill", "--yes", "--partition"}, 2, "--local"},
		{[]string{"drill", "--local", "2"}, 2, "--local 2"},
		{[]string{"drill", "--yes"}, 1, l.Nodes[0].Name + " do not take part: start every node with --allow-drill"},
	} {
		if out, errs, code := cli(t, env, tt.args...); code != tt.code || !strings.Contains(errs, tt.want) {
			t.Errorf("%q: exit status %d, %s%s", tt.args, code, out, errs)
		}
	}
	n := l.Nodes[0]
	n.Args = []string{"--allow-drill"}
	must(t, n.Stop())
	must(t, n.Start(deadline(t, patience)))

	ctx, cancel := context.WithCancel(t.Context())
	var tender errgroup.Group
	tender.Go(func() error { return l.Tend(ctx) })
	t.Cleanup(func() {
		cancel()
		must(t, tender.Wait())
	})
	d := drill(t, env, "--yes", "--runner-down", "9s", "--leader-down", "1s")
	d.check(t, 2*45)
	if d.Leader.Dispatch.N != 1 || d.Runner.Rerun.N < 1 || d.Runner.Rerun.Max <= d.Leader.Dispatch.Max {
		t.Errorf("%+v", d)
	}
	if told := strings.Count(l.Nodes[0].Log()+l.Nodes[1].Log()+l.Nodes[2].Log(), "a drill ends this process"); told != 2 {
		t.Errorf("the nodes' logs tell of %d crashes", told)
	}
}
