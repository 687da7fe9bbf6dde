package main

import (
	"net"
	"net/netip"
	"sync/atomic"
)

// guard keeps this machine's jobs away from narwhal's own ports, which they reach
// through their network's gateway.
type guard struct {
	local atomic.Pointer[func(netip.Addr) bool] // nil until the executor is there
}

// refuse has connections refused that come from where local says so.
func (g *guard) refuse(local func(netip.Addr) bool) { g.local.Store(&local) }

// listener is ln without the connections that are refused.
func (g *guard) listener(ln net.Listener) net.Listener { return guarded{ln, g} }

type guarded struct {
	net.Listener
	guard *guard
}

// Accept implements net.Listener.
func (l guarded) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil || !l.guard.refuses(conn.RemoteAddr()) {
			return conn, err
		}
		_ = conn.Close() // nobody is to be told
	}
}

func (g *guard) refuses(addr net.Addr) bool {
	local := g.local.Load()
	tcp, ok := addr.(*net.TCPAddr)
	return local != nil && ok && (*local)(tcp.AddrPort().Addr())
}
