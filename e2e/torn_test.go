package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/codepr/narwhal/internal/lab"
)

// TestTornLog damages the log of a node as a disk that fails would, and starts the node:
// it says that the log is damaged and what to do, with the status that systemd does not
// answer with a restart, and leaves the file alone.
func TestTornLog(t *testing.T) {
	t.Parallel()
	l := cluster(t, lab.Options{Args: quick})
	n := follower(t, l)
	must(t, n.Kill())
	path := filepath.Join(n.Dir, "raft", "raft.db")
	whole, err := os.ReadFile(path)
	must(t, err)
	page := 4096
	zeroed := func(from, to int) []byte {
		data := append([]byte{}, whole...)
		clear(data[from:to])
		return data
	}
	for name, data := range map[string][]byte{
		"empty pages":             zeroed(2*page, 6*page),
		"nothing":                 nil,
		"cut off in a page":       whole[:page+100],
		"cut off after two pages": whole[:2*page],
		"cut off in the middle":   whole[:len(whole)/2/page*page],
		"text":                    []byte(strings.Repeat("not a log\n", 2000)),
	} {
		t.Run(name, func(t *testing.T) {
			must(t, os.WriteFile(path, data, 0o600))
			must(t, n.Launch())
			wantExit(t, n, 78, "damaged")
			if now, err := os.ReadFile(path); err != nil || string(now) != string(data) {
				t.Errorf("the file was changed, %v", err)
			}
		})
	}
	must(t, os.WriteFile(path, whole, 0o600))
	must(t, n.Start(deadline(t, patience)))
	settle(t, l)
}
