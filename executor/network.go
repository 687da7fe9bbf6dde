package executor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"

	"github.com/codepr/narwhal/fsm"
)

// networks are the bridges of this node: one for all jobs that have no services,
// on which they can't reach each other, and one for each that has.
type networks struct {
	making sync.Mutex // held while a subnet is chosen and taken
	pool   *pool

	mu    sync.Mutex
	known map[string]netip.Prefix // of all of narwhal's in the engine, by name
}

// nodeNetwork is the name of the node's bridge.
func (d *Docker) nodeNetwork() string { return "narwhal-" + string(d.cfg.Node) }

// network makes sure of the network that the attempt's containers are to be on,
// and gives its name.
func (d *Docker) network(ctx context.Context, t Task) (string, error) {
	if len(t.Work.Spec.Services) == 0 {
		return d.nodeNetwork(), d.ensureNetwork(ctx)
	}
	name := d.containerName(t)
	bits := jobBits
	// Two addresses name the network itself, one is the machine's.
	for want := len(t.Work.Spec.Services) + len(satellites(t)) + 1; 1<<(32-bits)-3 < want; {
		bits--
	}
	d.nets.making.Lock()
	defer d.nets.making.Unlock()
	return name, d.makeNetwork(ctx, name, bits, network.CreateOptions{Labels: labels(t, roleNetwork, "")})
}

func (d *Docker) ensureNetwork(ctx context.Context) error {
	d.nets.making.Lock()
	defer d.nets.making.Unlock()
	found, err := d.api.NetworkInspect(ctx, d.nodeNetwork(), network.InspectOptions{})
	if err == nil {
		d.nets.learn(found.Name, subnets(found.IPAM))
		return nil
	}
	if !errdefs.IsNotFound(err) {
		return fmt.Errorf("look for network: %w", err)
	}
	return d.makeNetwork(ctx, d.nodeNetwork(), nodeBits, network.CreateOptions{
		Options: map[string]string{"com.docker.network.bridge.enable_icc": "false"},
		Labels:  map[string]string{labelCluster: d.cfg.Cluster, labelNode: string(d.cfg.Node), labelRole: roleNode},
	})
}

// makeNetwork makes a bridge on a subnet that nobody has. Others take theirs from
// the same engine meanwhile, so what it refuses is not asked for again.
func (d *Docker) makeNetwork(ctx context.Context, name string, bits int, options network.CreateOptions) error {
	all, err := d.api.NetworkList(ctx, network.ListOptions{})
	if err != nil {
		return fmt.Errorf("list networks: %w", err)
	}
	used := machineNets()
	for _, n := range all {
		used = append(used, subnets(n.IPAM)...)
	}
	options.Driver = "bridge"
	for {
		subnet, err := d.nets.pool.take(bits, used)
		if err != nil {
			return fmt.Errorf("create network: %w", err)
		}
		options.IPAM = &network.IPAM{Config: []network.IPAMConfig{{Subnet: subnet.String()}}}
		_, err = d.api.NetworkCreate(ctx, name, options)
		switch {
		case err == nil:
			d.nets.learn(name, []netip.Prefix{subnet})
			return nil
		case strings.Contains(err.Error(), "overlap"):
			used = append(used, subnet)
		case errdefs.IsConflict(err): // it is there already
			found, err := d.api.NetworkInspect(ctx, name, network.InspectOptions{})
			if err != nil {
				return fmt.Errorf("look for network: %w", err)
			}
			d.nets.learn(name, subnets(found.IPAM))
			return nil
		default:
			return fmt.Errorf("create network: %w", err)
		}
	}
}

func subnets(ipam network.IPAM) []netip.Prefix {
	var list []netip.Prefix
	for _, c := range ipam.Config {
		if p, err := netip.ParsePrefix(c.Subnet); err == nil {
			list = append(list, p)
		}
	}
	return list
}

func (n *networks) learn(name string, subnets []netip.Prefix) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range subnets {
		n.known[name] = s
	}
}

func (n *networks) forget(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.known, name)
}

// Networks asks the engine for the subnets of every narwhal's job containers on
// this machine, and has Local go by them from then on: those of jobs that an earlier
// narwhal has started are among them. It is called before anybody may connect.
func (d *Docker) Networks(ctx context.Context) ([]netip.Prefix, error) {
	d.nets.making.Lock() // what is made meanwhile would be forgotten
	defer d.nets.making.Unlock()
	found, err := d.api.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(filters.Arg("label", labelCluster))})
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	known := make(map[string]netip.Prefix)
	for _, n := range found {
		for _, s := range subnets(n.IPAM) {
			known[n.Name] = s
		}
	}
	d.nets.mu.Lock()
	defer d.nets.mu.Unlock()
	d.nets.known = known
	return slices.Collect(maps.Values(known)), nil
}

// Local reports whether addr is that of a container of a job on this machine,
// as far as Start and Networks have learned: none has business with narwhal's own
// ports, which it reaches through its network's gateway all the same.
func (d *Docker) Local(addr netip.Addr) bool {
	d.nets.mu.Lock()
	defer d.nets.mu.Unlock()
	addr = addr.Unmap()
	for _, subnet := range d.nets.known {
		if subnet.Contains(addr) && addr != subnet.Masked().Addr().Next() { // the machine's own, as its gateway
			return true
		}
	}
	return false
}

// RemoveNetwork removes what was made ahead, the node's network, and the empty folders of its secrets
// and groups, where no container of the node's is left, also none that an adopting
// process would start. It is for a process that ends: nobody else would ever do it,
// and the next Start makes them again.
func (d *Docker) RemoveNetwork(ctx context.Context) error {
	d.warm.end()
	left, err := d.api.ContainerList(ctx, container.ListOptions{All: true, Filters: d.ours()})
	if err != nil {
		return fmt.Errorf("remove network: %w", err)
	}
	if len(left) > 0 {
		return nil
	}
	none := func(fsm.AttemptRef) bool { return false }
	return errors.Join(d.dropNetwork(ctx, d.nodeNetwork()), d.secrets.sweep(none), d.cgroups.sweep(d.groups(), none))
}

func (d *Docker) dropNetwork(ctx context.Context, name string) error {
	err := d.api.NetworkRemove(ctx, name)
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove network: %w", err)
	}
	d.nets.forget(name)
	return nil
}

// sweepNetworks removes the networks of attempts that keep doesn't name.
func (d *Docker) sweepNetworks(ctx context.Context, args filters.Args, keep func(map[string]string) bool) error {
	found, err := d.api.NetworkList(ctx, network.ListOptions{Filters: args})
	if err != nil {
		return fmt.Errorf("sweep networks: %w", err)
	}
	var errs []error
	for _, n := range found {
		if n.Labels[labelRole] != roleNode && !keep(n.Labels) {
			errs = append(errs, d.dropNetwork(ctx, n.Name))
		}
	}
	return errors.Join(errs...)
}
