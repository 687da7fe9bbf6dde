package executor_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog"
	"github.com/codepr/narwhal/supervise"
)

// medians reports the median besides the mean: engines have slow days.
func medians(b *testing.B, op func() error) {
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		if err := op(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1e3, "p50-ms")
}

func runOnce(b *testing.B, k *kit, t *testing.T) error {
	task := k.task(t, "true")
	run, err := k.ex.Start(b.Context(), task)
	if err != nil {
		return err
	}
	o, err := run.Wait(b.Context())
	if err == nil && o.Status != fsm.Passed {
		b.Fatalf("%+v", o)
	}
	return err
}

// BenchmarkProcess is a job of one step by the process executor, its folders
// included.
func BenchmarkProcess(b *testing.B) {
	k := &kit{node: newNode(), attempts: b.TempDir()}
	p := executor.NewProcess(executor.ProcessConfig{Node: k.node}, slog.New(slog.DiscardHandler))
	defer func() { _ = p.Close() }()
	k.ex = p
	medians(b, func() error { return runOnce(b, k, new(testing.T)) })
}

// BenchmarkDocker compares a job of one step with the bare container that the
// engine makes for the same command.
func BenchmarkDocker(b *testing.B) {
	b.Run("bare", func(b *testing.B) {
		c, err := client.NewClientWithOpts(client.WithAPIVersionNegotiation())
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		medians(b, func() error { return bare(b.Context(), c) })
	})
	b.Run("job", func(b *testing.B) {
		k := &kit{node: newNode(), attempts: b.TempDir()}
		cfg := executor.DockerConfig{Binary: supervisor, Cluster: cluster, Node: k.node}
		d, err := executor.NewDocker(cfg, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
		if err != nil {
			b.Fatal(err)
		}
		k.ex = d
		medians(b, func() error { return runOnce(b, k, new(testing.T)) })
		if err := d.RemoveNetwork(context.Background()); err != nil {
			b.Error(err)
		}
		if err := d.Close(); err != nil {
			b.Error(err)
		}
	})
}

// bare is a container on the engine's own bridge, without any of our settings.
func bare(ctx context.Context, c *client.Client) error {
	made, err := c.ContainerCreate(ctx, &container.Config{Image: busybox, Cmd: []string{"sh", "-c", "true"}}, nil, nil, nil, "")
	if err != nil {
		return err
	}
	if err := c.ContainerStart(ctx, made.ID, container.StartOptions{}); err != nil {
		return err
	}
	ends, errs := c.ContainerWait(ctx, made.ID, container.WaitConditionNotRunning)
	select {
	case <-ends:
	case err := <-errs:
		return err
	}
	return c.ContainerRemove(ctx, made.ID, container.RemoveOptions{})
}

// BenchmarkDockerStart is from the call of Start to the first step's first word, in
// turns of a container that is made then and of one that was made ahead, and from
// there to the end of the job, with the engine's work on what goes.
func BenchmarkDockerStart(b *testing.B) {
	dir, t := b.TempDir(), new(testing.T)
	k := &kit{node: newNode(), attempts: filepath.Join(dir, "attempts")}
	d, err := executor.NewDocker(executor.DockerConfig{Binary: supervisor, Cluster: cluster, Node: k.node, Warm: 1,
		WarmDir: filepath.Join(dir, "warm")}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	k.ex = d
	defer func() {
		if err := errors.Join(d.RemoveNetwork(context.Background()), d.Close()); err != nil {
			b.Error(err)
		}
	}()
	if err := runOnce(b, k, t); err != nil {
		b.Fatal(err)
	}
	starts, wholes := make(map[bool][]time.Duration), make(map[bool][]time.Duration)
	for b.Loop() {
		for _, k.warm = range []bool{true, false} {
			task := k.task(t, "echo up")
			if !k.warm { // the same quiet: the one that is ready waits
				other := k.task(t, "true")
				_ = os.RemoveAll(other.Dir)
				release := k.prepare(t, other)
				start, whole := startOnce(b, k, task)
				starts[false], wholes[false] = append(starts[false], start), append(wholes[false], whole)
				release()
				continue
			}
			start, whole := startOnce(b, k, task)
			starts[true], wholes[true] = append(starts[true], start), append(wholes[true], whole)
		}
	}
	for warm, word := range map[bool]string{true: "warm", false: "cold"} {
		b.ReportMetric(median(starts[warm]), word+"-start-p50-ms")
		b.ReportMetric(median(wholes[warm]), word+"-job-p50-ms")
	}
}

func startOnce(b *testing.B, k *kit, task executor.Task) (start, whole time.Duration) {
	began := time.Now()
	run, err := k.ex.Start(b.Context(), task)
	if err != nil {
		b.Fatal(err)
	}
	for line, err := range joblog.Follow(b.Context(), filepath.Join(task.Dir, supervise.LogFile), 0, nil) {
		if err != nil {
			b.Fatal(err)
		}
		if line.Step >= 0 && line.Text == "up" {
			break
		}
	}
	start = time.Since(began)
	o, err := run.Wait(b.Context())
	if err != nil || o.Status != fsm.Passed {
		b.Fatalf("%+v, %v", o, err)
	}
	return start, time.Since(began)
}

func median(took []time.Duration) float64 {
	slices.Sort(took)
	return float64(took[len(took)/2].Microseconds()) / 1e3
}
