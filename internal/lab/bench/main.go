// Command bench runs one benchmark and prints its figures as key=value on standard
// output; what it does goes to standard error. Most are of whole clusters: three
// real nodes on this machine, with fsync on. It asserts nothing: machines differ.
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// benchmark is one that can be asked for.
type benchmark struct {
	executor string // of the cluster's nodes; empty needs no cluster
	run      func(context.Context, *bench) error
	args     []string // further flags of the nodes
}

var benches = map[string]benchmark{
	"latency":    {executor: "process", run: latency},
	"throughput": {executor: "process", run: throughput},
	"failover":   {executor: "process", run: failover},
	"starved":    {executor: "process", run: starved},
	"idle":       {executor: "process", run: idle},
	"steps":      {executor: "docker", run: steps},
	"docker":     {executor: "docker", run: containers},
	"cancel":     {executor: "docker", run: cancel},
	"logs":       {executor: "docker", run: logs, args: []string{"--log-limit", "200Mi"}}, // 100 MB are to be kept
	"logcopies":  {executor: "process", run: logCopies},
	"drill":      {run: drill},
	"chaos":      {run: rage},
	"checkout":   {run: checkouts},
	"cache":      {run: caches},
	"snapshot":   {run: snapshots},
}

func main() {
	if len(os.Args) != 2 || benches[os.Args[1]].run == nil {
		fmt.Fprintln(os.Stderr, "bench: want one of", strings.Join(slices.Sorted(maps.Keys(benches)), ", "))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is a cluster to measure and a repository to build.
type bench struct {
	lab    *lab.Lab
	client *client.Client
	repo   *lab.Repository
	dir    string
}

func run(ctx context.Context, name string) (err error) {
	dir, err := os.MkdirTemp("", "narwhal-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b := &bench{dir: dir}
	if b.repo, err = lab.NewRepository(filepath.Join(dir, "repository"), "bench/small"); err != nil {
		return err
	}
	if benches[name].executor == "" {
		return benches[name].run(ctx, b)
	}
	say("building narwhal")
	if err := lab.Build(ctx, ".", b.binary()); err != nil {
		return err
	}
	stop, err := b.start(ctx, "nodes", benches[name].executor, benches[name].args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	return benches[name].run(ctx, b)
}

func (b *bench) binary() string { return filepath.Join(b.dir, "narwhal") }

// start has b measure a cluster that it starts in a folder of its own.
func (b *bench) start(ctx context.Context, folder, executor string, args []string) (stop func() error, err error) {
	say("starting three nodes")
	b.lab, err = lab.Start(ctx, lab.Options{Binary: b.binary(), Dir: filepath.Join(b.dir, folder), Executor: executor, Args: args})
	if err != nil {
		return nil, err
	}
	if b.client, err = b.lab.Client(); err != nil {
		return nil, errors.Join(err, b.lab.Close())
	}
	return b.lab.Close, nil
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }

// file is a narwhal.yml of one job with one step, that asks for little, so that
// many fit.
func file(command string, more string) map[string]string {
	return map[string]string{
		"narwhal.yml": "name: small\nresources: {cpu: 50m, memory: 16Mi}\n" + more + "steps:\n  - name: step\n    command: " + strconv.Quote(command) + "\n",
		"README":      "A small repository.\n",
	}
}

// trigger starts a build and returns it once it has been accepted.
func (b *bench) trigger(ctx context.Context, sha, key string) (api.Build, error) {
	return b.client.CreateBuild(ctx, api.NewBuild{Repo: b.repo.Name, CloneURL: b.repo.URL(), SHA: sha, Ref: "refs/heads/main"}, key)
}

// warm builds one commit, so that mirrors and connections are there.
func (b *bench) warm(ctx context.Context, sha string) error {
	for i := range 2 * len(b.lab.Nodes) {
		made, err := b.trigger(ctx, sha, fmt.Sprintf("warm-%s-%d", sha, i))
		if err != nil {
			return err
		}
		if _, err := b.ended(ctx, made.ID); err != nil {
			return err
		}
	}
	return nil
}

// ended waits for a build's end and returns it.
func (b *bench) ended(ctx context.Context, id fsm.BuildID) (last api.Build, err error) {
	err = b.client.FollowBuild(ctx, id, func(v api.Build) error { last = v; return nil })
	if err == nil && last.Status != fsm.Passed {
		err = fmt.Errorf("build %d %s: %s", last.ID, last.Status, last.Reason)
	}
	return last, err
}

// drained waits until no build is live.
func (b *bench) drained(ctx context.Context) error {
	return lab.Await(ctx, "all builds to end", func(ctx context.Context) (bool, error) {
		s, err := b.client.Status(ctx)
		if err != nil {
			return false, err
		}
		return s.Builds.Live == 0, fmt.Errorf("%d builds live, %d jobs queued, %d placed", s.Builds.Live, s.Jobs.Queued, s.Jobs.Placed)
	})
}

// all reads every build with its jobs, from the newest down to the oldest wanted.
func (b *bench) all(ctx context.Context, oldest fsm.BuildID) ([]api.Build, error) {
	var out []api.Build
	filter := client.Filter{Limit: 200}
	for {
		page, err := b.client.Builds(ctx, filter)
		if err != nil {
			return nil, err
		}
		for _, v := range page.Builds {
			if v.ID < oldest {
				return out, nil
			}
			out = append(out, v)
		}
		if page.Next == 0 {
			return out, nil
		}
		filter.Before = page.Next
	}
}

// number reads a count from the environment.
func number(name string, or int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return or
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// percentile is the nearest-rank percentile p (0 to 100) of values.
func percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

func print(key string, value float64) {
	fmt.Printf("%s=%s\n", key, strconv.FormatFloat(math.Round(value*100)/100, 'f', -1, 64))
}
