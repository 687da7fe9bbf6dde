package main

import (
	"context"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
)

// image is one that scripts/images.sh makes: a static busybox.
const image = "narwhal/busybox:test"

// inContainer is the top of a narwhal.yml whose jobs run in image, with a whole
// processor: with a tenth of one the supervisor itself would wait for its turn.
const inContainer = "image: " + image + "\nresources: {cpu: 1, memory: 128Mi}\n"

// build builds a commit with this narwhal.yml and waits until it has passed.
func (b *bench) build(ctx context.Context, yml, key string) (api.Build, error) {
	sha, err := b.repo.Commit(key, map[string]string{"narwhal.yml": yml})
	if err != nil {
		return api.Build{}, err
	}
	made, err := b.trigger(ctx, sha, key)
	if err != nil {
		return made, err
	}
	return b.ended(ctx, made.ID)
}

// attempt is the last attempt of a build's first job.
func attempt(b api.Build) (fsm.JobID, api.Attempt, error) {
	for _, j := range b.Jobs {
		if n := len(j.Attempts); j.Kind == fsm.KindRun && n > 0 {
			return j.ID, j.Attempts[n-1], nil
		}
	}
	return fsm.JobID{}, api.Attempt{}, fmt.Errorf("build %d has no attempt", b.ID)
}

// steps compares what a step costs inside of a job, from the end of the one before
// to its own, with a bare fork of the same shell by the shell of that container.
func steps(ctx context.Context, b *bench) error {
	n := number("N", 300)
	say("a job of %d steps, and as many forks in one", n)
	yml := inContainer + "steps:\n" +
		fmt.Sprintf("  - {name: forks, command: 'i=0; while [ $i -lt %d ]; do sh -e -c true; i=$((i+1)); done'}\n", n)
	for i := range n {
		yml += fmt.Sprintf("  - {name: s%d, command: 'true'}\n", i)
	}
	var overhead, fork []float64
	for round := range number("ROUNDS", 5) {
		done, err := b.build(ctx, yml, fmt.Sprintf("steps-%d", round))
		if err != nil {
			return err
		}
		_, a, err := attempt(done)
		if err != nil {
			return err
		}
		bare := milliseconds(a.Steps[0].EndedAt.Sub(a.Steps[0].StartedAt)) / float64(n)
		fork = append(fork, bare)
		for i, s := range a.Steps[1:] {
			overhead = append(overhead, milliseconds(s.EndedAt.Sub(a.Steps[i].EndedAt))-bare)
		}
	}
	print("fork_p50_ms", percentile(fork, 50))
	print("step_overhead_p50_ms", percentile(overhead, 50))
	print("step_overhead_p99_ms", percentile(overhead, 99))
	return nil
}

// containers compares a one-step job, from its commit to passed, with a bare
// container through the engine's API, in turns.
func containers(ctx context.Context, b *bench) error {
	n := number("N", 40)
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return err
	}
	defer func() { _ = docker.Close() }()
	yml := inContainer + "steps: [{command: 'true'}]\n"
	for i := range 3 { // mirrors, connections, the node's network
		if _, err := b.build(ctx, yml, fmt.Sprintf("warm-%d", i)); err != nil {
			return err
		}
	}
	say("%d jobs and %d bare containers, in turns", n, n)
	var job, bare []float64
	for i := range n {
		took, err := bareContainer(ctx, docker)
		if err != nil {
			return err
		}
		bare = append(bare, milliseconds(took))
		sha, err := b.repo.Commit(fmt.Sprint("docker", i), map[string]string{"narwhal.yml": yml, "n": fmt.Sprint(i)})
		if err != nil {
			return err
		}
		made, err := b.trigger(ctx, sha, fmt.Sprintf("docker-%d", i))
		if err != nil {
			return err
		}
		accepted := time.Now()
		if _, err := b.ended(ctx, made.ID); err != nil {
			return err
		}
		job = append(job, milliseconds(time.Since(accepted)))
	}
	print("bare_p50_ms", percentile(bare, 50))
	print("passed_p50_ms", percentile(job, 50))
	print("ratio_p50", percentile(job, 50)/percentile(bare, 50))
	return nil
}

// bareContainer is the least that a container for a command costs.
func bareContainer(ctx context.Context, docker *client.Client) (time.Duration, error) {
	began := time.Now()
	made, err := docker.ContainerCreate(ctx, &container.Config{Image: image, Cmd: []string{"sh", "-c", "true"}}, nil, nil, nil, "")
	if err != nil {
		return 0, err
	}
	ends, errs := docker.ContainerWait(ctx, made.ID, container.WaitConditionNextExit)
	if err := docker.ContainerStart(ctx, made.ID, container.StartOptions{}); err != nil {
		return 0, err
	}
	select {
	case <-ends:
	case err := <-errs:
		return 0, err
	}
	err = docker.ContainerRemove(ctx, made.ID, container.RemoveOptions{})
	return time.Since(began), err
}

// cancel measures how long the processes of a job live after it was canceled: of one
// that ends at TERM, and of one that ignores it, for which there is the grace.
func cancel(ctx context.Context, b *bench) error {
	n := number("N", 20)
	say("%d jobs that end at TERM", n)
	handles, err := b.cancelAll(ctx, n, "handles", "sleep 600 & trap 'kill $!; exit 1' TERM; echo ready; wait")
	if err != nil {
		return err
	}
	print("gone_p50_s", percentile(handles, 50))
	print("gone_p95_s", percentile(handles, 95))
	n = number("IGNORING", 3)
	say("%d jobs that ignore TERM", n)
	ignores, err := b.cancelAll(ctx, n, "ignores", "trap '' TERM; echo ready; while true; do sleep 1; done")
	if err != nil {
		return err
	}
	print("ignored_gone_p95_s", percentile(ignores, 95))
	return nil
}

func (b *bench) cancelAll(ctx context.Context, n int, key, command string) ([]float64, error) {
	yml := inContainer + fmt.Sprintf("steps: [{command: %q}]\n", command)
	sha, err := b.repo.Commit(key, map[string]string{"narwhal.yml": yml})
	if err != nil {
		return nil, err
	}
	var gone []float64
	for i := range n {
		made, err := b.trigger(ctx, sha, fmt.Sprintf("%s-%d", key, i))
		if err != nil {
			return nil, err
		}
		job := fsm.JobID{Build: made.ID, Seq: 1}
		if err := b.printed(ctx, made.ID, job, "ready"); err != nil {
			return nil, err
		}
		asked := time.Now()
		if _, err := b.client.CancelBuild(ctx, made.ID); err != nil {
			return nil, err
		}
		// The build ends once its node has found the container gone.
		if err := b.client.FollowBuild(ctx, made.ID, func(api.Build) error { return nil }); err != nil {
			return nil, err
		}
		gone = append(gone, time.Since(asked).Seconds())
	}
	return gone, nil
}
