package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// TestLostCopiesAreMadeAgain has a build leave a log and artifacts, and both of their
// holders die, one after the other: in between a third node has been given a copy.
// Then a copy rots on a disk, and is made good from the other one.
func TestLostCopiesAreMadeAgain(t *testing.T) {
	t.Parallel()
	l := cluster(t, lab.Options{Nodes: 5, Args: append([]string{"--repair-after", "1s", "--scrub-every", "500ms"}, quick...)})
	c, r := anyNode(t, l), repository(t)
	made := trigger(t, c, r, commit(t, r, small+`
artifacts: {paths: [left]}
steps: [{command: "echo spoken; echo left behind > left"}]
`))
	wantStatus(t, ended(t, c, made.ID), fsm.Passed)
	id := fsm.JobID{Build: made.ID, Seq: 1}

	// files are the node's copies: the job's sealed log and its archive.
	files := func(n *lab.Node) (logs, archives []string) {
		logs, err := filepath.Glob(filepath.Join(n.Dir, "logs", "*.log.zst"))
		must(t, err)
		archives, err = filepath.Glob(filepath.Join(n.Dir, "blobs", strings.Repeat("[0-9a-f]", 64)))
		must(t, err)
		return logs, archives
	}
	awaitCopies := func() {
		t.Helper()
		await(t, "two copies of each on nodes that run", func(context.Context) (bool, error) {
			logs, archives := 0, 0
			for _, n := range l.Nodes {
				if n.Running() {
					of, in := files(n)
					logs, archives = logs+len(of), archives+len(in)
				}
			}
			// The plan has a log too.
			return logs >= 4 && archives >= 2, fmt.Errorf("there are %d of the logs, %d of the archive", logs, archives)
		})
	}
	// holder is a node that has some, but does not lead: leaders' deaths have tests of their own.
	holder := func() *lab.Node {
		t.Helper()
		leads := leader(t, l)
		for _, n := range l.Nodes {
			if _, archives := files(n); n.Running() && n != leads && len(archives) > 0 {
				return n
			}
		}
		return nil
	}
	check := func() {
		t.Helper()
		for _, n := range l.Nodes {
			if !n.Running() {
				continue
			}
			if text := logText(t, nodeClient(t, n), id); !strings.Contains(text, "spoken") {
				t.Errorf("%s shows the log %q", n.Name, text)
			}
			list, err := nodeClient(t, n).Artifacts(deadline(t, patience), id, 0)
			must(t, err)
			if len(list.Files) != 1 || list.Files[0].Path != "left" {
				t.Errorf("%s lists the artifacts %+v", n.Name, list.Files)
			}
		}
	}

	awaitCopies()
	first := holder()
	if first == nil {
		t.Fatal("only the leader has the archive")
	}
	must(t, first.Crash())
	must(t, os.RemoveAll(filepath.Join(first.Dir, "blobs")))
	must(t, os.RemoveAll(filepath.Join(first.Dir, "logs")))
	awaitCopies()
	check()

	_, archives := files(leader(t, l))
	if len(archives) == 0 {
		other := holder()
		if other == nil {
			t.Fatal("nobody has the archive")
		}
		_, archives = files(other)
	}
	whole, err := os.ReadFile(archives[0])
	must(t, err)
	bad := append([]byte{}, whole...)
	bad[len(bad)/2] ^= 0xff
	must(t, os.Chmod(archives[0], 0o600))
	must(t, os.WriteFile(archives[0], bad, 0o600))
	await(t, "the rotten copy to be made good", func(context.Context) (bool, error) {
		now, err := os.ReadFile(archives[0])
		return string(now) == string(whole), fmt.Errorf("%d bytes: %w", len(now), err)
	})
	check()
}
