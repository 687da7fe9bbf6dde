package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/internal/lab"
)

// role says whom a fault befalls.
type role string

const (
	leader   role = "leader"
	voter    role = "voter" // that does not lead
	runner   role = "runner"
	everyone role = "all"
)

// fault is one that befalls a node, or all. strike does it, and gives what takes it back.
type fault struct {
	kind   string
	whom   []role
	lasts  time.Duration // at most
	roads  bool          // it is one of the network: such are taken back all at once
	weight int
	strike func(ctx context.Context, l *lab.Lab, n *lab.Node) (heal func(context.Context) error, err error)
}

// faults are all there are.
var faults = []fault{
	{kind: "kill", whom: []role{leader, voter, runner}, lasts: 10 * time.Second, weight: 6, strike: kill((*lab.Node).Kill)},
	{kind: "crash", whom: []role{leader, voter, runner}, lasts: 10 * time.Second, weight: 3, strike: kill((*lab.Node).Crash)},
	{kind: "terminate", whom: []role{leader, voter, runner}, lasts: 3 * time.Second, weight: 2, strike: kill((*lab.Node).Stop)},
	{kind: "blackout", whom: []role{everyone}, lasts: 2 * time.Second, weight: 1, strike: blackout},
	{kind: "freeze", whom: []role{leader, voter, runner}, lasts: 10 * time.Second, weight: 4, strike: freeze},
	{kind: "isolate", whom: []role{leader, voter, runner}, lasts: 12 * time.Second, roads: true, weight: 4, strike: isolate},
	{kind: "deafen", whom: []role{leader, voter}, lasts: 10 * time.Second, roads: true, weight: 2, strike: deafen},
	{kind: "lose_10", whom: []role{everyone}, lasts: 10 * time.Second, roads: true, weight: 1, strike: lose(0.1)},
	{kind: "lose_30", whom: []role{everyone}, lasts: 10 * time.Second, roads: true, weight: 1, strike: lose(0.3)},
}

func kill(end func(*lab.Node) error) func(context.Context, *lab.Lab, *lab.Node) (func(context.Context) error, error) {
	return func(_ context.Context, _ *lab.Lab, n *lab.Node) (func(context.Context) error, error) {
		return func(context.Context) error { return n.Launch() }, end(n)
	}
}

func blackout(_ context.Context, l *lab.Lab, _ *lab.Node) (func(context.Context) error, error) {
	var failed []error
	for _, n := range l.Nodes {
		failed = append(failed, n.Crash())
	}
	return func(context.Context) error {
		var failed []error
		for _, n := range l.Nodes {
			if !n.Running() {
				failed = append(failed, n.Launch())
			}
		}
		return errors.Join(failed...)
	}, errors.Join(failed...)
}

func freeze(_ context.Context, _ *lab.Lab, n *lab.Node) (func(context.Context) error, error) {
	return func(context.Context) error { return n.Signal(syscall.SIGCONT) }, n.Signal(syscall.SIGSTOP)
}

func isolate(ctx context.Context, l *lab.Lab, n *lab.Node) (func(context.Context) error, error) {
	return l.Heal, l.Isolate(ctx, n)
}

// deafen has a node hear nothing of the others, who hear it.
func deafen(ctx context.Context, l *lab.Lab, n *lab.Node) (func(context.Context) error, error) {
	var failed []error
	for _, other := range l.Nodes {
		if other != n {
			failed = append(failed, l.Drop(ctx, other, n))
		}
	}
	return l.Heal, errors.Join(failed...)
}

func lose(share float64) func(context.Context, *lab.Lab, *lab.Node) (func(context.Context) error, error) {
	return func(ctx context.Context, l *lab.Lab, _ *lab.Node) (func(context.Context) error, error) {
		return l.Heal, l.Lose(ctx, share)
	}
}

// striker has faults happen, two at a time at most: one of them of the network.
type striker struct {
	config Config

	mu     sync.Mutex
	struck map[string]int
	busy   map[*lab.Node]bool // befallen now
}

func newStriker(config Config) *striker {
	return &striker{config: config, struck: map[string]int{}, busy: map[*lab.Node]bool{}}
}

func (s *striker) total() (n int) {
	for _, times := range s.struck {
		n += times
	}
	return n
}

