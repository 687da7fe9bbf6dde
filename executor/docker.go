package executor

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"
	"golang.org/x/sync/singleflight"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/supervise"
)

// DockerConfig is the operator's.
type DockerConfig struct {
	// Host is the engine's address; empty for the usual socket. The engine must be
	// on this machine, as folders are mounted from here.
	Host string
	// Binary is this program, statically linked: it is mounted into containers and
	// run as `narwhal supervise DIR`.
	Binary  string
	Cluster string
	Node    fsm.NodeID

	Grace    time.Duration // between TERM and KILL; 10 s where 0
	LogLimit int64         // of a job in bytes; 64 MiB where 0
	Pids     int64         // processes and threads of a container; 2048 where 0
}

// Docker runs each attempt in a container of its own. The container belongs to
// the engine and goes on when narwhal ends.
type Docker struct {
	cfg    DockerConfig
	log    *slog.Logger
	api    *client.Client
	pulls  singleflight.Group
	engine func(context.Context) (Engine, error)

	network sync.Mutex // held while the node's network is looked for or made
}

var _ Executor = (*Docker)(nil)

const (
	superviseIn = "/narwhal/job"
	binaryIn    = "/narwhal/bin/narwhal"
	workspaceIn = "/narwhal/src"
)

// NewDocker makes one. It doesn't talk to the engine yet.
func NewDocker(cfg DockerConfig, log *slog.Logger) (*Docker, error) {
	switch {
	case cfg.Node == "" || cfg.Cluster == "":
		return nil, errors.New("docker executor: it needs the cluster's and the node's ID")
	case !filepath.IsAbs(cfg.Binary):
		return nil, fmt.Errorf("docker executor: the program's path %q is not absolute", cfg.Binary)
	}
	if err := checkStatic(cfg.Binary); err != nil {
		return nil, fmt.Errorf("docker executor: %w", err)
	}
	if cfg.Grace == 0 {
		cfg.Grace = supervise.DefaultGrace
	}
	if cfg.Pids == 0 {
		cfg.Pids = 2048
	}
	api, err := connect(cfg.Host)
	if err != nil {
		return nil, err
	}
	d := &Docker{cfg: cfg, log: log, api: api}
	d.engine = d.rememberEngine()
	return d, nil
}

// checkStatic refuses a program that would not start in an image without the
// libraries that it was linked with.
func checkStatic(path string) error {
	program, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("read program %s: %w", path, err)
	}
	defer func() { _ = program.Close() }()
	for _, segment := range program.Progs {
		if segment.Type == elf.PT_INTERP {
			return fmt.Errorf("program %s is dynamically linked, and would not start in every image: build it with CGO_ENABLED=0", path)
		}
	}
	return nil
}

// Name is "docker".
func (d *Docker) Name() string { return "docker" }

// Close drops the connections to the engine. Containers go on.
func (d *Docker) Close() error { return d.api.Close() }

// Start pulls the image if it isn't there, and starts the container.
func (d *Docker) Start(ctx context.Context, t Task) (Run, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	user, failed, err := d.image(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("start attempt %s: %w", t.Ref, err)
	}
	if failed != nil {
		return ended{*failed}, nil
	}
	if err := d.prepare(t, user); err != nil {
		return nil, fmt.Errorf("start attempt %s: %w", t.Ref, err)
	}
	if err := d.ensureNetwork(ctx); err != nil {
		return nil, fmt.Errorf("start attempt %s: %w", t.Ref, err)
	}
	id, err := d.create(ctx, t)
	if err != nil {
		d.forget(ctx, t)
		return nil, fmt.Errorf("start attempt %s: %w", t.Ref, err)
	}
	if err := d.api.ContainerStart(ctx, id, container.StartOptions{}); err != nil {
		return d.notStarted(ctx, t, id, err)
	}
	return &dockerRun{d: d, t: t, id: id}, nil
}

// forget removes the container that the engine may have made all the same when
// the one who wanted it did not wait for the answer.
func (d *Docker) forget(ctx context.Context, t Task) {
	if ctx.Err() == nil {
		return
	}
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := d.remove(cleanup, d.containerName(t)); err != nil {
		d.log.Warn("remove container that was not waited for", "attempt", t.Ref.String(), "error", err)
	}
}

