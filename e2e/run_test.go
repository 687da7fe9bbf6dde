package e2e

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	docker "github.com/docker/docker/client"
)

// here is a checkout that `narwhal run` builds by the real engine.
type here struct {
	dir  string // its last part is in the names of what is made for it
	home string
	api  *docker.Client
}

// checkoutHere makes one with this file. At the test's end nothing of it may be left
// in the engine.
func checkoutHere(t *testing.T, file string) here {
	t.Helper()
	api, err := docker.NewClientWithOpts(docker.WithAPIVersionNegotiation())
	must(t, err)
	t.Cleanup(func() { _ = api.Close() })
	dir, err := os.MkdirTemp(t.TempDir(), "checkout-")
	must(t, err)
	h := here{dir: dir, home: t.TempDir(), api: api}
	must(t, exec.Command("git", "init", "-q", "-b", "main", dir).Run())
	must(t, os.WriteFile(filepath.Join(dir, "narwhal.yml"), []byte(file), 0o644))
	t.Cleanup(func() {
		for _, what := range h.left(t) {
			t.Errorf("%s is left", what)
		}
	})
	return h
}

// node begins the ID of the node that a run in the checkout is.
func (h here) node() string { return "run-" + filepath.Base(h.dir) + "-" }

// left is what the engine has of the checkout's runs.
func (h here) left(t *testing.T) (all []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience) // the test has ended
	defer cancel()
	mine := filters.NewArgs(filters.Arg("label", "narwhal.cluster=laptop"))
	containers, err := h.api.ContainerList(ctx, container.ListOptions{All: true, Filters: mine})
	must(t, err)
	for _, c := range containers {
		if strings.HasPrefix(c.Labels["narwhal.node"], h.node()) {
			all = append(all, "container "+strings.Join(c.Names, " "))
		}
	}
	networks, err := h.api.NetworkList(ctx, network.ListOptions{Filters: mine})
	must(t, err)
	for _, n := range networks {
		if strings.HasPrefix(n.Labels["narwhal.node"], h.node()) {
			all = append(all, "network "+n.Name)
		}
	}
	return all
}

// runHere is `narwhal run` while it runs.
type runHere struct {
	cmd *exec.Cmd
	out *bufio.Reader
	err strings.Builder
}

func (h here) run(t *testing.T, args ...string) *runHere {
	t.Helper()
	r := &runHere{cmd: exec.CommandContext(deadline(t, patience), binary, append([]string{"run", "-C", h.dir}, args...)...)}
	r.cmd.Env = append(os.Environ(), "HOME="+h.home, "XDG_CACHE_HOME=")
	r.cmd.Stderr = &r.err
	out, err := r.cmd.StdoutPipe()
	must(t, err)
	r.out = bufio.NewReader(out)
	must(t, r.cmd.Start())
	return r
}

// until reads what is printed up to a line that ends so.
func (r *runHere) until(t *testing.T, end string) {
	t.Helper()
	var seen strings.Builder
	for {
		line, err := r.out.ReadString('\n')
		seen.WriteString(line)
		if strings.HasSuffix(strings.TrimSuffix(line, "\n"), end) {
			return
		}
		if err != nil {
			t.Fatalf("it never said %q: %v\n%s%s", end, err, seen.String(), r.err.String())
		}
	}
}

// end waits for its exit status, and gives what it still printed.
func (r *runHere) end(t *testing.T) (rest string, code int) {
	t.Helper()
	data, err := io.ReadAll(r.out)
	must(t, err)
	var exit *exec.ExitError
	if err := r.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(data), r.cmd.ProcessState.ExitCode()
}

const untilStopped = inBusybox + `steps:
  - command: |
      trap 'echo told to stop; exit 1' TERM
      echo begun
      while :; do sleep 0.1; done
  - {command: echo after, when: always}
`

func TestRunInterrupted(t *testing.T) {
	t.Parallel()
	h := checkoutHere(t, untilStopped)
	r := h.run(t)
	r.until(t, "| begun")
	must(t, r.cmd.Process.Signal(syscall.SIGINT))
	rest, code := r.end(t)
	if code != 130 || !strings.Contains(rest, "| told to stop\n") || strings.Contains(rest, "| after\n") {
		t.Errorf("exit status %d after\n%s", code, rest)
	}
	if errs := r.err.String(); !strings.Contains(errs, "narwhal: stopping") || !strings.Contains(errs, "narwhal: the build canceled") {
		t.Errorf("it said\n%s", errs)
	}
	if left := h.left(t); len(left) > 0 {
		t.Errorf("left are %q", left)
	}
}

// TestRunKilled: what a run could not remove, the next one in the folder does.
func TestRunKilled(t *testing.T) {
	t.Parallel()
	h := checkoutHere(t, untilStopped)
	r := h.run(t)
	r.until(t, "| begun")
	must(t, r.cmd.Process.Kill())
	_, _ = r.end(t)
	if len(h.left(t)) == 0 {
		t.Fatal("nothing is left: this test tests nothing")
	}
	must(t, os.WriteFile(filepath.Join(h.dir, "narwhal.yml"), []byte(inBusybox+"steps: [{command: echo again}]\n"), 0o644))
	next := h.run(t)
	rest, code := next.end(t)
	if code != 0 || !strings.Contains(rest, "| again\n") {
		t.Errorf("exit status %d after\n%s%s", code, rest, next.err.String())
	}
}
