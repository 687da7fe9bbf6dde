// Package lab runs clusters of real narwhal processes, each node with its own data
// directory and ports that the kernel picks, on loopback or in a Network whose roads
// can be cut: for the end-to-end tests, the demo and the benchmarks. It knows the binary from outside only: its
// flags, the files that it leaves for the command line, and its API.
//
// Invariant: what Start has started is gone when Close returns, by process ID, and
// so are the steps that its nodes left.
//
// Start reading at Start.
package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
)

// Options say what cluster to start.
type Options struct {
	Binary   string   // the narwhal to run
	Dir      string   // for data directories and logs; removed by Close unless Keep
	Nodes    int      // how many; 3 where 0
	Executor string   // "process" where empty
	Args     []string // further flags of every node
	Env      []string // further environment of every node, as KEY=VALUE
	Keep     bool     // Close leaves the directory and the processes alone
	Protocol string   // extra protocols to allow; "file" where empty
	Network  *Network // where the nodes are; on loopback where nil
}

// Lab is a cluster of processes.
type Lab struct {
	opts  Options
	Nodes []*Node
}

// Build makes the binary of the module that dir is in.
func Build(ctx context.Context, module, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", "disable_grpc_modules", "-o", out, "./cmd/narwhal")
	cmd.Dir, cmd.Env = module, append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build narwhal: %w\n%s", err, text)
	}
	return nil
}

// Start founds a cluster and joins the other nodes to it. It returns when every
// node that should vote does, and every node takes jobs.
func Start(ctx context.Context, opts Options) (*Lab, error) {
	if opts.Nodes == 0 {
		opts.Nodes = 3
	}
	if opts.Executor == "" {
		opts.Executor = "process"
	}
	if opts.Protocol == "" {
		opts.Protocol = "file"
	}
	l := &Lab{opts: opts}
	for i := range opts.Nodes {
		l.Nodes = append(l.Nodes, l.node(fmt.Sprintf("n%d", i+1)))
	}
	if err := l.start(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Lab) node(name string) *Node {
	n := &Node{lab: l, Name: name, Dir: filepath.Join(l.opts.Dir, name), Host: "127.0.0.1"}
	if w := l.opts.Network; w != nil {
		n.space = w.spaces[len(l.Nodes)]
		n.Host = n.space.addr
	}
	return n
}

func (l *Lab) start(ctx context.Context) error {
	founder := l.Nodes[0]
	if err := founder.Start(ctx); err != nil {
		return err
	}
	for _, n := range l.Nodes[1:] {
		n.joins = founder
		if err := n.Start(ctx); err != nil {
			return err
		}
	}
	return l.Settle(ctx)
}

// Add starts one more node.
func (l *Lab) Add(ctx context.Context, args ...string) (*Node, error) {
	n := l.Spare(args...)
	n.joins = l.Nodes[0]
	return n, n.Start(ctx)
}

// Spare makes a node that is not started, and that nothing tells whom to join but
// its own flags.
func (l *Lab) Spare(args ...string) *Node {
	n := l.node(fmt.Sprintf("n%d", len(l.Nodes)+1))
	n.Args = args
	l.Nodes = append(l.Nodes, n)
	return n
}

// Voters is how many of n nodes vote.
func Voters(n int) int {
	switch {
	case n <= 2:
		return 1
	case n <= 6:
		return 3
	default:
		return 5
	}
}

// Settle waits until the nodes that run have as many voters as they should, one
// leader, and take jobs.
func (l *Lab) Settle(ctx context.Context) error {
	want, witnesses := 0, 0
	for _, n := range l.Nodes {
		if n.Running() {
			want++
		}
		if n.Running() && slices.Contains(n.Args, "--voter-only") {
			witnesses++
		}
	}
	return Await(ctx, "the cluster to settle", func(ctx context.Context) (bool, error) {
		c, err := l.Client()
		if err != nil {
			return false, err
		}
		nodes, err := c.Nodes(ctx)
		if err != nil {
			return false, err
		}
		voters, offering, leads := 0, 0, 0
		for _, n := range nodes {
			if n.Role == "voter" && n.Alive {
				voters++
			}
			if n.Alive && n.Executor != "" {
				offering++
			}
			if n.Leader {
				leads++
			}
		}
		if voters < Voters(want) || offering < want-witnesses || leads != 1 {
			return false, fmt.Errorf("%d voters, %d nodes that take jobs, %d leaders", voters, offering, leads)
		}
		return true, nil
	})
}

// Client reaches the cluster through any node that runs.
func (l *Lab) Client() (*client.Client, error) {
	var addrs []string
	token := ""
	for _, n := range l.Nodes {
		if n.Running() && n.API != "" {
			addrs = append(addrs, n.API)
			token = n.Token
		}
	}
	return client.New(client.Config{Addrs: addrs, Token: token})
}

// Leader is the node that leads now, as the others see it.
func (l *Lab) Leader(ctx context.Context) (*Node, error) {
	c, err := l.Client()
	if err != nil {
		return nil, err
	}
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	for _, seen := range nodes {
		if n := l.byID(seen.ID); seen.Leader && n != nil && n.Running() {
			return n, nil
		}
	}
	return nil, errors.New("no node leads")
}

func (l *Lab) byID(id fsm.NodeID) *Node {
	for _, n := range l.Nodes {
		if n.ID == id {
			return n
		}
	}
	return nil
}

// Close ends every node and removes what they left.
func (l *Lab) Close() error {
	if l.opts.Keep {
		return nil
	}
	var errs []error
	for _, n := range l.Nodes {
		if l.opts.Executor == "docker" { // in order, so that it takes its network away
			errs = append(errs, n.Stop())
		}
		errs = append(errs, n.Crash())
	}
	return errors.Join(append(errs, os.RemoveAll(l.opts.Dir))...)
}

// Logs copies what the nodes logged, for a failure's sake.
func (l *Lab) Logs(w io.Writer) {
	for _, n := range l.Nodes {
		data, err := os.ReadFile(n.logPath())
		fmt.Fprintf(w, "--- %s (%v)\n%s\n", n.Name, err, data)
	}
}

// awaitStep is the pause between two looks at a process that is another's: there
// is nothing to wait on.
const awaitStep = 20 * time.Millisecond

// Await looks until done, or ctx ends; the error then says what was last seen.
func Await(ctx context.Context, what string, look func(context.Context) (bool, error)) error {
	ticker := time.NewTicker(awaitStep)
	defer ticker.Stop()
	var last error
	for {
		done, err := look(ctx)
		if done {
			return nil
		}
		if err != nil {
			last = err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("wait for %s: %w", what, ctx.Err()), last)
		}
	}
}
