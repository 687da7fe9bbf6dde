package executor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"

	"github.com/codepr/narwhal/supervise"
)

// capabilities are those that package managers need. All others are dropped.
var capabilities = []string{"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID", "NET_BIND_SERVICE"}

// minMemory is what a container gets at least, in bytes: the supervisor has to
// live in it too.
const minMemory = 32 << 20

// create makes the attempt's container.
func (d *Docker) create(ctx context.Context, t Task) (string, error) {
	engine, err := d.engine(ctx)
	if err != nil {
		return "", err
	}
	config := &container.Config{
		Image:       t.Work.Spec.Image,
		Entrypoint:  []string{binaryIn, "supervise", superviseIn},
		WorkingDir:  workspaceIn,
		Labels:      labels(t),
		StopSignal:  "SIGTERM",
		Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
	}
	made, err := d.api.ContainerCreate(ctx, config, d.hostConfig(t, engine), nil, nil, d.containerName(t))
	if err != nil {
		return "", fmt.Errorf("create container: %w", err)
	}
	for _, warning := range made.Warnings {
		d.log.Debug("engine warns", "attempt", t.Ref.String(), "warning", warning)
	}
	return made.ID, nil
}

// containerName is the same for the same attempt, so that the engine refuses to
// run one twice.
func (d *Docker) containerName(t Task) string {
	return fmt.Sprintf("narwhal-%s-%s-%d-%s", d.cfg.Node, t.Ref.Job, t.Ref.N, t.Ref.Token)
}

func (d *Docker) hostConfig(t Task, engine Engine) *container.HostConfig {
	want := t.Work.Spec.Resources
	cpu := max(min(want.CPU, engine.CPU), 10) // the engine refuses what it doesn't have
	memory := memoryLimit(t)
	noInit := false // the supervisor reaps; docker-init isn't on every machine
	return &container.HostConfig{
		Mounts:      d.mounts(t),
		NetworkMode: container.NetworkMode(d.networkName()),
		// Output goes to the attempt's log. What the engine keeps is only what the
		// supervisor says when it can't even do that.
		LogConfig:   container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "64k", "max-file": "1"}},
		Init:        &noInit,
		CapDrop:     []string{"ALL"},
		CapAdd:      capabilities,
		SecurityOpt: []string{"no-new-privileges"},
		OomScoreAdj: 300,
		Resources: container.Resources{
			NanoCPUs: cpu * 1e6,
			// A quarter of the usual weight: narwhal goes before its builds.
			CPUShares:  min(max(cpu/4, 2), 262144),
			Memory:     memory,
			MemorySwap: memory,
			PidsLimit:  &d.cfg.Pids,
		},
	}
}

func memoryLimit(t Task) int64 { return max(t.Work.Spec.Resources.Memory, minMemory) }

func (d *Docker) mounts(t Task) []mount.Mount {
	bind := func(source, target string, readOnly bool) mount.Mount {
		return mount.Mount{Type: mount.TypeBind, Source: source, Target: target, ReadOnly: readOnly}
	}
	in := func(name string) string { return filepath.Join(superviseIn, name) }
	list := []mount.Mount{
		bind(d.cfg.Binary, binaryIn, true),
		bind(filepath.Join(t.Dir, supervise.SpecFile), in(supervise.SpecFile), true),
		bind(t.log(), in(supervise.LogFile), false),
		bind(t.journal(), in(supervise.JournalFile), false),
		bind(t.Workspace, workspaceIn, false),
	}
	if t.ObjectsDir != "" {
		if _, err := os.Stat(t.ObjectsDir); err == nil {
			list = append(list, bind(t.ObjectsDir, t.ObjectsDir, true))
		}
	}
	return list
}

// networkName is the node's bridge. One for all its jobs, since the engine's usual
// address pools are enough for 31; they can't reach each other on it.
func (d *Docker) networkName() string { return "narwhal-" + string(d.cfg.Node) }

func (d *Docker) ensureNetwork(ctx context.Context) error {
	d.network.Lock()
	defer d.network.Unlock()
	_, err := d.api.NetworkInspect(ctx, d.networkName(), network.InspectOptions{})
	if err == nil {
		return nil
	}
	if !errdefs.IsNotFound(err) {
		return fmt.Errorf("look for network: %w", err)
	}
	_, err = d.api.NetworkCreate(ctx, d.networkName(), network.CreateOptions{
		Driver: "bridge",
		Options: map[string]string{
			"com.docker.network.bridge.enable_icc": "false",
		},
		Labels: map[string]string{labelCluster: d.cfg.Cluster, labelNode: string(d.cfg.Node)},
	})
	switch {
	case err == nil || errdefs.IsConflict(err):
		return nil
	case strings.Contains(err.Error(), "non-overlapping"):
		return fmt.Errorf("create network: the engine has no addresses left for one more; "+
			"remove unused networks or give it more with default-address-pools: %w", err)
	default:
		return fmt.Errorf("create network: %w", err)
	}
}

// RemoveNetwork removes the node's network where no container of the node's is
// left, also none that an adopting process would start. It is for a process that
// ends: nobody else would ever do it, and the next Start makes it again.
func (d *Docker) RemoveNetwork(ctx context.Context) error {
	left, err := d.api.ContainerList(ctx, container.ListOptions{All: true, Filters: d.ours()})
	if err != nil {
		return fmt.Errorf("remove network: %w", err)
	}
	if len(left) > 0 {
		return nil
	}
	err = d.api.NetworkRemove(ctx, d.networkName())
	if err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("remove network: %w", err)
}

// ours matches what has this cluster's and node's labels.
func (d *Docker) ours() filters.Args {
	return filters.NewArgs(
		filters.Arg("label", labelCluster+"="+d.cfg.Cluster),
		filters.Arg("label", labelNode+"="+string(d.cfg.Node)),
	)
}
