package executor_test

import (
	"context"
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
	b.Run("warm", func(b *testing.B) {
		c, err := client.NewClientWithOpts(client.WithAPIVersionNegotiation())
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		var took []time.Duration
		for b.Loop() {
			d, err := warm(b.Context(), c, b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			took = append(took, d)
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds())/1e3, "p50-ms")
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

// warm is what a container costs that was created and started ahead and waits for
// its command in a folder: from the moment that it is given that.
func warm(ctx context.Context, c *client.Client, dir string) (time.Duration, error) {
	config := &container.Config{Image: busybox, Cmd: []string{"sh", "-c", "until [ -e /job/go ]; do sleep 0.001; done; sh -c true"}}
	host := &container.HostConfig{Binds: []string{dir + ":/job"}}
	made, err := c.ContainerCreate(ctx, config, host, nil, nil, "")
	if err != nil {
		return 0, err
	}
	if err := c.ContainerStart(ctx, made.ID, container.StartOptions{}); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		return 0, err
	}
	ends, errs := c.ContainerWait(ctx, made.ID, container.WaitConditionNotRunning)
	select {
	case <-ends:
	case err := <-errs:
		return 0, err
	}
	err = c.ContainerRemove(ctx, made.ID, container.RemoveOptions{})
	return time.Since(began), err
}
