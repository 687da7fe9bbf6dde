package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

const (
	repoName  = "chaos/load"
	perSecond = 1.5  // builds that are begun, at most
	mostAll   = 9000 // builds in all: a cluster remembers 10,000
	most      = 60   // builds at a time that have not ended
	lines     = 10   // that each job prints
	answer    = 5 * time.Second
)

// step prints lines over a second, and writes down that it runs.
const step = `
      - command: |
          echo "$NARWHAL_JOB $NARWHAL_ATTEMPT" >> LEDGER
          i=0; while [ $i -lt LINES ]; do echo "line $i"; i=$((i+1)); sleep 0.1; done`

// kinds are the files that builds are of: one job; one that needs another; one of a
// matrix; one that may not run twice.
var kinds = []string{
	"jobs:\n  one:\n    steps:" + step,
	"jobs:\n  one:\n    steps:" + step + "\n  two:\n    needs: [one]\n    steps:" + step,
	"jobs:\n  one:\n    matrix: {n: ['1', '2', '3']}\n    steps:" + step,
	"on_node_loss: fail\njobs:\n  one:\n    steps:" + step,
}

// load asks for builds, looks at them and cancels some.
type load struct {
	config Config
	repo   *lab.Repository
	shas   []string
	random *rand.Rand // run's own

	mu      sync.Mutex
	orders  []*order
	history []operation
}

// order is a build that was asked for.
type order struct {
	key      string
	n        int // its place among the orders
	kind     int
	build    fsm.BuildID // 0 until it is accepted
	canceled bool        // somebody asked for its end
	ended    bool        // somebody has seen its end
}

func newLoad(config Config) (*load, error) {
	l := &load{config: config, random: rand.New(rand.NewPCG(config.Seed, 1))} //nolint:gosec // to be repeated, not to be kept from anybody
	var err error
	if l.repo, err = lab.NewRepository(filepath.Join(config.Dir, "repository"), repoName); err != nil {
		return nil, err
	}
	for i, kind := range kinds {
		text := strings.NewReplacer("LEDGER", config.ledger(), "LINES", strconv.Itoa(lines)).Replace(kind)
		sha, err := l.repo.Commit(fmt.Sprintf("kind %d", i), map[string]string{
			"narwhal.yml": "name: chaos\nresources: {cpu: 100m, memory: 16Mi}\n" + text + "\n",
		})
		if err != nil {
			return nil, err
		}
		l.shas = append(l.shas, sha)
	}
	return l, nil
}

// run begins builds until begin ends. What was begun is sent until it is answered, or send
// ends.
func (l *load) run(begin, send context.Context) error {
	limit := rate.NewLimiter(rate.Limit(min(perSecond, mostAll/l.config.For.Seconds())), 1)
	clients, send := errgroup.WithContext(send)
	clients.SetLimit(most)
	for limit.Wait(begin) == nil {
		o := &order{key: client.NewKey(), kind: l.random.IntN(len(kinds))}
		cancels := l.random.IntN(20) == 0
		l.mu.Lock()
		o.n = len(l.orders)
		l.orders = append(l.orders, o)
		l.mu.Unlock()
		clients.Go(func() error { return l.serve(begin, send, o, cancels) })
	}
	return clients.Wait()
}

// serve is a build's life as its client sees it: it is asked for, looked at, perhaps
// canceled, until it has ended or the faults are over.
func (l *load) serve(begin, send context.Context, o *order, cancels bool) error {
	if err := l.create(send, o); err != nil {
		return err
	}
	for look := 0; begin.Err() == nil; look++ {
		if b, ok := l.read(begin, o); ok && b.Status.Terminal() {
			return nil
		}
		if cancels && look == 1 {
			l.cancel(begin, o)
		}
		select {
		case <-time.After(700 * time.Millisecond):
		case <-begin.Done():
		}
	}
	return nil
}

// anyNode reaches the cluster through the nodes that run now.
func (l *load) anyNode(patience time.Duration) (*client.Client, error) {
	var addrs []string
	for _, n := range l.config.Lab.Nodes {
		if n.Running() {
			addrs = append(addrs, n.API)
		}
	}
	return client.New(client.Config{Addrs: addrs, Token: l.config.Lab.Nodes[0].Token, Patience: patience})
}

// create sends one request, with one key, until it is answered.
func (l *load) create(ctx context.Context, o *order) error {
	call := now()
	for {
		c, err := l.anyNode(answer)
		if err == nil {
			var b api.Build
			asking, cancel := context.WithTimeout(ctx, 2*answer)
			b, err = c.CreateBuild(asking, api.NewBuild{Repo: repoName, CloneURL: l.repo.URL(), SHA: l.shas[o.kind], Ref: "refs/heads/main"}, o.key)
			cancel()
			if err == nil {
				l.saw(o, operation{what: "create", call: call}, b)
				return nil
			}
		}
		var p *api.Problem
		if errors.As(err, &p) && p.Status < 500 {
			return fmt.Errorf("ask for a build: %w", err) // it will never be taken
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// read looks at a build as a majority has it now. That it can't be read is no fault.
func (l *load) read(ctx context.Context, o *order) (api.Build, bool) {
	c, err := l.anyNode(time.Nanosecond)
	if err != nil {
		return api.Build{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, answer)
	defer cancel()
	call := now()
	b, err := c.BuildNow(ctx, o.build)
	var p *api.Problem
	switch {
	case errors.As(err, &p) && p.Code == api.CodeNotFound:
		l.saw(o, operation{what: "read", call: call}, api.Build{}) // what was accepted is gone
	case err != nil:
		return b, false
	default:
		l.saw(o, operation{what: "read", call: call}, b)
	}
	return b, true
}

func (l *load) cancel(ctx context.Context, o *order) {
	c, err := l.anyNode(time.Nanosecond)
	if err != nil {
		return
	}
	l.mu.Lock()
	o.canceled = true // also where no answer comes: it may have arrived
	l.mu.Unlock()
	ctx, stop := context.WithTimeout(ctx, answer)
	defer stop()
	call := now()
	if b, err := c.CancelBuild(ctx, o.build); err == nil {
		l.saw(o, operation{what: "cancel", call: call}, b)
	}
}

// saw notes what a client was answered.
func (l *load) saw(o *order, op operation, b api.Build) {
	op.order, op.back, op.build, op.status = o.n, now(), b.ID, b.Status
	l.mu.Lock()
	defer l.mu.Unlock()
	if o.build == 0 {
		o.build = b.ID
	}
	o.ended = o.ended || b.Status.Terminal()
	l.history = append(l.history, op)
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.orders)
}

// finish waits for the end of all builds, and looks at each once more.
func (l *load) finish(ctx context.Context) error {
	c, err := l.anyNode(time.Minute)
	if err != nil {
		return err
	}
	err = lab.Await(ctx, "all builds to end", func(ctx context.Context) (bool, error) {
		s, err := c.Status(ctx)
		if err != nil {
			return false, err
		}
		return s.Builds.Live == 0, fmt.Errorf("%d builds live, %d jobs queued, %d placed", s.Builds.Live, s.Jobs.Queued, s.Jobs.Placed)
	})
	if err != nil {
		return err
	}
	for _, o := range l.orders {
		if _, ok := l.read(ctx, o); !ok {
			return fmt.Errorf("build %d can't be read", o.build)
		}
	}
	return nil
}

// countLines says how often each line stands in a text.
func countLines(text []byte) map[string]int {
	found := make(map[string]int)
	for line := range bytes.Lines(text) {
		found[string(bytes.TrimSuffix(line, []byte("\n")))]++
	}
	return found
}
