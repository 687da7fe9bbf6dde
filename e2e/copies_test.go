package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// TestLogStreamDoesNotBreak follows a job whose log grows, by a client that was given
// one node's address. First that node dies, then the one that the job runs on: the
// stream goes on with what was printed two seconds before, and with the second
// attempt, no line missing or twice.
func TestLogStreamDoesNotBreak(t *testing.T) {
	t.Parallel()
	l := cluster(t, lab.Options{Nodes: 5, Args: quick})
	r, dir := repository(t), t.TempDir()
	sign, counted := filepath.Join(dir, "sign"), filepath.Join(dir, "count")
	sha := commit(t, r, strings.NewReplacer("SIGN", sign, "COUNT", counted).Replace(small+`
steps:
  - command: |
      i=0
      while [ ! -e SIGN ]; do i=$((i+1)); echo "line $i of attempt $NARWHAL_ATTEMPT"; echo $i > COUNT.$NARWHAL_ATTEMPT; sleep 0.02; done
`))
	leads := leader(t, l)
	c := anyNode(t, l)
	known, err := c.Nodes(deadline(t, patience))
	must(t, err)
	var runs *lab.Node // not a voter: two of three that die are the majority
	for _, n := range l.Nodes {
		if slices.ContainsFunc(known, func(v api.Node) bool { return v.ID == n.ID && v.Role != "voter" }) {
			runs = n
		}
	}
	var build fsm.BuildID
	count := func(attempt int) int {
		data, err := os.ReadFile(counted + "." + strconv.Itoa(attempt))
		n, errN := strconv.Atoi(strings.TrimSpace(string(data)))
		if err != nil || errN != nil { // it is being written
			return 0
		}
		return n
	}
	atLeast := func(attempt, lines int) {
		t.Helper()
		await(t, fmt.Sprintf("attempt %d to print", attempt), func(context.Context) (bool, error) {
			return count(attempt) >= lines, fmt.Errorf("it has printed %d", count(attempt))
		})
	}
	only(t, l, runs, func() {
		build = trigger(t, c, r, sha).ID
		atLeast(1, 10)
	})
	id := fsm.JobID{Build: build, Seq: 1}

	lines := make(chan api.LogLine, 1<<16)
	followed := make(chan error, 1)
	var end *api.LogStatus
	follower := nodeClient(t, leads)
	go func() {
		defer close(lines)
		followed <- follower.FollowLog(deadline(t, patience), id, 0, func(e client.LogEvent) error {
			if e.Line != nil && e.Line.Step >= 0 {
				lines <- *e.Line
			}
			if e.End != nil {
				end = e.End
			}
			return nil
		})
	}()
	<-lines
	must(t, leads.Crash())
	atLeast(1, count(1)+50)
	printed := count(1)
	time.Sleep(2 * time.Second) // as far as the copy of the log may be behind
	must(t, runs.Crash())
	atLeast(2, 10)
	must(t, os.WriteFile(sign, nil, 0o600))

	next := map[int]int{1: 2, 2: 1} // the first line is read
	for line := range lines {
		want := fmt.Sprintf("line %d of attempt %d", next[line.Attempt], line.Attempt)
		if line.Text != want {
			t.Fatalf("followed %q, want %q", line.Text, want)
		}
		next[line.Attempt]++
	}
	must(t, <-followed)
	if end == nil || end.Status != fsm.Passed || end.Attempt != 2 {
		t.Errorf("the stream ended with %+v", end)
	}
	if next[1]-1 < printed {
		t.Errorf("of attempt 1 %d lines were followed, %d were printed two seconds before its node died", next[1]-1, printed)
	}
	if next[2]-1 != count(2) {
		t.Errorf("of attempt 2 %d lines were followed, %d were printed", next[2]-1, count(2))
	}

	// Whoever looks later finds as much.
	for _, n := range l.Nodes {
		if !n.Running() {
			continue
		}
		var text strings.Builder
		must(t, nodeClient(t, n).ReadLog(deadline(t, patience), id, 1, &text))
		if got := strings.Count(text.String(), "of attempt 1\n"); got < printed {
			t.Errorf("%s shows %d lines of attempt 1, %d were printed", n.Name, got, printed)
		}
	}
}
