package executor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"

	"github.com/codepr/narwhal/supervise"
)

// capabilities are those that package managers need. All others are dropped.
var capabilities = []string{"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID", "NET_BIND_SERVICE"}

// minMemory is what a container gets at least, in bytes: the supervisor has to
// live in it too.
const minMemory = 32 << 20

// What a job's containers find.
const (
	superviseIn = "/narwhal/job"
	binaryIn    = "/narwhal/bin/narwhal"
	workspaceIn = "/narwhal/src"
)

// part is one of an attempt's containers.
type part struct {
	role, name string // a service's name, or a satellite's
	image      string
	config     container.Config
	mounts     []mount.Mount
	aliases    []string // host names in the attempt's own network
}

// setting is what all of an attempt's containers have in common.
type setting struct {
	t       Task
	engine  Engine
	images  map[string]picture
	network string
	group   string // the cgroup above them; empty for the engine's own
}

// create makes one of the attempt's containers.
func (d *Docker) create(ctx context.Context, s *setting, p part) (string, error) {
	config := p.config
	config.Image = p.image
	var name string
	name, config.Labels = d.identity(s.t, p)
	if config.Healthcheck == nil {
		config.Healthcheck = &container.HealthConfig{Test: []string{"NONE"}}
	}
	host := d.hostConfig(s)
	host.Mounts = p.mounts
	for _, path := range s.images[p.image].volumes {
		if !slices.ContainsFunc(p.mounts, func(m mount.Mount) bool { return m.Target == filepath.Clean(path) }) {
			host.Mounts = append(host.Mounts, mount.Mount{Type: mount.TypeVolume, Target: path,
				VolumeOptions: &mount.VolumeOptions{Labels: labels(s.t, roleVolume, "")}})
		}
	}
	var nets *network.NetworkingConfig
	if len(p.aliases) > 0 {
		nets = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{s.network: {Aliases: p.aliases}}}
	}
	made, err := d.api.ContainerCreate(ctx, &config, host, nets, nil, name)
	if err != nil {
		return "", fmt.Errorf("create container: %w", err)
	}
	for _, warning := range made.Warnings {
		d.log.Debug("engine warns", "attempt", s.t.Ref.String(), "warning", warning)
	}
	return made.ID, nil
}

// identity is the name and the labels of one of the attempt's containers, or of one
// that was made ahead and is nobody's yet.
func (d *Docker) identity(t Task, p part) (string, map[string]string) {
	switch p.role {
	case roleWarm:
		return d.warmName(p.name), map[string]string{
			labelCluster: t.Cluster, labelNode: string(t.Node), labelRole: roleWarm, labelSlot: p.name}
	case roleJob:
		return d.containerName(t), labels(t, p.role, p.name)
	default:
		return d.containerName(t) + "-" + p.role + "-" + p.name, labels(t, p.role, p.name)
	}
}

// containerName is the same for the same attempt, so that the engine refuses to
// run one twice.
func (d *Docker) containerName(t Task) string {
	return fmt.Sprintf("narwhal-%s-%s-%d-%s", d.cfg.Node, t.Ref.Job, t.Ref.N, t.Ref.Token)
}

// job is the container with the supervisor.
func (d *Docker) job(t Task) part {
	entry := []string{binaryIn, "supervise", superviseIn}
	if len(t.Secrets) > 0 {
		entry = slices.Insert(entry, 2, waitFlag)
	}
	return part{role: roleJob, image: t.Work.Spec.Image, mounts: d.mounts(t, true), config: container.Config{
		Entrypoint: entry,
		WorkingDir: workspaceIn,
		StopSignal: supervise.StopSignalName,
	}}
}

// hostConfig confines a container. Each has the job's limits: what they are
// together, the group above them holds, where there is one.
func (d *Docker) hostConfig(s *setting) *container.HostConfig {
	want := s.t.Work.Spec.Resources
	cpu := max(min(want.CPU, s.engine.CPU), 10) // the engine refuses what it doesn't have
	memory := memoryLimit(s.t)
	noInit := false // the supervisor reaps; docker-init isn't on every machine
	host := &container.HostConfig{
		NetworkMode: container.NetworkMode(s.network),
		// Output goes to the attempt's log. What the engine keeps is only what the
		// supervisor says when it can't even do that, and the end of what services say.
		LogConfig:   container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "64k", "max-file": "1"}},
		Init:        &noInit,
		CapDrop:     []string{"ALL"},
		CapAdd:      capabilities,
		SecurityOpt: []string{"no-new-privileges"},
		OomScoreAdj: 300,
		Resources: container.Resources{
			NanoCPUs: cpu * 1e6,
			// A quarter of the usual weight: narwhal goes before its builds.
			CPUShares:    min(max(cpu/4, 2), 262144),
			Memory:       memory,
			MemorySwap:   memory,
			PidsLimit:    &d.cfg.Pids,
			CgroupParent: s.group,
		},
	}
	if want.Disk > 0 && s.engine.DiskLimit {
		host.StorageOpt = map[string]string{"size": fmt.Sprint(want.Disk)}
	}
	return host
}

func memoryLimit(t Task) int64 { return max(t.Work.Spec.Resources.Memory, minMemory) }

// mounts are single files where the job must not put a link in the place of one
// that we read, and folders where it may put what it likes: nothing in those is
// ever followed.
func (d *Docker) mounts(t Task, main bool) []mount.Mount {
	bind := func(source, target string, readOnly bool) mount.Mount {
		return mount.Mount{Type: mount.TypeBind, Source: source, Target: target, ReadOnly: readOnly}
	}
	shared := func(name string, readOnly bool) mount.Mount {
		return bind(filepath.Join(t.Dir, name), filepath.Join(superviseIn, name), readOnly)
	}
	list := []mount.Mount{
		bind(d.cfg.Binary, binaryIn, true),
		bind(t.Workspace, workspaceIn, false),
		shared(supervise.SocketsDir, false),
	}
	if main {
		list = append(list, shared(supervise.SpecFile, true), shared(supervise.LogFile, false),
			shared(supervise.JournalFile, false), shared(supervise.InDir, true), shared(supervise.OutDir, false))
	}
	if t.ObjectsDir != "" {
		if _, err := os.Stat(t.ObjectsDir); err == nil {
			list = append(list, bind(t.ObjectsDir, t.ObjectsDir, true))
		}
	}
	return list
}
