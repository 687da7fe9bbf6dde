package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// transport carries memberlist's packets over UDP, which it encrypts itself, and
// its streams over the one TLS port.
type transport struct {
	ctx     context.Context // ends with the node: memberlist's calls bring none
	mux     *mux
	lane    *lane
	packets net.PacketConn
	addr    netip.AddrPort
	packet  chan *memberlist.Packet
	stream  chan net.Conn
	done    context.CancelFunc
}

func newTransport(ctx context.Context, m *mux, packets net.PacketConn, addr netip.AddrPort) *transport {
	ctx, cancel := context.WithCancel(ctx)
	return &transport{
		ctx: ctx, done: cancel, mux: m, lane: m.listen(alpnGossip, nil), packets: packets, addr: addr,
		packet: make(chan *memberlist.Packet), stream: make(chan net.Conn),
	}
}

// readPackets hands packets on until the transport is shut down.
func (t *transport) readPackets() error {
	buf := make([]byte, 65536)
	for {
		n, from, err := t.packets.ReadFrom(buf)
		if t.ctx.Err() != nil {
			return nil
		}
		if err != nil || n == 0 {
			if !wait(t.ctx, 10*time.Millisecond) { // an ICMP error of an earlier packet, say
				return nil
			}
			continue
		}
		packet := &memberlist.Packet{Buf: append([]byte(nil), buf[:n]...), From: from, Timestamp: time.Now()}
		select {
		case t.packet <- packet:
		case <-t.ctx.Done():
			return nil
		}
	}
}

// acceptStreams hands streams on until the transport is shut down.
func (t *transport) acceptStreams() error {
	for {
		conn, err := t.lane.Accept()
		if err != nil {
			return nil
		}
		select {
		case t.stream <- conn:
		case <-t.ctx.Done():
			_ = conn.Close()
			return nil
		}
	}
}

func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.addr.Addr().Unmap().AsSlice(), int(t.addr.Port()), nil
}

func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("send packet: %w", err)
	}
	_, err = t.packets.WriteTo(b, net.UDPAddrFromAddrPort(to))
	return time.Now(), err
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packet }
func (t *transport) StreamCh() <-chan net.Conn           { return t.stream }

func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, timeout)
	defer cancel()
	conn, err := t.mux.dial(ctx, addr, alpnGossip, "")
	if err != nil {
		if errors.Is(err, ErrForeign) {
			t.mux.log.Error("this host is told to join another cluster's", "host", addr, "err", err) // memberlist keeps it to itself
		}
		return nil, err
	}
	return conn, nil
}

func (t *transport) Shutdown() error {
	t.done()
	_ = t.lane.Close()
	return t.packets.Close()
}
