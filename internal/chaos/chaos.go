// Package chaos runs a cluster of real processes under load while it kills, stops and cuts
// off its nodes at random, and then holds what clients saw, what the steps wrote and what
// the nodes say to the promises: what was accepted has ended exactly once, as it should;
// no attempt ran twice; logs are whole and in order; the voters agree; nothing is left.
//
// Invariant: the faults follow from the seed alone, but for whom they befall: who leads is
// the cluster's affair.
//
// Start reading at Run.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/internal/lab"
)

// Config says what to do to which cluster.
type Config struct {
	Lab  *lab.Lab      // in a Network, so that its roads can be cut
	Dir  string        // an empty folder for the repository and for what steps write
	Seed uint64        // of the faults and of the load
	For  time.Duration // how long faults go on
	Say  func(format string, args ...any)
}

// calm is how long the cluster may take to end all builds once the faults are over, and
// leftover how long until nothing is left of them.
const (
	calm     = 10 * time.Minute
	leftover = time.Minute
)

// Report is what came of it. All but the first four are to be 0.
type Report struct {
	Builds   int            // that were accepted
	Canceled int            // of them, on request
	GivenUp  int            // ended for the loss of nodes: quarantined, or on_node_loss: fail
	Faults   map[string]int // by kind

	Lost      int // builds that did not end, or not as they should
	Doubled   int // builds nobody asked for, jobs with two results, attempts that ran twice
	Broken    int // logs that are not whole and in order
	Unlinear  int // builds of whom clients saw what no order of events explains
	Diverged  int // voters whose state is another than the leader's
	Leftovers int // processes and folders of attempts that are over
	Crashed   int // narwhal processes that ended by themselves

	Findings []string // each of them in words
}

// Kept reports whether every promise was kept.
func (r *Report) Kept() bool {
	return r.Lost+r.Doubled+r.Broken+r.Unlinear+r.Diverged+r.Leftovers+r.Crashed == 0
}

// finding counts what went wrong, and says it.
func (r *Report) finding(count *int, format string, args ...any) {
	*count++
	r.Findings = append(r.Findings, fmt.Sprintf(format, args...))
}

// String names the faults and how often they struck.
func (r *Report) String() string {
	text := ""
	for _, kind := range slices.Sorted(maps.Keys(r.Faults)) {
		text += fmt.Sprintf(", %s %d", kind, r.Faults[kind])
	}
	return fmt.Sprintf("builds %d, canceled %d, given up with their nodes %d%s", r.Builds, r.Canceled, r.GivenUp, text)
}

// Run lets the faults loose, waits until the cluster has come to rest, and judges. Its
// error says that it could not be run to its end.
func Run(ctx context.Context, config Config) (*Report, error) {
	r := &Report{}
	if err := run(ctx, config, r); err != nil {
		return nil, fmt.Errorf("chaos with seed %d: %w", config.Seed, err)
	}
	return r, nil
}

func run(ctx context.Context, config Config, r *Report) error {
	load, err := newLoad(config)
	if err != nil {
		return err
	}
	config.Say("seed %d: faults for %s", config.Seed, config.For)
	raging, stop := context.WithTimeout(ctx, config.For)
	defer stop()
	group, inner := errgroup.WithContext(raging)
	sender, quit := context.WithCancel(ctx) // outlives the faults: what was begun is asked for until it is answered
	defer quit()
	group.Go(func() error { return load.run(inner, sender) })
	striker := newStriker(config)
	group.Go(func() error { return striker.run(inner) })
	err = group.Wait()
	if err != nil || ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	r.Faults = striker.struck

	resting, cancel := context.WithTimeout(ctx, calm)
	defer cancel()
	config.Say("%d faults, %d builds asked for; the cluster comes to rest", striker.total(), load.count())
	if err := striker.recover(resting); err != nil {
		return err
	}
	if err := load.finish(resting); err != nil {
		return err
	}
	config.Say("judging")
	return newJudge(config, load, r).all(ctx) // thousands of logs take their time
}

// ledger is the file that steps write down in that they run.
func (c Config) ledger() string { return filepath.Join(c.Dir, "ran") }

func (c Config) readLedger() (map[string]int, error) {
	data, err := os.ReadFile(c.ledger())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return countLines(data), nil
}
