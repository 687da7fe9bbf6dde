package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/supervise"
)

// Node is one narwhal process, or the place where one was.
type Node struct {
	Name  string
	Dir   string     // its data directory
	Host  string     // the address that it listens on
	ID    fsm.NodeID // once it has run
	API   string     // URL
	Token string     // of the API
	Args  []string   // flags of this node alone

	// Binary is the narwhal that it runs from its next start on; that of all where empty.
	Binary string

	lab     *Lab
	space   space // its namespace; zero on loopback
	joins   *Node
	cluster string // host:port of its cluster port, the same over restarts

	mu      sync.Mutex
	process *os.Process // nil while it does not run
	exited  chan struct{}
	status  error
	ending  bool    // it was told to end
	ends    []error // how it ended by itself, each time
}

// found are the files that a node leaves for the command line.
type found struct {
	ID      fsm.NodeID `json:"id"`
	API     string     `json:"api"`
	Cluster string     `json:"cluster"`
}

// Start starts the process and waits until its API answers. After the first time
// it takes the same ports again.
func (n *Node) Start(ctx context.Context) error {
	if err := n.Launch(); err != nil {
		return err
	}
	return n.Up(ctx)
}

// Up waits until the API of a process that was launched answers.
func (n *Node) Up(ctx context.Context) error {
	return Await(ctx, n.Name+" to answer", func(ctx context.Context) (bool, error) {
		if !n.Running() {
			return false, fmt.Errorf("%s ended: %w; its log: %s", n.Name, n.Exit(), n.Log())
		}
		if err := n.read(); err != nil {
			return false, err
		}
		c, err := n.Client()
		if err != nil {
			return false, err
		}
		_, err = c.Status(ctx)
		return err == nil, err
	})
}

// Launch starts the process and does not wait for it.
func (n *Node) Launch() error {
	if err := os.MkdirAll(n.Dir, 0o700); err != nil {
		return err
	}
	listen, cluster := n.Host+":0", n.Host+":0"
	if n.cluster != "" {
		listen, cluster = strings.TrimPrefix(n.API, "http://"), n.cluster
	}
	args := []string{"node", "--data-dir", n.Dir, "--name", n.Name, "--listen", listen, "--cluster-listen", cluster,
		"--executor", n.lab.opts.Executor, "--allow-protocol", "https,ssh," + n.lab.opts.Protocol,
		"--disk-high", "99%", "--disk-low", "98%"} // whoever runs this may have a full disk
	if n.joins != nil {
		args = append(args, "--join", n.joins.cluster)
		if n.ID == "" {
			args = append(args, "--token-file", n.joins.JoinToken())
		}
	}
	log, err := os.OpenFile(n.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	argv := slices.Concat([]string{cmp.Or(n.Binary, n.lab.opts.Binary)}, args, n.lab.opts.Args, n.Args)
	if n.space.name != "" {
		argv = n.space.within(argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	// What the shell says of another node, such as NARWHAL_TOKEN, would be this one's flags.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "NARWHAL_") })
	cmd.Env = append(cmd.Env, n.lab.opts.Env...)
	if n.ID == "" {
		_ = os.Remove(filepath.Join(n.Dir, "node.json")) // another's, so that it is not taken for ours
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", n.Name, err)
	}
	exited := make(chan struct{})
	n.mu.Lock()
	n.process, n.exited, n.ending = cmd.Process, exited, false
	n.mu.Unlock()
	var wait sync.WaitGroup
	wait.Go(func() {
		err := cmd.Wait()
		n.mu.Lock()
		n.process, n.status = nil, err
		if !n.ending {
			n.ends = append(n.ends, fmt.Errorf("%s ended by itself: %w", n.Name, err))
		}
		n.mu.Unlock()
		close(exited)
	})
	return nil
}

func (n *Node) logPath() string { return n.Dir + ".log" }

// Log is what the process has said so far.
func (n *Node) Log() string {
	data, err := os.ReadFile(n.logPath())
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func (n *Node) read() error {
	data, err := os.ReadFile(filepath.Join(n.Dir, "node.json"))
	if err != nil {
		return err
	}
	token, err := os.ReadFile(filepath.Join(n.Dir, "api-token"))
	if err != nil {
		return err
	}
	var f found
	if err := json.Unmarshal(data, &f); err != nil {
		return err
	}
	n.ID, n.API, n.cluster, n.Token = f.ID, f.API, f.Cluster, strings.TrimSpace(string(token))
	return nil
}

// Move gives the node another address for its next start. The ports stay.
func (n *Node) Move(host string) error {
	_, listen, err := net.SplitHostPort(strings.TrimPrefix(n.API, "http://"))
	if err != nil {
		return fmt.Errorf("move %s: %w", n.Name, err)
	}
	_, cluster, err := net.SplitHostPort(n.cluster)
	if err != nil {
		return fmt.Errorf("move %s: %w", n.Name, err)
	}
	n.Host, n.API, n.cluster = host, "http://"+net.JoinHostPort(host, listen), net.JoinHostPort(host, cluster)
	return nil
}

// Cluster is the host:port to join it at.
func (n *Node) Cluster() string { return n.cluster }

// JoinToken is the file that holds the token of the node's cluster.
func (n *Node) JoinToken() string { return filepath.Join(n.Dir, "join-token") }

// Running reports whether the process is there.
func (n *Node) Running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process != nil
}

// Ends are the ends of its processes that nobody brought about.
func (n *Node) Ends() []error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.ends)
}

// Exit is how the process ended.
func (n *Node) Exit() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.status
}

// Kill ends the process as a crash would, and waits until it is gone.
func (n *Node) Kill() error { return n.end(syscall.SIGKILL, 10*time.Second) }

// Crash ends the process and its steps, as the machine's end would: the steps of a
// process alone live on until it is started again.
func (n *Node) Crash() error {
	if err := n.Kill(); err != nil {
		return err
	}
	_, err := supervise.KillAll(n.owns)
	return err
}

// owns reports whether a process is one of the node's steps.
func (n *Node) owns(p supervise.Proc) bool {
	return n.ID != "" && slices.Contains(p.Environ(), "NARWHAL_NODE_ID="+string(n.ID))
}

// Stop ends the process as an operator would.
func (n *Node) Stop() error { return n.end(syscall.SIGTERM, 30*time.Second) }

// Signal sends a signal, such as SIGSTOP.
func (n *Node) Signal(s syscall.Signal) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil {
		return fmt.Errorf("signal %s: it does not run", n.Name)
	}
	return n.process.Signal(s)
}

// Await waits until the process has ended.
func (n *Node) Await(ctx context.Context) error {
	n.mu.Lock()
	exited := n.exited
	n.mu.Unlock()
	select {
	case <-exited:
		return n.Exit()
	case <-ctx.Done():
		return fmt.Errorf("wait for %s to end: %w", n.Name, ctx.Err())
	}
}

func (n *Node) end(s syscall.Signal, within time.Duration) error {
	n.mu.Lock()
	process, exited := n.process, n.exited
	n.ending = true
	n.mu.Unlock()
	if process == nil {
		return nil
	}
	if err := process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end %s: %w", n.Name, err)
	}
	select {
	case <-exited:
		return nil
	case <-time.After(within):
		return fmt.Errorf("%s did not end within %s of %s", n.Name, within, s)
	}
}

// Client reaches this node alone.
func (n *Node) Client() (*client.Client, error) {
	return client.New(client.Config{Addrs: []string{n.API}, Token: n.Token})
}

// PID is the process's ID, 0 while it does not run.
func (n *Node) PID() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil {
		return 0
	}
	return n.process.Pid
}
