package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
)

// latency builds N distinct commits one after the other: from the moment that
// the commit was accepted, as the client saw it, to the start of its step's
// process and to the event that it has passed. Client and nodes share a clock.
func latency(ctx context.Context, b *bench) error {
	n := number("N", 200)
	if _, err := b.repo.Commit("first", file("true", "")); err != nil {
		return err
	}
	shas, err := b.repo.Commits(n + 1)
	if err != nil {
		return err
	}
	if err := b.warm(ctx, shas[0]); err != nil {
		return err
	}
	say("%d commits, one after the other", n)
	var start, passed []float64
	for i, sha := range shas[1:] {
		made, err := b.trigger(ctx, sha, fmt.Sprintf("latency-%d", i))
		if err != nil {
			return err
		}
		accepted := time.Now()
		done, err := b.ended(ctx, made.ID)
		if err != nil {
			return err
		}
		passed = append(passed, milliseconds(time.Since(accepted)))
		first, err := firstStep(done)
		if err != nil {
			return err
		}
		start = append(start, max(0, milliseconds(first.Sub(accepted))))
	}
	print("start_p50_ms", percentile(start, 50))
	print("start_p99_ms", percentile(start, 99))
	print("passed_p50_ms", percentile(passed, 50))
	print("passed_p99_ms", percentile(passed, 99))
	return nil
}

func firstStep(b api.Build) (time.Time, error) {
	for _, j := range b.Jobs {
		if j.Kind == fsm.KindRun && len(j.Attempts) > 0 && len(j.Attempts[0].Steps) > 0 {
			return j.Attempts[0].Steps[0].StartedAt, nil
		}
	}
	return time.Time{}, fmt.Errorf("build %d tells of no step", b.ID)
}

// throughput has 16 clients start N builds: of distinct commits, and again of one
// commit whose file skips the checkout. The time is to the last one passed.
func throughput(ctx context.Context, b *bench) error {
	n := number("N", 500)
	if _, err := b.repo.Commit("first", file("true", "")); err != nil {
		return err
	}
	shas, err := b.repo.Commits(n + 1)
	if err != nil {
		return err
	}
	if err := b.warm(ctx, shas[0]); err != nil {
		return err
	}
	say("%d distinct commits from 16 clients", n)
	rate, err := b.flood(ctx, shas[1:], "distinct")
	if err != nil {
		return err
	}
	print("builds_per_s", rate)

	again, err := b.repo.Commit("skip", file("true", "clone: {skip: true}\n"))
	if err != nil {
		return err
	}
	if err := b.warm(ctx, again); err != nil {
		return err
	}
	same := make([]string, n)
	for i := range same {
		same[i] = again
	}
	say("%d builds of one commit without checkout", n)
	if rate, err = b.flood(ctx, same, "noclone"); err != nil {
		return err
	}
	print("noclone_builds_per_s", rate)
	return nil
}

// flood starts a build for each SHA and returns how many passed in a second.
func (b *bench) flood(ctx context.Context, shas []string, name string) (float64, error) {
	clients, inner := errgroup.WithContext(ctx)
	clients.SetLimit(16)
	began := time.Now()
	oldest, err := b.trigger(ctx, shas[0], name+"-0")
	if err != nil {
		return 0, err
	}
	for i, sha := range shas[1:] {
		clients.Go(func() error {
			_, err := b.trigger(inner, sha, fmt.Sprintf("%s-%d", name, i+1))
			return err
		})
	}
	if err := clients.Wait(); err != nil {
		return 0, err
	}
	say("all accepted after %s", time.Since(began).Round(time.Millisecond))
	if err := b.drained(ctx); err != nil {
		return 0, err
	}
	elapsed := time.Since(began)
	builds, err := b.all(ctx, oldest.ID)
	if err != nil {
		return 0, err
	}
	for _, v := range builds {
		if v.Status != fsm.Passed {
			return 0, fmt.Errorf("build %d %s: %s", v.ID, v.Status, v.Reason)
		}
	}
	if len(builds) != len(shas) {
		return 0, fmt.Errorf("%d builds for %d commits", len(builds), len(shas))
	}
	return float64(len(shas)) / elapsed.Seconds(), nil
}
