package cluster

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// Memory is a network in memory for tests in virtual time. Hosts are IP
// addresses; links between them can be cut. It starts no goroutine and looks at
// no clock but for deadlines.
type Memory struct {
	mu      sync.Mutex
	streams map[string]*memListener
	packets map[string]*memPacketConn
	conns   map[*memConn]struct{}
	cut     func(from, to string) bool // IPs
}

// NewMemory returns a network on which every host reaches every other.
func NewMemory() *Memory {
	return &Memory{streams: map[string]*memListener{}, packets: map[string]*memPacketConn{}, conns: map[*memConn]struct{}{}}
}

// Cut sets which pairs of IPs do not reach each other, and breaks their
// connections. Nil heals the network.
func (m *Memory) Cut(cut func(from, to string) bool) {
	m.mu.Lock()
	m.cut = cut
	var broken []*memConn
	for c := range m.conns {
		if m.isCut(c.local, c.remote) {
			broken = append(broken, c)
		}
	}
	m.mu.Unlock()
	for _, c := range broken {
		_ = c.Close()
	}
}

// Crash ends what listens on a host and breaks its connections, as the death of a
// process does: who dials it is refused.
func (m *Memory) Crash(ip string) {
	m.mu.Lock()
	for addr, ln := range m.streams {
		if hostOf(ln.addr) == ip {
			delete(m.streams, addr)
		}
	}
	m.cut = func(from, _ string) bool { return from == ip }
	m.mu.Unlock()
	m.HangUp(ip)
}

// HangUp closes a host's connections, at its end.
func (m *Memory) HangUp(ip string) {
	m.mu.Lock()
	var ends []*memConn
	for c := range m.conns {
		if hostOf(c.local) == ip {
			ends = append(ends, c)
		}
	}
	m.mu.Unlock()
	for _, c := range ends {
		_ = c.Close()
	}
}

func (m *Memory) isCut(a, b net.Addr) bool {
	if m.cut == nil {
		return false
	}
	x, y := hostOf(a), hostOf(b)
	return m.cut(x, y) || m.cut(y, x)
}

func hostOf(a net.Addr) string {
	host, _, _ := net.SplitHostPort(a.String())
	return host
}

// Host is the network as the host with this IP sees it.
func (m *Memory) Host(ip string) Network { return &memHost{net: m, ip: netip.MustParseAddr(ip)} }

type memHost struct {
	net  *Memory
	ip   netip.Addr
	port uint16 // the last one given to an outgoing connection
}

func (h *memHost) addr(port uint16) (net.Addr, net.Addr) {
	ap := netip.AddrPortFrom(h.ip, port)
	return net.TCPAddrFromAddrPort(ap), net.UDPAddrFromAddrPort(ap)
}

func (h *memHost) Listen(addr string) (net.Listener, net.PacketConn, error) {
	_, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, nil, fmt.Errorf("listen on %q: %w", addr, err)
	}
	ap, err := netip.ParseAddrPort(net.JoinHostPort(h.ip.String(), portText))
	if err != nil {
		return nil, nil, fmt.Errorf("listen on %q: %w", addr, err)
	}
	tcp, udp := h.addr(ap.Port())
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.net.streams[tcp.String()] != nil {
		return nil, nil, fmt.Errorf("listen on %s: address in use", tcp)
	}
	ln := &memListener{net: h.net, addr: tcp, queue: make(chan net.Conn, 128), done: make(chan struct{})}
	pc := &memPacketConn{net: h.net, addr: udp, queue: make(chan memPacket, 1024), done: make(chan struct{})}
	h.net.streams[tcp.String()], h.net.packets[udp.String()] = ln, pc
	return ln, pc, nil
}

func (h *memHost) Dial(ctx context.Context, addr string) (net.Conn, error) {
	h.net.mu.Lock()
	h.port++
	local, _ := h.addr(h.port)
	ln := h.net.streams[addr]
	if ln != nil && h.net.isCut(local, ln.addr) {
		h.net.mu.Unlock()
		<-ctx.Done() // as behind a firewall that drops
		return nil, fmt.Errorf("dial %s: %w", addr, ctx.Err())
	}
	if ln == nil {
		h.net.mu.Unlock()
		return nil, fmt.Errorf("dial %s: %w", addr, syscall.ECONNREFUSED)
	}
	a, b := newMemPipe(h.net, local, ln.addr)
	h.net.mu.Unlock()
	select {
	case ln.queue <- b:
		return a, nil
	case <-ln.done:
		_ = a.Close()
		return nil, fmt.Errorf("dial %s: %w", addr, syscall.ECONNREFUSED)
	case <-ctx.Done():
		_ = a.Close()
		return nil, fmt.Errorf("dial %s: %w", addr, ctx.Err())
	}
}

func (h *memHost) Resolve(_ context.Context, addr string) ([]string, error) {
	return []string{addr}, nil
}

func (h *memHost) LocalIP(string) (net.IP, error) { return h.ip.AsSlice(), nil }

type memListener struct {
	net   *Memory
	addr  net.Addr
	queue chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error {
	l.once.Do(func() {
		l.net.mu.Lock()
		delete(l.net.streams, l.addr.String())
		l.net.mu.Unlock()
		close(l.done)
		for {
			select {
			case c := <-l.queue:
				_ = c.Close()
			default:
				return
			}
		}
	})
	return nil
}

func (l *memListener) Addr() net.Addr { return l.addr }

type memPacket struct {
	data []byte
	from net.Addr
}

type memPacketConn struct {
	net   *Memory
	addr  net.Addr
	queue chan memPacket
	once  sync.Once
	done  chan struct{}
}

func (p *memPacketConn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case packet := <-p.queue:
		return copy(b, packet.data), packet.from, nil
	case <-p.done:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo loses what nobody listens for, as UDP does.
func (p *memPacketConn) WriteTo(b []byte, to net.Addr) (int, error) {
	p.net.mu.Lock()
	dst := p.net.packets[to.String()]
	if dst != nil && p.net.isCut(p.addr, to) {
		dst = nil
	}
	p.net.mu.Unlock()
	if dst == nil {
		return len(b), nil
	}
	select {
	case dst.queue <- memPacket{data: append([]byte(nil), b...), from: p.addr}:
	default:
	}
	return len(b), nil
}

func (p *memPacketConn) Close() error {
	p.once.Do(func() {
		p.net.mu.Lock()
		delete(p.net.packets, p.addr.String())
		p.net.mu.Unlock()
		close(p.done)
	})
	return nil
}

func (p *memPacketConn) LocalAddr() net.Addr              { return p.addr }
func (p *memPacketConn) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (p *memPacketConn) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (p *memPacketConn) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
