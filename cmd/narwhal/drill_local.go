package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// localDrill is a cluster that is there for a drill alone.
type localDrill struct {
	nodes    int
	executor string
}

func (l localDrill) validate() error {
	if l.nodes < 3 || l.nodes > 9 {
		return usage("--local %d: want 3 to 9 nodes; fewer don't stand the death of their leader", l.nodes)
	}
	if !slices.Contains([]string{"docker", "process"}, l.executor) {
		return usage("--executor %q: want docker or process", l.executor)
	}
	return nil
}

// drillHere starts a cluster of this binary, drills it, and takes it down again. Where a
// promise was not kept it leaves what the nodes logged.
func (r *remote) drillHere(ctx context.Context, f drillFlags) (err error) {
	if err := f.local.validate(); err != nil {
		return err
	}
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find narwhal's own binary: %w", err)
	}
	dir, err := os.MkdirTemp("", "narwhal-drill-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	options := lab.Options{
		Binary: binary, Dir: filepath.Join(dir, "nodes"), Nodes: f.local.nodes, Executor: f.local.executor, Args: []string{"--allow-drill"},
	}
	if f.partition {
		if os.Geteuid() != 0 {
			return usage("--partition takes root: each node gets a network namespace of its own")
		}
		if options.Network, err = lab.NewNetwork(ctx, f.local.nodes); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, options.Network.Close()) }()
		f.drill.Partitions = 1
	}
	r.say("starting %d nodes on this machine", f.local.nodes)
	l, err := lab.Start(ctx, options)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.leaveLogs(l))
		}
		err = errors.Join(err, l.Close())
	}()
	tending, stop := context.WithCancel(context.WithoutCancel(ctx))
	var tender errgroup.Group
	tender.Go(func() error { return l.Tend(tending) })
	defer func() { stop(); err = errors.Join(err, tender.Wait()) }()

	if f.drill.Client, err = l.Client(); err != nil {
		return err
	}
	f.drill.Token, f.drill.Network = l.Nodes[0].Token, roads{l}
	return r.drill(ctx, f.drill)
}

func (r *remote) leaveLogs(l *lab.Lab) error {
	file, err := os.CreateTemp("", "narwhal-drill-*.log")
	if err != nil {
		return err
	}
	l.Logs(file)
	r.say("what the nodes logged is in %s", file.Name())
	return file.Close()
}

// roads are the network of a cluster that runs here.
type roads struct{ lab *lab.Lab }

func (r roads) Isolate(ctx context.Context, id fsm.NodeID) error {
	for _, n := range r.lab.Nodes {
		if n.ID == id {
			return r.lab.Isolate(ctx, n)
		}
	}
	return fmt.Errorf("cut node %s off: it is not here", id)
}

func (r roads) Heal(ctx context.Context) error { return r.lab.Heal(ctx) }
