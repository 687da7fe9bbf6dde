package executor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// DefaultPool is where the networks of narwhal's jobs have their addresses.
var DefaultPool = netip.MustParsePrefix("10.213.0.0/16")

const (
	// jobBits leave an attempt's network 13 addresses for containers.
	jobBits = 28
	// nodeBits leave the network of all other attempts 1,021.
	nodeBits = 22
	// minPool is the smallest pool there can be: the node's network and one more.
	minPool = 21
)

var errPoolFull = errors.New("no addresses are left for the networks of this node's jobs: give it more by --job-networks")

// CheckPool refuses a prefix that networks can't have their addresses from.
func CheckPool(p netip.Prefix) error {
	if !p.Addr().Is4() || p.Bits() > minPool || p.Bits() < 8 {
		return fmt.Errorf("the addresses of jobs' networks, %s, are no IPv4 prefix from /8 to /%d", p, minPool)
	}
	return nil
}

// pool hands out subnets. The engine's own pools are enough for 31 networks.
type pool struct {
	all  netip.Prefix
	next uint32 // the address from which the next subnet is looked for
}

// newPool begins at a place that depends on name, so that nodes which share an
// engine seldom try the same subnet.
func newPool(all netip.Prefix, name string) *pool {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(name))
	size := uint32(1) << (32 - all.Bits())
	return &pool{all: all.Masked(), next: toNumber(all.Masked().Addr()) + hash.Sum32()%size}
}

// take gives a subnet that overlaps with none of used.
func (p *pool) take(bits int, used []netip.Prefix) (netip.Prefix, error) {
	var (
		step  = uint32(1) << (32 - bits)
		size  = uint32(1) << (32 - p.all.Bits())
		first = toNumber(p.all.Addr())
		at    = (p.next - first) / step * step
	)
	for tried := uint32(0); tried < size; tried += step {
		candidate := netip.PrefixFrom(toAddr(first+(at+tried)%size), bits)
		if !overlapsAny(candidate, used) {
			p.next = first + (at+tried+step)%size
			return candidate, nil
		}
	}
	return netip.Prefix{}, errPoolFull
}

func overlapsAny(p netip.Prefix, list []netip.Prefix) bool {
	for _, other := range list {
		if p.Overlaps(other) {
			return true
		}
	}
	return false
}

func toNumber(a netip.Addr) uint32 {
	four := a.As4()
	return binary.BigEndian.Uint32(four[:])
}

func toAddr(n uint32) netip.Addr {
	var four [4]byte
	binary.BigEndian.PutUint32(four[:], n)
	return netip.AddrFrom4(four)
}

// machineNets are the networks that this machine has itself, or a road to: the
// engine doesn't look at these when it is told an address.
func machineNets() []netip.Prefix {
	var nets []netip.Prefix
	addrs, err := net.InterfaceAddrs()
	if err == nil {
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
				nets = append(nets, p.Masked())
			}
		}
	}
	table, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return nets
	}
	for line := range strings.Lines(string(table)) {
		if p, ok := route(strings.Fields(line)); ok {
			nets = append(nets, p)
		}
	}
	return nets
}

// route reads a line of /proc/net/route, whose numbers have the machine's order
// of bytes. A default route is none that anything could overlap with.
func route(fields []string) (netip.Prefix, bool) {
	if len(fields) < 8 {
		return netip.Prefix{}, false
	}
	to, err1 := strconv.ParseUint(fields[1], 16, 32)
	mask, err2 := strconv.ParseUint(fields[7], 16, 32)
	if err1 != nil || err2 != nil || mask == 0 {
		return netip.Prefix{}, false
	}
	var addr, ones [4]byte
	binary.NativeEndian.PutUint32(addr[:], uint32(to))
	binary.NativeEndian.PutUint32(ones[:], uint32(mask))
	bits, _ := net.IPMask(ones[:]).Size()
	return netip.PrefixFrom(netip.AddrFrom4(addr), bits).Masked(), true
}
