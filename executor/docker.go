package executor

import (
	"cmp"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"golang.org/x/sync/singleflight"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
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

	// Dir is for the record of images; where it is empty the record is lost when
	// narwhal ends, and with it which images Tidy may remove.
	Dir string
	// ServicePool is where networks get their addresses, IPv4 and at most a /21:
	// DefaultPool where it is not set. An attempt with services takes a /28 of it.
	ServicePool netip.Prefix
	// PullPolicy is PullIfNotPresent where it is empty.
	PullPolicy PullPolicy
	// SecretDir is a folder in memory where versions of narwhal before this one left
	// secrets: /run or /dev/shm where it is empty. It is only tidied.
	SecretDir string

	// Warm is how many containers are made ahead for an image that is in use; 0 is
	// none. Their folders are in WarmDir, on the attempts' file system. None is made
	// while the node's jobs have all of Offer; 0 of that is any.
	Warm    int
	WarmDir string
	Offer   pipeline.Resources

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
	turns  turns
	engine func(context.Context) (Engine, error)

	nets    networks
	store   *imageStore
	intents *intents
	tidying sync.RWMutex // held to write while an image goes
	secrets secretDir
	cgroups cgroups
	warm    *warmPool
}

var _ Executor = (*Docker)(nil)

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
		cfg.Pids = DefaultPids
	}
	if !cfg.ServicePool.IsValid() {
		cfg.ServicePool = DefaultPool
	}
	cfg.PullPolicy = cmp.Or(cfg.PullPolicy, PullIfNotPresent)
	if err := errors.Join(CheckPool(cfg.ServicePool), cfg.PullPolicy.Validate()); err != nil {
		return nil, fmt.Errorf("docker executor: %w", err)
	}
	return openDocker(cfg, log)
}

func openDocker(cfg DockerConfig, log *slog.Logger) (*Docker, error) {
	store, err := openStore(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("docker executor: %w", err)
	}
	intents, err := openIntents(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("docker executor: %w", err)
	}
	api, err := connect(cfg.Host)
	if err != nil {
		return nil, err
	}
	d := &Docker{cfg: cfg, log: log, api: api, store: store, intents: intents, secrets: secretDir{cfg.SecretDir, cfg.Node}, cgroups: detectCgroups(), warm: newWarmPool(cfg)}
	d.nets.pool, d.nets.known = newPool(cfg.ServicePool, string(cfg.Node)), make(map[string]netip.Prefix)
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

// Close removes what was made ahead, and drops the connections to the engine. Jobs'
// containers go on.
func (d *Docker) Close() error {
	d.warm.end()
	return d.api.Close()
}

// Start pulls the images that aren't there, and starts the attempt's containers.
func (d *Docker) Start(ctx context.Context, t Task) (Run, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	if failed := secretsFit(t); failed != nil {
		return ended{*failed}, nil
	}
	defer d.warm.starting()()
	hold := d.store.hold()
	defer hold.release()
	images, failed, err := d.images(ctx, t, hold)
	if failed != nil {
		return ended{*failed}, nil
	}
	var r Run
	if err == nil {
		r, err = d.assemble(ctx, t, images)
	}
	if err != nil {
		return nil, fmt.Errorf("start attempt %s: %w", t.Ref, err)
	}
	if _, over := r.(ended); !over {
		d.warm.began(t)
		d.used(ctx, t, images)
	}
	return r, nil
}

// assemble makes and starts all of the attempt's containers, the job's last. Of
// one that can't be started nothing is left.
func (d *Docker) assemble(ctx context.Context, t Task, images map[string]picture) (Run, error) {
	engine, err := d.engine(ctx)
	if err != nil {
		return nil, err
	}
	if err := d.prepare(t, images, engine); err != nil {
		return nil, err
	}
	s := &setting{t: t, engine: engine, images: images}
	if r, err := d.takeOver(ctx, s); r != nil || err != nil {
		return r, err
	}
	id, err := d.build(ctx, s)
	if err == nil {
		return d.begin(ctx, t, id)
	}
	if errdefs.IsConflict(err) { // it runs already: what is there is not ours to remove
		return nil, err
	}
	return d.notStarted(ctx, t, err)
}

// build makes the network, and on it the containers; all but the job's run then.
func (d *Docker) build(ctx context.Context, s *setting) (id string, err error) {
	if s.network, err = d.network(ctx, s.t); err != nil {
		return "", err
	}
	if hasBeside(s.t) {
		if s.group, err = d.makeGroup(s); err != nil {
			return "", err
		}
		if err := d.startBeside(ctx, s); err != nil {
			return "", err
		}
	}
	return d.create(ctx, s, d.job(s.t))
}

// begin starts the job's container once the services are ready.
func (d *Docker) begin(ctx context.Context, t Task, id string) (Run, error) {
	failed, err := d.awaitServices(ctx, t)
	if failed != nil {
		d.showServices(ctx, t, t.Work.Spec.Services)
		if err := d.discard(ctx, t); err != nil {
			return nil, err
		}
		return ended{*failed}, nil
	}
	if err == nil {
		err = d.api.ContainerStart(ctx, id, container.StartOptions{})
		if err != nil {
			err = &startError{err}
		}
	}
	if err == nil && len(t.Secrets) > 0 {
		err = d.hand(ctx, t, id)
	}
	if err != nil {
		return d.notStarted(ctx, t, err)
	}
	return &dockerRun{d: d, t: t, id: id}, nil
}

// startError is the engine's word on a container that it has made.
type startError struct{ error }

func (e *startError) Unwrap() error { return e.error }

// notStarted removes what there is, and tells a container that can't be started
// from an engine that can't be asked.
func (d *Docker) notStarted(ctx context.Context, t Task, err error) (Run, error) {
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if removed := d.discard(cleanup, t); removed != nil || client.IsErrConnectionFailed(err) || ctx.Err() != nil {
		return nil, errors.Join(err, removed)
	}
	_, job := errors.AsType[*startError](err)
	_, beside := errors.AsType[*besideError](err)
	if !job && !beside {
		return nil, err
	}
	return ended{fsm.Outcome{Status: fsm.Errored, Message: "the container could not be started: " + err.Error()}}, nil
}
