package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"
)

// The protocols of this package on the one port. Callers register more with
// Cluster.Listener.
const (
	alpnRaft   = "narwhal-raft"
	alpnGossip = "narwhal-gossip" // memberlist's streams
	alpnJoin   = "narwhal-join"   // the only one without a client certificate
	alpnPeer   = "narwhal-peer"   // what one node asks another of its log
)

const (
	handshakeTimeout = 5 * time.Second
	maxHandshakes    = 256 // at a time; more wait in the kernel's queue
)

// PeerAddr is the remote address of a connection with the identity that was
// proved on it. A gRPC server finds it in peer.FromContext, an HTTP server in
// ConnContext.
type PeerAddr struct {
	net.Addr
	NodeID string // empty for a newcomer that is joining
}

// Conn is a connection with another member over mutual TLS.
type Conn struct {
	*tls.Conn
	mux  *mux
	peer string
}

// PeerID is the ID in the certificate that the other end proved to hold.
func (c *Conn) PeerID() string { return c.peer }

// RemoteAddr is a PeerAddr.
func (c *Conn) RemoteAddr() net.Addr { return PeerAddr{Addr: c.Conn.RemoteAddr(), NodeID: c.peer} }

// Close ends the connection.
func (c *Conn) Close() error {
	c.mux.forget(c)
	return c.Conn.Close()
}

// PeerID is the node at the other end of a connection of this package; empty
// for others.
func PeerID(conn net.Conn) string {
	if c, ok := conn.(interface{ PeerID() string }); ok {
		return c.PeerID()
	}
	return ""
}

// mux shares one TCP port by ALPN. Its connections end with it.
type mux struct {
	log     *slog.Logger
	network Network
	ln      net.Listener

	mu    sync.Mutex
	creds *credentials
	lanes map[string]*lane
	conns map[*Conn]struct{}
	ended bool
}

func newMux(network Network, ln net.Listener, log *slog.Logger) *mux {
	return &mux{log: log, network: network, ln: ln, lanes: map[string]*lane{}, conns: map[*Conn]struct{}{}}
}

func (m *mux) use(creds *credentials) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.creds = creds
}

// listen registers a protocol. greet, where it is not nil, runs on a new
// connection before it is accepted; its error closes the connection.
func (m *mux) listen(alpn string, greet func(*Conn) error) *lane {
	l := &lane{mux: m, alpn: alpn, greet: greet, queue: make(chan net.Conn), done: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lanes[alpn] = l
	if m.ended {
		l.once.Do(func() { close(l.done) })
	}
	return l
}

// run accepts until ctx ends, and returns when every connection is closed.
func (m *mux) run(ctx context.Context) error {
	var wg sync.WaitGroup
	stop := context.AfterFunc(ctx, m.close)
	defer stop()
	slots := make(chan struct{}, maxHandshakes)
	var err error
	for delay := time.Duration(0); ; {
		var raw net.Conn
		raw, err = m.ln.Accept()
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			break
		}
		if err != nil { // such as no file descriptor left: it passes
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			m.log.Warn("accept connection", "err", err)
			wait(ctx, delay)
			continue
		}
		delay = 0
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			m.admit(ctx, raw)
		})
	}
	m.close()
	wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("accept connection: %w", err)
}

func (m *mux) close() {
	m.mu.Lock()
	m.ended = true
	lanes, conns := m.lanes, m.conns
	m.lanes, m.conns = map[string]*lane{}, map[*Conn]struct{}{}
	m.mu.Unlock()
	_ = m.ln.Close()
	for _, l := range lanes {
		_ = l.Close()
	}
	for c := range conns {
		_ = c.NetConn().Close() // not TLS's goodbye, which may wait for a dead peer
	}
}

// admit does the handshake and hands the connection to its protocol.
func (m *mux) admit(ctx context.Context, raw net.Conn) {
	_ = raw.SetDeadline(time.Now().Add(handshakeTimeout))
	conn := tls.Server(raw, &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: m.configFor})
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		m.refuse(raw, err)
		return
	}
	state := conn.ConnectionState()
	m.mu.Lock()
	l := m.lanes[state.NegotiatedProtocol]
	m.mu.Unlock()
	c := m.track(conn)
	if l == nil || c == nil {
		_ = raw.Close()
		return
	}
	if l.greet != nil {
		if err := l.greet(c); err != nil {
			m.refuse(raw, err)
			_ = c.Close()
			return
		}
	}
	_ = raw.SetDeadline(time.Time{})
	l.deliver(c)
}

func (m *mux) refuse(raw net.Conn, err error) {
	_ = raw.Close()
	if errors.Is(err, ErrForeign) || errors.Is(err, ErrSuperseded) {
		m.log.Error("refused a connection", "from", raw.RemoteAddr().String(), "err", err)
		return
	}
	m.log.Debug("refused a connection", "from", raw.RemoteAddr().String(), "err", err)
}

// configFor lets a client that asks for joining, and for nothing else, come
// without a certificate.
func (m *mux) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.creds == nil {
		return nil, errors.New("this node has not joined a cluster yet")
	}
	if len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == alpnJoin {
		return m.creds.newcomers(), nil
	}
	var alpns []string
	for alpn := range m.lanes {
		if alpn != alpnJoin {
			alpns = append(alpns, alpn)
		}
	}
	if !slices.ContainsFunc(hello.SupportedProtos, func(p string) bool { return slices.Contains(alpns, p) }) {
		return nil, fmt.Errorf("no protocol here of %q", hello.SupportedProtos)
	}
	return m.creds.server(alpns), nil
}

// dial connects to a member. wantNode may be empty: any member will do.
func (m *mux) dial(ctx context.Context, addr, alpn, wantNode string) (*Conn, error) {
	m.mu.Lock()
	creds := m.creds
	m.mu.Unlock()
	if creds == nil {
		return nil, fmt.Errorf("dial %s: %w", addr, ErrNotRunning)
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	raw, err := m.network.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, creds.client(alpn, wantNode))
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("handshake with %s: %w", addr, err)
	}
	c := m.track(conn)
	if c == nil {
		_ = raw.Close()
		return nil, fmt.Errorf("dial %s: %w", addr, ErrNotRunning)
	}
	return c, nil
}

func (m *mux) track(conn *tls.Conn) *Conn {
	c := &Conn{Conn: conn, mux: m}
	if certs := conn.ConnectionState().PeerCertificates; len(certs) > 0 {
		_, c.peer = certNames(certs[0])
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return nil
	}
	m.conns[c] = struct{}{}
	return c
}

func (m *mux) forget(c *Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.conns, c)
}

// lane is one protocol's listener.
type lane struct {
	mux   *mux
	alpn  string
	greet func(*Conn) error
	queue chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (l *lane) deliver(c *Conn) {
	timer := time.NewTimer(handshakeTimeout)
	defer timer.Stop()
	select {
	case l.queue <- c:
	case <-l.done:
		_ = c.NetConn().Close()
		l.mux.forget(c)
	case <-timer.C: // nobody accepts
		_ = c.NetConn().Close()
		l.mux.forget(c)
	}
}

// Accept waits for the next connection of the protocol; its type is *Conn.
func (l *lane) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close ends the protocol on the port, not its connections.
func (l *lane) Close() error {
	l.once.Do(func() {
		l.mux.mu.Lock()
		if l.mux.lanes[l.alpn] == l {
			delete(l.mux.lanes, l.alpn)
		}
		l.mux.mu.Unlock()
		close(l.done)
	})
	return nil
}

func (l *lane) Addr() net.Addr { return l.mux.ln.Addr() }
