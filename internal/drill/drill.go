// Package drill runs a load of small builds on a cluster, takes nodes away from it, and
// tells what came of it: how long dispatching paused, how soon the jobs of a dead node
// ran elsewhere, and whether anything was lost, doubled or disturbed. It knows a
// cluster by its API alone.
//
// Invariant: it judges by what the replicated state says of each build afterwards, not
// by what it saw on the way.
//
// Start reading at Run.
package drill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
)

// Config says which drill to run, on which cluster.
type Config struct {
	Client *client.Client // of the cluster, by any of its nodes
	Token  string         // of the API, for the nodes one by one

	Leaders    int // how often the leader is killed
	Runners    int // how often a node that runs jobs and does not lead
	Partitions int // how often the leader is cut off; takes a Network
	Network    Network

	Running int    // jobs at a time while a node goes
	Queued  int    // builds beside them that wait
	Image   string // of the jobs; empty for the nodes' default

	// LeaderDown and RunnerDown are how long a killed node stays away, at least. A
	// runner has to be away for longer than the nodes' --lost-after.
	LeaderDown, RunnerDown time.Duration

	// Say tells what goes on.
	Say func(format string, args ...any)
}

// Network cuts roads between nodes.
type Network interface {
	// Isolate cuts a node off from all other nodes, but not from the drill.
	Isolate(ctx context.Context, node fsm.NodeID) error
	// Heal takes all cuts back.
	Heal(ctx context.Context) error
}

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	switch {
	case c.Leaders < 0 || c.Runners < 0 || c.Partitions < 0 || c.Leaders+c.Runners+c.Partitions == 0:
		return errors.New("nothing is to be killed")
	case c.Partitions > 0 && c.Network == nil:
		return errors.New("the roads of this cluster can't be cut from here")
	case c.Running < 1 || c.Running > maxLoad || c.Queued < 0 || c.Queued > maxLoad:
		return fmt.Errorf("%d jobs running and %d queued: want 1 to %d, and at most as many", c.Running, c.Queued, maxLoad)
	case (c.Leaders+c.Runners+c.Partitions)*(c.Running+c.Queued) > maxBuilds:
		return fmt.Errorf("%d rounds of %d builds: want %d builds in all, at most, or the first are forgotten before the last end", c.Leaders+c.Runners+c.Partitions, c.Running+c.Queued, maxBuilds)
	case c.LeaderDown < 0 || c.LeaderDown > api.MaxDown || c.RunnerDown < 0 || c.RunnerDown > api.MaxDown:
		return fmt.Errorf("a node stays away for %s at most", api.MaxDown)
	}
	return nil
}

const (
	maxLoad = 200 // a page of the API's lists
	// maxBuilds of all rounds together are fewer than those that a cluster remembers.
	maxBuilds = 9000
	// settlesWithin is how long a cluster may take to come back to full strength.
	settlesWithin = 3 * time.Minute
)

// drill is one under way.
type drill struct {
	Config
	load   *load
	report Report
}

// Run runs a drill. Its error says that it could not be run to its end; what it found is
// in the report.
func Run(ctx context.Context, config Config) (*Report, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("drill: %w", err)
	}
	d := &drill{Config: config}
	if err := d.run(ctx); err != nil {
		return nil, fmt.Errorf("drill: %w", err)
	}
	return &d.report, nil
}

func (d *drill) run(ctx context.Context) error {
	w, err := d.settled(ctx)
	if err != nil {
		return err
	}
	if err := w.fit(d.Leaders+d.Runners > 0); err != nil {
		return err
	}
	d.report.Nodes, d.report.Voters, d.report.Executors = len(w.hands), w.voters(), w.executors()
	if d.load, err = d.newLoad(ctx); err != nil {
		return err
	}
	for _, part := range []struct {
		times int
		what  string
		round func(context.Context, *crew, []fsm.BuildID) (Round, error)
	}{
		{d.Leaders, "leader", d.killLeader},
		{d.Runners, "runner", d.killRunner},
		{d.Partitions, "partition", d.cutLeader},
	} {
		for n := range part.times {
			d.Say("%s, round %d of %d: %d jobs run, %d wait", part.what, n+1, part.times, d.Running, d.Queued)
			r, err := d.round(ctx, part.round)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", part.what, n+1, err)
			}
			r.Kind = part.what
			d.Say("%s", r)
			d.report.add(r)
		}
	}
	return d.finish(ctx)
}

// round loads the cluster, has something happen to it, and judges what came of it.
func (d *drill) round(ctx context.Context, happen func(context.Context, *crew, []fsm.BuildID) (Round, error)) (Round, error) {
	w, err := d.settled(ctx)
	if err != nil {
		return Round{}, err
	}
	builds, err := d.load.start(ctx, d.Running+d.Queued)
	if err != nil {
		return Round{}, err
	}
	if err := d.load.full(ctx, d.Running); err != nil {
		return Round{}, err
	}
	return happen(ctx, w, builds)
}

// finish holds the cluster as a whole to its promises, once nothing runs.
func (d *drill) finish(ctx context.Context) error {
	w, err := d.settled(ctx)
	if err != nil {
		return err
	}
	extra, err := d.load.extra(ctx)
	if err != nil {
		return err
	}
	d.report.Doubled += extra
	d.report.Diverged, err = w.diverged(ctx)
	return err
}
