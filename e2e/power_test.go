package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// ownDisks starts a cluster whose nodes have a disk each that can be slow and lose its power.
func ownDisks(t *testing.T, opts lab.Options) (*lab.Lab, map[string]*lab.Disk) {
	t.Helper()
	opts.Dir = filepath.Join(t.TempDir(), "nodes")
	must(t, os.Mkdir(opts.Dir, 0o700))
	disks := make(map[string]*lab.Disk)
	for i := range 3 {
		name, at := fmt.Sprintf("n%d", i+1), t.TempDir()
		d, err := lab.NewDisk(at, t.TempDir())
		must(t, err)
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		must(t, os.Mkdir(filepath.Join(at, "node"), 0o700))
		must(t, os.Symlink(filepath.Join(at, "node"), filepath.Join(opts.Dir, name)))
		disks[name] = d
	}
	return cluster(t, opts), disks
}

// TestPowerLoss takes all nodes their power while builds come in: what they had not
// synced is lost, in part, and what was accepted is built all the same.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	l, disks := ownDisks(t, lab.Options{Args: quick})
	c, r := anyNode(t, l), repository(t)
	sha := commit(t, r, small+"steps: [{command: sleep 0.3}]\n")
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0)) //nolint:gosec // any will do
	var all []fsm.BuildID
	for round := range 4 {
		ids := make([]fsm.BuildID, 24)
		var sender errgroup.Group
		for i := range ids {
			sender.Go(func() error {
				key := client.NewKey()
				return lab.Await(deadline(t, patience), "a build to be accepted", func(ctx context.Context) (bool, error) {
					b, err := create(ctx, c, r, sha, key)
					ids[i] = b.ID
					return err == nil, err
				})
			})
		}
		await(t, "builds to be accepted", func(ctx context.Context) (bool, error) {
			s, err := c.Status(ctx)
			return err == nil && s.Builds.Kept >= len(all)+6+2*round, err
		})
		for _, n := range l.Nodes {
			must(t, n.Crash())
		}
		for name, d := range disks {
			lost, err := d.CutPower(random)
			must(t, err)
			t.Logf("round %d: %s has lost %d writes", round+1, name, lost)
		}
		for _, n := range l.Nodes {
			must(t, n.Launch())
		}
		for _, n := range l.Nodes {
			must(t, n.Up(deadline(t, patience)))
		}
		must(t, sender.Wait())
		for _, id := range ids {
			wantStatus(t, ended(t, c, id), fsm.Passed)
		}
		all = append(all, slices.Sorted(slices.Values(ids))...)
		settle(t, l)
	}
	wantBuilds(t, l, all)
	wantAgreement(t, l)
}

// TestSlowDisk gives the leader, and then a follower, a disk that takes its time for each
// fsync: builds take longer, and that is all.
func TestSlowDisk(t *testing.T) {
	t.Parallel()
	l, disks := ownDisks(t, lab.Options{Args: slices.Concat(quick, []string{"--heartbeat", patientHeartbeat.String()})})
	for _, tt := range []struct {
		name string
		node func(*testing.T, *lab.Lab) *lab.Node
	}{{"the leader's", leader}, {"a follower's", follower}} {
		t.Run(tt.name, func(t *testing.T) {
			n, led := tt.node(t, l), leader(t, l)
			before := passes(t, led)
			disks[n.Name].Slow(400 * time.Millisecond)
			for range 3 {
				passes(t, led)
			}
			disks[n.Name].Slow(0)
			if after := passes(t, led); after != before {
				t.Errorf("the term went from %d to %d", before, after)
			}
			settle(t, l)
			wantAgreement(t, l)
		})
	}
}
