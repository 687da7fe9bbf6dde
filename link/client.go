package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/codepr/narwhal/fsm"
)

// Leaders says who leads, as far as this node knows.
type Leaders interface {
	// Leader is not ok while no leader is known.
	Leader() (id fsm.NodeID, ok bool)
	// Changed is closed with the next change of what Leader answers.
	Changed() <-chan struct{}
}

// Session is the node's side of one stream. The stream ends when it returns,
// and ctx with the stream's leader.
type Session func(ctx context.Context, s NodeStream) error

// ClientConfig is what a Client needs; all of it.
type ClientConfig struct {
	Leaders Leaders
	// Dial connects with a node under mutual TLS and checks that it is id.
	Dial func(ctx context.Context, id fsm.NodeID) (net.Conn, error)
	Log  *slog.Logger
}

// Client keeps a stream to whoever leads.
type Client struct {
	cfg   ClientConfig
	codec codec
}

// NewClient makes a client. It starts nothing.
func NewClient(cfg ClientConfig) (*Client, error) {
	c, err := newCodec()
	if err != nil {
		return nil, err
	}
	return &Client{cfg: cfg, codec: c}, nil
}

const (
	firstDelay = 50 * time.Millisecond
	maxDelay   = 2 * time.Second
)

// Run keeps one session at a time with the leader, until ctx ends. It dials
// again at once when another node leads, and after a growing, jittered delay
// when a stream broke.
func (c *Client) Run(ctx context.Context, session Session) error {
	delay := firstDelay
	for ctx.Err() == nil {
		changed := c.cfg.Leaders.Changed() // before Leader, so that no change slips through
		leader, ok := c.cfg.Leaders.Leader()
		if !ok {
			waitChange(ctx, changed, 0)
			continue
		}
		heard, err := c.withLeader(ctx, leader, session)
		if ctx.Err() != nil {
			break
		}
		if heard {
			delay = firstDelay
		}
		level := slog.LevelInfo
		if errors.Is(err, ErrNotLeader) || now(c.cfg.Leaders) != leader {
			level = slog.LevelDebug // an election is going on
		}
		c.cfg.Log.Log(ctx, level, "stream to the leader ended", "leader", leader, "error", err)
		if now(c.cfg.Leaders) == leader {
			waitChange(ctx, changed, delay/2+rand.N(delay/2)) // jitter
		}
		delay = min(delay*2, maxDelay)
	}
	return nil
}

func now(l Leaders) fsm.NodeID {
	id, _ := l.Leader()
	return id
}

// waitChange waits for another leader, for d at most; without a limit where d
// is zero.
func waitChange(ctx context.Context, changed <-chan struct{}, d time.Duration) {
	var limit <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		limit = t.C
	}
	select {
	case <-ctx.Done():
	case <-changed:
	case <-limit:
	}
}

// withLeader runs one session, and ends it when another node leads. heard says
// that the leader has answered.
func (c *Client) withLeader(ctx context.Context, leader fsm.NodeID, session Session) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		defer cancel()
		for ctx.Err() == nil {
			changed := c.cfg.Leaders.Changed()
			// No leader known is no reason to leave: the one we have ends the
			// stream itself when it no longer leads.
			if id, ok := c.cfg.Leaders.Leader(); ok && id != leader {
				return
			}
			waitChange(ctx, changed, 0)
		}
	})
	conn, closeConn, err := c.connect(ctx, leader)
	if err != nil {
		return false, err
	}
	defer closeConn()
	grpcStream, err := conn.NewStream(ctx, &streamDesc, methodName)
	if err != nil {
		return false, fmt.Errorf("open stream to %s: %w", leader, fromStatus(err))
	}
	s := &nodeStream{grpc: grpcStream, close: cancel, heard: make(chan struct{})}
	err = session(ctx, s)
	select {
	case <-s.heard:
		heard = true
	default:
	}
	return heard, err
}

// connect dials first and hands the connection to gRPC, so that a failure is
// told as it is and at once. gRPC gets no second one: the loop dials again.
func (c *Client) connect(ctx context.Context, leader fsm.NodeID) (conn *grpc.ClientConn, closeAll func(), err error) {
	dialCtx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	raw, err := c.cfg.Dial(dialCtx, leader)
	if err != nil {
		return nil, nil, fmt.Errorf("dial leader %s: %w", leader, err)
	}
	var once sync.Once
	dialOnce := func(context.Context, string) (conn net.Conn, err error) {
		err = net.ErrClosed
		once.Do(func() { conn, err = raw, nil })
		return conn, err
	}
	conn, err = grpc.NewClient("passthrough:///leader",
		grpc.WithContextDialer(dialOnce),
		grpc.WithTransportCredentials(given{}),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(c.codec),
			grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithIdleTimeout(0),
	)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("set up stream to %s: %w", leader, err), raw.Close())
	}
	return conn, func() {
		_ = conn.Close()
		_ = raw.Close() // gRPC may never have asked for it
	}, nil
}
