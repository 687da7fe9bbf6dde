package e2e

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// TestProcessIsNotTheJob kills narwhal while twenty jobs run and starts it again
// after a while: at once, a little later as another binary, and after the jobs have
// ended. Each job ends as it would have, and its log has each line once, in order.
func TestProcessIsNotTheJob(t *testing.T) {
	t.Parallel()
	own := filepath.Join(t.TempDir(), "narwhal")
	copyFile(t, own, binary)
	l, e := dockerCluster(t, lab.Options{Nodes: 1, Binary: own, Args: []string{"--cpu", "8", "--memory", "8Gi"}})
	n := l.Nodes[0]
	for _, away := range []time.Duration{0, 5 * time.Second, 30 * time.Second} {
		t.Run("away for "+away.String(), func(t *testing.T) {
			c, r := anyNode(t, l), repository(t)
			const jobs, lines = 20, 40
			var file strings.Builder
			file.WriteString("image: " + busyboxImage + "\nresources: {cpu: 100m, memory: 32Mi}\njobs:\n")
			for i := range jobs {
				end := 0
				if i%5 == 4 {
					end = 7
				}
				fmt.Fprintf(&file, "  j%d:\n    steps:\n      - command: 'i=0; while [ $i -lt %d ]; do echo line $i; i=$((i+1)); sleep 0.5; done; exit %d'\n      - command: echo second\n", i, lines, end)
			}
			made := trigger(t, c, r, commit(t, r, file.String()))
			until(t, c, made.ID, "all jobs run", func(b api.Build) bool {
				n := 0
				for _, j := range b.Jobs {
					if j.Kind == fsm.KindRun && j.Status == fsm.Running {
						n++
					}
				}
				return n == jobs
			})
			must(t, n.Kill())
			copyFile(t, own, binary) // an upgrade: another file under the same name
			pass(t, away)
			must(t, n.Start(deadline(t, patience)))
			settle(t, l)
			b := ended(t, anyNode(t, l), made.ID)
			for i := range jobs {
				j := job(t, b, fmt.Sprintf("j%d", i))
				want, code := fsm.Passed, 0
				if i%5 == 4 {
					want, code = fsm.Failed, 7
				}
				if j.Status != want || len(j.Attempts) != 1 || j.Attempts[0].ExitCode != code {
					t.Errorf("want %s with exit code %d at the first attempt: %s", want, code, outline(b))
					continue
				}
				if made := e.created(t, j.ID); made != 1 {
					t.Errorf("the engine has made %d containers for job %s", made, j.ID)
				}
				if text := logText(t, c, j.ID); !counts(text, lines) {
					t.Errorf("log of %s has a gap, or repeats:\n%s", j.Name, text)
				}
			}
		})
	}
}

// counts reports whether a text has the lines 0 to n-1, once each, in order.
func counts(text string, n int) bool {
	next := 0
	for line := range strings.Lines(text) {
		number, ok := strings.CutPrefix(strings.TrimSpace(line), "line ")
		if !ok {
			continue
		}
		if number != fmt.Sprint(next) {
			return false
		}
		next++
	}
	return next == n
}

// pass lets time go by: how long narwhal is away is what is tested.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// copyFile puts a copy in the place of what is there, which may be running.
func copyFile(t *testing.T, to, from string) {
	t.Helper()
	in, err := os.Open(from)
	must(t, err)
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	must(t, err)
	_, err = io.Copy(out, in)
	must(t, err)
	must(t, out.Close())
	must(t, os.Rename(to+".new", to))
}

// TestRestartedNodeIsNotBehind asks a node that has just started for what the
// cluster has long shown.
func TestRestartedNodeIsNotBehind(t *testing.T) {
	t.Parallel()
	l := cluster(t, lab.Options{})
	r := repository(t)
	sha := commit(t, r, small+"steps: [{command: 'true'}]\n")
	n := follower(t, l)
	for range 3 {
		must(t, n.Kill())
		c := anyNode(t, l)
		made := trigger(t, c, r, sha)
		wantStatus(t, ended(t, c, made.ID), fsm.Passed)
		must(t, n.Start(deadline(t, patience)))
		// A client that has seen nothing yet: no index is asked for.
		b, err := nodeClient(t, n).Build(deadline(t, patience), made.ID)
		if err != nil || b.Status != fsm.Passed {
			t.Fatalf("the node that was restarted shows build %d as %s, %v", made.ID, b.Status, err)
		}
		settle(t, l)
	}
}
