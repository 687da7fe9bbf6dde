package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// failover kills the leader N times with 200 jobs queued and running, and looks
// when the next job is placed. The killed node is started again before the next
// round.
func failover(ctx context.Context, b *bench) error {
	const jobs = 200
	rounds := number("N", 20)
	sha, err := b.repo.Commit("first", map[string]string{
		// Twelve at a time on two cores a node: the queue outlasts the election.
		"narwhal.yml": "name: slow\nresources: {cpu: 500m, memory: 16Mi}\nsteps:\n  - command: sleep 0.2; echo $NARWHAL_JOB $NARWHAL_ATTEMPT >> " + b.ran() + "\n",
	})
	if err != nil {
		return err
	}
	if err := b.warm(ctx, sha); err != nil {
		return err
	}
	var dispatch []float64
	lost, doubled := 0, 0
	for round := range rounds {
		after, l, d, err := b.killLeader(ctx, sha, round, jobs)
		if err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		say("round %d: dispatching again after %s, lost %d, doubled %d", round+1, after.Round(time.Millisecond), l, d)
		dispatch = append(dispatch, after.Seconds())
		lost, doubled = lost+l, doubled+d
	}
	print("dispatch_p50_s", percentile(dispatch, 50))
	print("dispatch_p95_s", percentile(dispatch, 95))
	print("dispatch_max_s", percentile(dispatch, 100))
	print("lost", float64(lost))
	print("doubled", float64(doubled))
	return nil
}

func (b *bench) killLeader(ctx context.Context, sha string, round, jobs int) (after time.Duration, lost, doubled int, err error) {
	clients, inner := errgroup.WithContext(ctx)
	clients.SetLimit(16)
	ids := make([]fsm.BuildID, jobs)
	for i := range jobs {
		clients.Go(func() error {
			made, err := b.trigger(inner, sha, fmt.Sprintf("failover-%d-%d", round, i))
			ids[i] = made.ID
			return err
		})
	}
	if err := clients.Wait(); err != nil {
		return 0, 0, 0, err
	}
	leader, err := b.lab.Leader(ctx)
	if err != nil {
		return 0, 0, 0, err
	}
	killed := time.Now()
	if err := leader.Kill(); err != nil {
		return 0, 0, 0, err
	}
	if b.client, err = b.lab.Client(); err != nil {
		return 0, 0, 0, err
	}
	if err := b.placedAfter(ctx, killed); err != nil {
		return 0, 0, 0, err
	}
	if err := leader.Start(ctx); err != nil {
		return 0, 0, 0, err
	}
	if err := b.drained(ctx); err != nil {
		return 0, 0, 0, err
	}
	if err := b.lab.Settle(ctx); err != nil {
		return 0, 0, 0, err
	}
	builds, err := b.read(ctx, ids)
	if err != nil {
		return 0, 0, 0, err
	}
	again, err := b.repeated(jobs)
	if err != nil {
		return 0, 0, 0, err
	}
	v := lab.Judge(builds, killed)
	for _, l := range v.Lost {
		say("build %d %s: %s", l.ID, l.Status, l.Reason)
	}
	return v.Next, len(v.Lost), v.Doubled + again, nil
}

// placedAfter waits until a job has been placed after the kill.
func (b *bench) placedAfter(ctx context.Context, killed time.Time) error {
	for {
		page, err := b.client.Jobs(ctx, runningJobs)
		if err == nil {
			for _, j := range page.Jobs {
				if a := j.Attempts; len(a) > 0 && a[len(a)-1].AssignedAt.After(killed) {
					return nil
				}
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("wait for a placement after the kill: %w", ctx.Err())
		}
	}
}

func (b *bench) read(ctx context.Context, ids []fsm.BuildID) ([]api.Build, error) {
	out := make([]api.Build, 0, len(ids))
	for _, id := range ids {
		v, err := b.client.Build(ctx, id)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// repeated counts the attempts that ran their step more than once, by what the steps
// themselves wrote down. A job may run again as another attempt: the first one's
// node was killed.
func (b *bench) repeated(jobs int) (n int, err error) {
	data, err := os.ReadFile(b.ran())
	if err != nil {
		return 0, err
	}
	times := make(map[string]int)
	for line := range strings.Lines(string(data)) {
		if times[line]++; times[line] > 1 {
			n++
		}
	}
	if len(times) < jobs {
		return 0, fmt.Errorf("%d jobs passed, and only %d attempts wrote that they ran", jobs, len(times))
	}
	return n, os.Truncate(b.ran(), 0)
}

// ran is the file that each step adds its attempt to.
func (b *bench) ran() string { return filepath.Join(b.dir, "ran") }

// starved keeps all cores busy in builds for SECONDS and counts the elections.
func starved(ctx context.Context, b *bench) error {
	seconds := number("SECONDS", 60)
	sha, err := b.repo.Commit("busy", map[string]string{
		"narwhal.yml": fmt.Sprintf("name: busy\nresources: {cpu: 1, memory: 16Mi}\nsteps:\n  - command: end=$(( $(date +%%s) + %d )); while [ $(date +%%s) -lt $end ]; do :; done\n", seconds),
	})
	if err != nil {
		return err
	}
	before := b.leaderships()
	var ids []fsm.BuildID
	for i := range 2 * len(b.lab.Nodes) {
		made, err := b.trigger(ctx, sha, fmt.Sprintf("busy-%d", i))
		if err != nil {
			return err
		}
		ids = append(ids, made.ID)
	}
	say("%d busy builds for %d s", len(ids), seconds)
	for _, id := range ids {
		if _, err := b.ended(ctx, id); err != nil {
			return err
		}
	}
	print("elections", float64(b.leaderships()-before))
	return nil
}

// leaderships counts how often a node of the cluster came to lead, by its log.
func (b *bench) leaderships() int {
	n := 0
	for _, node := range b.lab.Nodes {
		n += strings.Count(node.Log(), "this node leads\"")
	}
	return n
}
