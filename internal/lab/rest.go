package lab

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/supervise"
)

// Leftovers names what is there of attempts: their processes, and of their folders all but
// the log and the journal. It is for a cluster of the process executor at rest, in which no
// attempt lives.
func (l *Lab) Leftovers() (left []string, err error) {
	procs, err := supervise.Processes()
	if err != nil {
		return nil, err
	}
	for _, n := range l.Nodes {
		for _, p := range procs {
			if n.owns(p) {
				left = append(left, fmt.Sprintf("process %d of %s", p.Pid, n.Name))
			}
		}
		files, err := filepath.Glob(filepath.Join(n.Dir, "attempts", "*", "*"))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			if base := filepath.Base(file); base != "log" && base != "journal" {
				left = append(left, file)
			}
		}
	}
	return left, nil
}

// Diverged counts the voters whose state is another than the leader's.
func (l *Lab) Diverged(ctx context.Context) (int, error) {
	leader, err := l.Leader(ctx)
	if err != nil {
		return 0, err
	}
	first, err := leader.Client()
	if err != nil {
		return 0, err
	}
	nodes, err := first.Nodes(ctx)
	if err != nil {
		return 0, err
	}
	var others []*client.Client
	for _, m := range nodes {
		n := l.byID(m.ID)
		if m.Role != "voter" || n == nil || n == leader {
			continue
		}
		c, err := n.Client()
		if err != nil {
			return 0, err
		}
		others = append(others, c)
	}
	return Diverged(ctx, first, others)
}

// Diverged waits until nodes that hold the log have applied the same entries, and counts
// those whose state is another than the first one's.
func Diverged(ctx context.Context, first *client.Client, others []*client.Client) (different int, err error) {
	err = Await(ctx, "all voters to be at one index", func(ctx context.Context) (bool, error) {
		want, err := first.Copy(ctx)
		if err != nil {
			return false, err
		}
		different = 0
		for i, c := range others {
			got, err := c.Copy(ctx)
			if err != nil {
				return false, err
			}
			if got.Index != want.Index { // something was written meanwhile, or it is a moment behind
				return false, fmt.Errorf("voter %d is at index %d, the leader was at %d", i+1, got.Index, want.Index)
			}
			if got.Hash != want.Hash {
				different++
			}
		}
		return true, nil
	})
	return different, err
}
