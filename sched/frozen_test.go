package sched

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
)

// bare passes for a connection under TLS: who is there is not what is tested.
type bare struct{ net.Conn }

func (bare) Handshake() error { return nil }

func (bare) ConnectionState() tls.ConnectionState { return tls.ConnectionState{} }

type bareListener struct{ *bufconn.Listener }

func (l bareListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return bare{c}, err
}

// freezer is the connection of a process that is stopped at some moment: it stays
// open, and nobody reads it.
type freezer struct {
	bare
	frozen <-chan struct{}
	once   sync.Once
	closed chan struct{}
}

func (f *freezer) Read(p []byte) (int, error) {
	n, err := f.bare.Read(p)
	select {
	case <-f.frozen:
		<-f.closed
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (f *freezer) Close() error {
	f.once.Do(func() { close(f.closed) })
	return f.bare.Close()
}

// always is a cluster that the same node leads for good.
type always struct{}

func (always) Leader() (fsm.NodeID, bool) { return "leader", true }

func (always) Changed() <-chan struct{} { return nil }

// counter tells of each Send before it is done.
type counter struct {
	link.Handler
	sends chan struct{}
}

func (c counter) Serve(ctx context.Context, id fsm.NodeID, s link.Stream) error {
	return c.Handler.Serve(ctx, id, countedStream{s, c.sends})
}

type countedStream struct {
	link.Stream
	sends chan<- struct{}
}

func (s countedStream) Send(d *link.Down) error {
	s.sends <- struct{}{}
	return s.Stream.Send(d)
}

// A frozen node's connection is given up after 15 s, and the leadership does not
// wait for that: over gRPC too, Serve's return frees what is blocked.
func TestLeadershipEndsWhileNodeIsFrozen(t *testing.T) {
	l := newOnlyLog()
	d := newDispatcher(l)
	wire := bufconn.Listen(4 << 10)
	sends := make(chan struct{}, 16)
	server, err := link.NewServer(counter{d, sends}, func(net.Conn) string { return "n1" })
	if err != nil {
		t.Fatal(err)
	}
	frozen := make(chan struct{})
	client, err := link.NewClient(link.ClientConfig{
		Leaders: always{}, Log: slog.New(slog.DiscardHandler),
		Dial: func(ctx context.Context, _ fsm.NodeID) (net.Conn, error) {
			c, err := wire.DialContext(ctx)
			return &freezer{bare: bare{c}, frozen: frozen, closed: make(chan struct{})}, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}

	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tenure, resign := context.WithCancel(ctx)
	led := make(chan error, 1)
	all.Go(func() { led <- d.Lead(tenure) })
	all.Go(func() {
		if err := server.Run(ctx, bareListener{wire}); err != nil {
			t.Error(err)
		}
	})
	all.Go(func() {
		_ = client.Run(ctx, func(ctx context.Context, s link.NodeStream) error {
			who := hello("n1", 1)
			if err := s.Send(&link.Up{Hello: &who}); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		})
	})

	<-sends
	close(frozen)
	// More than gRPC and the wire hold between them, so that the Send after it waits.
	for _, sha := range []string{"aaaa", "bbbb"} {
		if err := l.push(ctx, fsm.Commit{Repo: "acme/api", SHA: sha, Message: strings.Repeat("x", 1<<20)}); err != nil {
			t.Fatal(err)
		}
		<-sends
	}
	resign()
	select {
	case err := <-led:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the leadership did not end")
	}
}
