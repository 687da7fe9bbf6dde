package cluster

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// Network is what nodes talk over: sockets, or memory in tests.
type Network interface {
	// Listen opens a TCP listener and a UDP socket on the same port.
	Listen(addr string) (net.Listener, net.PacketConn, error)
	// Dial connects to host:port. It is ECONNREFUSED where the host is there and no
	// process listens.
	Dial(ctx context.Context, addr string) (net.Conn, error)
	// Resolve turns host:port into the ip:port that it stands for.
	Resolve(ctx context.Context, addr string) ([]string, error)
	// LocalIP is the address from which packets to a peer leave, which is the one
	// where it can answer. An empty peer stands for the world.
	LocalIP(peer string) (net.IP, error)
}

type sockets struct{}

// Listen opens both sockets. Where the kernel chooses, the UDP port may be taken
// already, so a few are tried.
func (sockets) Listen(addr string) (net.Listener, net.PacketConn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, nil, fmt.Errorf("listen on %q: %w", addr, err)
	}
	for try := 0; ; try++ {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, nil, fmt.Errorf("listen: %w", err)
		}
		bound := strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
		packets, err := net.ListenPacket("udp", net.JoinHostPort(host, bound))
		if err == nil {
			return ln, packets, nil
		}
		_ = ln.Close()
		if port != "0" || try == 10 {
			return nil, nil, fmt.Errorf("listen: %w", err)
		}
	}
}

func (sockets) Dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

func (sockets) Resolve(ctx context.Context, addr string) ([]string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("resolve %q: %w", addr, err)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("resolve %q: %w", addr, err)
	}
	out := make([]string, len(ips))
	for i, ip := range ips {
		out[i] = net.JoinHostPort(ip.Unmap().String(), port)
	}
	return out, nil
}

// LocalIP asks the kernel which way packets would go; none is sent.
func (sockets) LocalIP(peer string) (net.IP, error) {
	conn, err := net.Dial("udp", orDefault(peer, "192.0.2.1:9")) // a network that is never used: the default route
	if err != nil {
		return net.IPv4(127, 0, 0, 1), nil // no network: only nodes on this machine can reach it
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).IP, nil
}

// advertised is the address that the others are told: what was configured, else
// the bound port at the bound IP, else at the IP that routes to peer.
func advertised(ctx context.Context, cfg Config, bound net.Addr, peer string) (netip.AddrPort, error) {
	boundHost, boundPort, err := net.SplitHostPort(bound.String())
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("parse bound address: %w", err)
	}
	if cfg.Advertise != "" {
		addrs, err := cfg.Network.Resolve(ctx, withPort(cfg.Advertise, boundPort))
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("advertise %s: %w", cfg.Advertise, err)
		}
		return netip.ParseAddrPort(addrs[0])
	}
	if ip, err := netip.ParseAddr(boundHost); err == nil && !ip.IsUnspecified() {
		return netip.ParseAddrPort(bound.String())
	}
	ip, err := cfg.Network.LocalIP(peer)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("find own address: %w", err)
	}
	return netip.ParseAddrPort(net.JoinHostPort(ip.String(), boundPort))
}
