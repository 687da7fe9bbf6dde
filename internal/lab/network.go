package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// Network is a network of the lab's own, whose roads can be cut: a network namespace for
// each node, with a cable to each other one and to this machine. There is no bridge: an
// engine's firewall rules would hold for it. It takes root.
type Network struct {
	name   string // begins the names of all that belongs to it
	here   string // this machine's address in it
	spaces []space
}

// space is one node's side of the network.
type space struct {
	name string // of the namespace, and of this machine's end of the cable to it
	addr string
}

// NewNetwork makes a network for n nodes. Close takes it down.
func NewNetwork(ctx context.Context, n int) (*Network, error) {
	// Names have 15 bytes at most. The process's ID tells two that run side by side apart.
	pid := os.Getpid()
	subnet, err := freeSubnet(pid)
	if err != nil {
		return nil, err
	}
	w := &Network{name: fmt.Sprintf("nw%d", pid), here: subnet + "254"}
	for i := 1; i <= n; i++ {
		s := space{name: fmt.Sprintf("%sn%d", w.name, i), addr: fmt.Sprintf("%s%d", subnet, i)}
		if err := w.connect(ctx, s); err != nil {
			return nil, errors.Join(err, w.Close())
		}
	}
	return w, nil
}

// freeSubnet is the beginning of addresses of which this machine has none, from the one
// of a process's ID on.
func freeSubnet(pid int) (string, error) {
	taken, err := net.InterfaceAddrs()
	if err != nil {
		return "", fmt.Errorf("find a free subnet: %w", err)
	}
	for i := range 256 {
		subnet := fmt.Sprintf("10.213.%d.", (pid+i)%256)
		if !slices.ContainsFunc(taken, func(a net.Addr) bool { return strings.HasPrefix(a.String(), subnet) }) {
			return subnet, nil
		}
	}
	return "", errors.New("find a free subnet: all of 10.213.0.0/16 is in use")
}

// connect makes a namespace, with a cable to all that are there.
func (w *Network) connect(ctx context.Context, s space) error {
	if err := w.ip(ctx, "netns", "add", s.name); err != nil {
		return err
	}
	lines := []string{
		"-n " + s.name + " link set lo up",
		"-n " + s.name + " addr add " + s.addr + "/32 dev lo",
		"link add " + s.name + " type veth peer name here netns " + s.name,
		"addr add " + w.here + "/32 dev " + s.name,
		"link set " + s.name + " up",
		"-n " + s.name + " link set here up",
		"route add " + s.addr + " dev " + s.name + " src " + w.here,
		"-n " + s.name + " route add " + w.here + " dev here src " + s.addr,
	}
	for _, o := range w.spaces {
		mine, its := strings.TrimPrefix(o.name, w.name), strings.TrimPrefix(s.name, w.name)
		lines = append(lines,
			"-n "+s.name+" link add "+mine+" type veth peer name "+its+" netns "+o.name,
			"-n "+s.name+" link set "+mine+" up",
			"-n "+o.name+" link set "+its+" up",
			"-n "+s.name+" route add "+o.addr+" dev "+mine+" src "+s.addr,
			"-n "+o.name+" route add "+s.addr+" dev "+its+" src "+o.addr,
		)
	}
	w.spaces = append(w.spaces, s)
	for _, line := range lines {
		if err := w.ip(ctx, strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}

func (w *Network) ip(ctx context.Context, args ...string) error { return tool(ctx, "ip", args...) }

func tool(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// within is a command line that runs argv in the namespace of a node. The process that
// it starts becomes argv's.
func (s space) within(argv ...string) []string {
	return append([]string{"nsenter", "--net=/run/netns/" + s.name, "--"}, argv...)
}

// Drop loses every packet that from sends to to; what goes the other way arrives.
func (l *Lab) Drop(ctx context.Context, from, to *Node) error {
	return drop(ctx, from, to)
}

func drop(ctx context.Context, from, to *Node, match ...string) error {
	argv := to.space.within(slices.Concat([]string{"iptables", "-w", "-A", "INPUT", "-s", from.space.addr}, match, []string{"-j", "DROP"})...)
	return tool(ctx, argv[0], argv[1:]...)
}

// Lose loses a share of all packets between nodes, from 0 to 1, picked at random.
func (l *Lab) Lose(ctx context.Context, share float64) error {
	var failed []error
	for _, from := range l.Nodes {
		for _, to := range l.Nodes {
			if from != to {
				failed = append(failed, drop(ctx, from, to, "-m", "statistic", "--mode", "random", "--probability", fmt.Sprint(share)))
			}
		}
	}
	return errors.Join(failed...)
}

// Isolate cuts a node off from all others. Whoever is none of them still reaches it.
func (l *Lab) Isolate(ctx context.Context, n *Node) error {
	var failed []error
	for _, other := range l.Nodes {
		if other != n {
			failed = append(failed, l.Drop(ctx, n, other), l.Drop(ctx, other, n))
		}
	}
	return errors.Join(failed...)
}

// Heal takes back all that Drop, Lose and Isolate did.
func (l *Lab) Heal(ctx context.Context) error {
	var failed []error
	for _, n := range l.Nodes {
		argv := n.space.within("iptables", "-w", "-F", "INPUT")
		failed = append(failed, tool(ctx, argv[0], argv[1:]...))
	}
	return errors.Join(failed...)
}

// Close takes the network down, after the nodes have ended. The cables between them go
// with their namespaces.
func (w *Network) Close() error {
	ctx := context.Background() // what was made is taken down, whatever has ended
	var failed []error
	for _, s := range w.spaces {
		failed = append(failed, w.ip(ctx, "link", "del", s.name), w.ip(ctx, "netns", "del", s.name))
	}
	return errors.Join(failed...)
}
