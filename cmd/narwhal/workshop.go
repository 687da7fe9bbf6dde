package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/codepr/narwhal/checkout"
	"github.com/codepr/narwhal/cluster"
	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/pipeline"
	"github.com/codepr/narwhal/runner"
	"github.com/codepr/narwhal/secret"
	"github.com/codepr/narwhal/supervise"
)

// workshop is where jobs are run: the runner and what it works with.
type workshop struct {
	*runner.Runner
	mirrors  *checkout.Mirrors
	executor io.Closer
	log      *slog.Logger
}

// surroundings are what a workshop reaches outside of this machine's disk and
// engine.
type surroundings struct {
	leader  runner.Leader
	bundles checkout.BundleSource
	secrets *secret.Box
	blobs   runner.Blobs
	copies  runner.Copies
	sealed  fileStore
	// secretHelp is runner.Config's.
	secretHelp func(name, repo string) string
	caches     runner.Caches
	// full is told whether this node's disk is; nil tells nobody.
	full func(full bool)
	// adjust changes what a plan brought; nil leaves it.
	adjust func(*pipeline.Pipeline) error
}

func newWorkshop(cfg nodeConfig, id cluster.Identity, around surroundings, log *slog.Logger) (*workshop, error) {
	capacity, err := cfg.capacity()
	if err != nil {
		return nil, err
	}
	labels, err := cfg.labelMap()
	if err != nil {
		return nil, err
	}
	w := &workshop{log: log}
	mirrors := checkout.Config{
		Dir: filepath.Join(cfg.dataDir, "mirrors"), Protocols: cfg.protocols, Bundles: around.bundles, Env: gitEnvironment(),
	}
	if cfg.gitFile != "" {
		credentials, err := openGitCredentials(cfg.gitFile, log)
		if err != nil {
			return nil, fmt.Errorf("--git-credentials-file: %w", err)
		}
		mirrors.Credentials = credentials.find
	}
	w.mirrors, err = checkout.Open(mirrors, log)
	if err != nil {
		return nil, err
	}
	exec, err := newExecutor(cfg, id, capacity, log)
	if err != nil {
		w.Close()
		return nil, err
	}
	w.executor = exec
	lease := cfg.lost * 4 / 5
	w.Runner, err = runner.New(runner.Config{
		Dir: cfg.dataDir, Cluster: id.ClusterID, URL: cfg.url, DefaultImage: cfg.defaultImage,
		Node: fsm.Node{
			ID: fsm.NodeID(id.NodeID), Name: cfg.name, Incarnation: id.Incarnation, Capacity: capacity,
			Labels: runner.Labels(cfg.name, labels), Executor: exec.Name(), Version: version,
		},
		Leader: around.leader, Checkout: w.mirrors, Executor: exec, Load: runner.Sampler(cfg.dataDir), Log: log,
		Boot: supervise.Boot(), LeaveRunning: exec.Name() == "docker",
		Beat: min(link.DefaultBeat, cfg.suspect/3), Lease: lease, FenceGrace: cfg.lost / 10, Lost: cfg.lost, Grace: cfg.grace,
		LogBytes: cfg.keepBytes, Unseal: around.secrets.Open, SecretHelp: around.secretHelp, Blobs: around.blobs, Copies: around.copies, LogAge: cfg.keepLogsFor, Caches: around.caches, Adjust: around.adjust,
		Marks: cfg.marks, Full: around.full, Shelves: w.shelves(around),
	})
	if err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// anExecutor is one of package executor's, with its end.
type anExecutor interface {
	executor.Executor
	io.Closer
}

// haveTools finds what running jobs takes. It is asked before the node joins: one that
// can't work is not to be a member.
func haveTools(ctx context.Context, cfg nodeConfig) error {
	if cfg.voterOnly {
		return nil
	}
	if _, err := exec.LookPath("git"); err != nil {
		return fmt.Errorf("git is needed on every node that runs jobs: %w", err)
	}
	if cfg.executor != "docker" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	if _, err := executor.Detect(ctx, ""); err != nil {
		return fmt.Errorf("%w; start Docker, or give --executor process to run steps without isolation", err)
	}
	return nil
}

func newExecutor(cfg nodeConfig, id cluster.Identity, capacity pipeline.Resources, log *slog.Logger) (anExecutor, error) {
	node := fsm.NodeID(id.NodeID)
	if cfg.executor == "process" {
		return executor.NewProcess(executor.ProcessConfig{
			Node: node, Attempts: filepath.Join(cfg.dataDir, "attempts"), Grace: cfg.grace, LogLimit: cfg.logBytes,
			Pids: cfg.jobProcesses,
		}, log), nil
	}
	binary, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return executor.NewDocker(executor.DockerConfig{
		Binary: binary, Cluster: id.ClusterID, Node: node, Dir: cfg.dataDir, Grace: cfg.grace, LogLimit: cfg.logBytes,
		PullPolicy: executor.PullPolicy(cfg.pull), ServicePool: cfg.servicePool, Pids: cfg.jobProcesses,
		Warm: cfg.warm, WarmDir: filepath.Join(cfg.dataDir, "warm"), Offer: capacity,
	}, log)
}

// enginePatience is how long the engine is waited for at the beginning and at the end:
// one that is busy takes its time, and what it was not told is left until the next start.
const enginePatience = 20 * time.Second

// Close lets go of the mirrors and the executor, after Run. Jobs that are left to
// be adopted keep what they run in.
func (w *workshop) Close() {
	if docker, ok := w.executor.(*executor.Docker); ok {
		ctx, cancel := context.WithTimeout(context.Background(), enginePatience)
		defer cancel()
		if err := docker.RemoveNetwork(ctx); err != nil {
			w.log.Warn("leave this node's network in the engine", "error", err)
		}
	}
	if w.executor != nil {
		if err := w.executor.Close(); err != nil {
			w.log.Warn("close executor", "error", err)
		}
	}
	if w.mirrors != nil {
		if err := w.mirrors.Close(); err != nil {
			w.log.Warn("close mirrors", "error", err)
		}
	}
}

// gitEnvironment is all of this process's own environment that git gets to see.
func gitEnvironment() []string {
	var env []string
	for _, name := range []string{"PATH", "SSH_AUTH_SOCK", "https_proxy", "http_proxy", "no_proxy"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// capacity is what the node offers to jobs: what the operator said, else what the
// machine has.
func (c *nodeConfig) capacity() (pipeline.Resources, error) {
	if err := os.MkdirAll(c.dataDir, 0o700); err != nil {
		return pipeline.Resources{}, fmt.Errorf("--data-dir: %w", err)
	}
	r, err := runner.Detect(c.dataDir)
	if err != nil {
		return r, err
	}
	r.CPU = cmp.Or(c.offered.CPU, r.CPU)
	r.Memory = cmp.Or(c.offered.Memory, r.Memory)
	r.Disk = cmp.Or(c.offered.Disk, r.Disk)
	return r, nil
}

// offer is what gossip says of the node.
func (c *nodeConfig) offer(apiAddr string) (cluster.Offer, error) {
	r, err := c.capacity()
	if err != nil {
		return cluster.Offer{}, err
	}
	labels, err := c.labelMap()
	if err != nil {
		return cluster.Offer{}, err
	}
	return cluster.Offer{
		Name: c.name, APIAddr: apiAddr, Version: version, Protocol: protocol, Oldest: oldestProtocol, State: fsm.StateVersion, CPU: r.CPU, Memory: r.Memory, Disk: r.Disk,
		OS: runtime.GOOS, Arch: runtime.GOARCH, Zone: labels["zone"], Labels: labels,
	}, nil
}