// notStarted tells a container that can't be started from an engine that can't
// be asked.
func (d *Docker) notStarted(ctx context.Context, t Task, id string, err error) (Run, error) {
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if removed := d.remove(cleanup, id); removed != nil || client.IsErrConnectionFailed(err) || ctx.Err() != nil {
		return nil, fmt.Errorf("start attempt %s: %w", t.Ref, errors.Join(err, removed))
	}
	return ended{fsm.Outcome{Status: fsm.Errored, Message: "the container could not be started: " + err.Error()}}, nil
}

// prepare lays out what the container finds of the attempt's folder: single
// files, so that the job can't put a link in the place of one that we read.
func (d *Docker) prepare(t Task, user string) error {
	for _, path := range []string{t.log(), t.journal()} {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o666)
		if err != nil {
			return err
		}
		// The umask took what the container's user needs.
		if err := errors.Join(file.Chmod(0o666), file.Close()); err != nil {
			return err
		}
	}
	below := []string{"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"}
	spec := task(t, workspaceIn, below, d.cfg.Grace, d.cfg.LogLimit)
	spec.Where = "image " + t.Work.Spec.Image
	spec.Install = true
	spec.OOMScore = 900
	spec.MemoryLimit = bytesText(memoryLimit(t))
	spec.Marks = nil // the container's end is the end of all in it
	if err := supervise.WriteSpec(t.Dir, spec); err != nil {
		return err
	}
	if isRoot(user) {
		return nil
	}
	return openTo(t.Workspace)
}

// openTo lets every user work in the checkout, for images whose user isn't root.
// No step has run yet, so what it finds is git's.
func openTo(workspace string) error {
	return filepath.WalkDir(workspace, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o666
		if entry.IsDir() || mode&0o100 != 0 {
			mode |= 0o111
		}
		return os.Chmod(path, mode)
	})
}

// Adopt finds the attempt's container by its labels.
func (d *Docker) Adopt(ctx context.Context, t Task) (Run, error) {
	args := filters.NewArgs()
	for key, value := range labels(t) {
		args.Add("label", key+"="+value)
	}
	found, err := d.api.ContainerList(ctx, container.ListOptions{All: true, Filters: args})
	if err != nil {
		return nil, fmt.Errorf("adopt attempt %s: %w", t.Ref, err)
	}
	records, err := supervise.ReadJournal(t.journal())
	if err != nil {
		return nil, fmt.Errorf("adopt attempt %s: %w", t.Ref, err)
	}
	if len(found) == 0 {
		if _, ok := supervise.Outcome(records); ok { // it ended, and was removed
			return ended{d.verdict(t, records, nil)}, nil
		}
		return nil, fmt.Errorf("adopt attempt %s: %w", t.Ref, ErrGone)
	}
	if found[0].State == container.StateCreated { // narwhal ended between creating and starting it
		if err := d.api.ContainerStart(ctx, found[0].ID, container.StartOptions{}); err != nil {
			return d.notStarted(ctx, t, found[0].ID, err)
		}
	}
	return &dockerRun{d: d, t: t, id: found[0].ID}, nil
}

// Sweep removes this cluster's and node's containers that keep doesn't name.
func (d *Docker) Sweep(ctx context.Context, keep func(fsm.AttemptRef) bool) error {
	found, err := d.api.ContainerList(ctx, container.ListOptions{All: true, Filters: d.ours()})
	if err != nil {
		return fmt.Errorf("sweep containers: %w", err)
	}
	var errs []error
	for _, c := range found {
		ref, err := parseRef(c.Labels[labelJob], c.Labels[labelAttempt], c.Labels[labelToken])
		if err == nil && keep(ref) {
			continue
		}
		d.log.Info("remove container that no attempt owns", "container", c.ID[:12], "attempt", c.Labels[labelJob]+"#"+c.Labels[labelAttempt])
		errs = append(errs, d.remove(ctx, c.ID))
	}
	return errors.Join(errs...)
}

// remove ends and removes a container, with the volumes that only it has.
func (d *Docker) remove(ctx context.Context, id string) error {
	err := d.api.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if err == nil || errdefs.IsNotFound(err) || errdefs.IsConflict(err) && ctx.Err() == nil {
		return nil // a conflict says that it is being removed already
	}
	return fmt.Errorf("remove container %.12s: %w", id, err)
}