// run strikes until ctx ends. What it did last is taken back.
func (s *striker) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for i, roads := range []bool{false, true} {
		kind := slices.DeleteFunc(slices.Clone(faults), func(f fault) bool { return f.roads != roads })
		group.Go(func() error {
			return s.rage(ctx, kind, rand.New(rand.NewPCG(s.config.Seed, uint64(2+i)))) //nolint:gosec // to be repeated
		})
	}
	return group.Wait()
}

// rage has one fault of some kinds after the other.
func (s *striker) rage(ctx context.Context, kinds []fault, random *rand.Rand) error {
	for {
		// All that is drawn is drawn here, so that the seed says it whatever happens.
		f := pick(kinds, random)
		whom := f.whom[random.IntN(len(f.whom))]
		lasts := f.lasts/10 + time.Duration(random.Int64N(int64(f.lasts)*9/10))
		pause := time.Second + time.Duration(random.Int64N(int64(4*time.Second)))
		which := random.IntN(1 << 16)
		if !sleep(ctx, pause) {
			return nil
		}
		if err := s.happen(ctx, f, whom, which, lasts); err != nil {
			return fmt.Errorf("%s %s: %w", f.kind, whom, err)
		}
	}
}

func pick(kinds []fault, random *rand.Rand) fault {
	sum := 0
	for _, f := range kinds {
		sum += f.weight
	}
	at := random.IntN(sum)
	for _, f := range kinds {
		if at -= f.weight; at < 0 {
			return f
		}
	}
	panic("weights don't add up")
}

func (s *striker) happen(ctx context.Context, f fault, whom role, which int, lasts time.Duration) error {
	befallen := s.claim(ctx, whom, which)
	if befallen == nil {
		return nil // another fault has them
	}
	defer s.release(befallen)
	name := befallen[0].Name
	if whom == everyone {
		name = "all"
	}
	s.config.Say("%s %s (%s) for %s", f.kind, whom, name, lasts.Round(100*time.Millisecond))
	heal, err := f.strike(ctx, s.config.Lab, befallen[0])
	if ctx.Err() == nil && err != nil {
		return err
	}
	s.mu.Lock()
	s.struck[f.kind]++
	s.mu.Unlock()
	sleep(ctx, lasts)
	return heal(context.WithoutCancel(ctx))
}

// claim takes the nodes that a role means now, and that no other fault has. Faults of the
// network that befall all leave the processes alone, and so claim nobody who is claimed.
func (s *striker) claim(ctx context.Context, whom role, which int) []*lab.Node {
	candidates := s.meant(ctx, whom)
	s.mu.Lock()
	defer s.mu.Unlock()
	free := slices.DeleteFunc(candidates, func(n *lab.Node) bool { return s.busy[n] })
	if len(free) == 0 || whom == everyone && len(free) < len(s.config.Lab.Nodes) {
		return nil
	}
	if whom != everyone {
		free = free[which%len(free):][:1]
	}
	for _, n := range free {
		s.busy[n] = true
	}
	return free
}

func (s *striker) release(nodes []*lab.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range nodes {
		delete(s.busy, n)
	}
}

// meant are the nodes of a role, as the cluster sees them; any where it can't say.
func (s *striker) meant(ctx context.Context, whom role) []*lab.Node {
	l := s.config.Lab
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := l.Client()
	if whom == everyone || err != nil {
		return slices.Clone(l.Nodes)
	}
	seen, err := c.Nodes(ctx)
	if err != nil {
		return slices.Clone(l.Nodes)
	}
	var out []*lab.Node
	for _, m := range seen {
		is := runner
		switch {
		case m.Leader:
			is = leader
		case m.Role == "voter":
			is = voter
		}
		at := slices.IndexFunc(l.Nodes, func(n *lab.Node) bool { return n.ID == m.ID })
		if is == whom && at >= 0 {
			out = append(out, l.Nodes[at])
		}
	}
	return out
}

// recover takes all faults back and waits until the cluster is at full strength.
func (s *striker) recover(ctx context.Context) error {
	l := s.config.Lab
	if err := l.Heal(ctx); err != nil {
		return err
	}
	for _, n := range l.Nodes {
		if n.Running() {
			if err := n.Signal(syscall.SIGCONT); err != nil {
				return err
			}
		} else if err := n.Launch(); err != nil {
			return err
		}
	}
	for _, n := range l.Nodes {
		if err := n.Up(ctx); err != nil {
			return err
		}
	}
	return l.Settle(ctx)
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
