package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	heartbeat      = 10 * time.Second
	dialTimeout    = 10 * time.Second
	closeTimeout   = time.Second
	backoffFirst   = 200 * time.Millisecond
	backoffLongest = 10 * time.Second
	// errorBuffer holds what the client tells of a closing connection; a full
	// channel there would stop its reader.
	errorBuffer = 2
)

// Broker is a RabbitMQ and what is narwhal's in it.
type Broker struct {
	// URL is amqp://user:password@host:port/vhost, or amqps://.
	URL string
	// Prefix begins the name of every exchange and queue, so that several clusters
	// can share a broker. Default: "narwhal".
	Prefix string
	// Name is shown as the connections' name; the node's name is a good one.
	Name string
	// TLS is used with amqps. Default: the system's roots.
	TLS *tls.Config
	// PublishTimeout is how long a commit waits for the broker's confirm, a broken
	// connection's renewal included, before the forge is told to come again. Forges
	// wait 10 s. Default: 5 s.
	PublishTimeout time.Duration
}

// Validate tells what is wrong with b.
func (b Broker) Validate() error {
	if _, err := amqp.ParseURI(b.URL); err != nil {
		// The parser's words hold the URL, and with it the password.
		return errors.New("RabbitMQ's URL is none: want amqp://user:password@host:5672/")
	}
	if len(b.Prefix) > 100 || len(b.Name) > 100 {
		return errors.New("RabbitMQ's prefix and name: want at most 100 bytes")
	}
	return nil
}

func (b Broker) withDefaults() Broker {
	if b.Prefix == "" {
		b.Prefix = "narwhal"
	}
	if b.PublishTimeout == 0 {
		b.PublishTimeout = 5 * time.Second
	}
	return b
}

// session is one connection's life. ready is called once the connection does what
// it is for: the next break is tried anew at once.
type session func(ctx context.Context, conn *amqp.Connection, ready func()) error

// supervise keeps a session going until ctx ends: it dials, runs it, and after a
// break waits and dials again. It returns when all that it started has ended.
func (b Broker) supervise(ctx context.Context, role string, log *slog.Logger, run session) {
	wait := backoffFirst
	for ctx.Err() == nil {
		err := b.connect(ctx, role, run, func() {
			wait = backoffFirst
			log.Info("connected to RabbitMQ", "role", role)
		})
		if ctx.Err() != nil {
			return
		}
		pause := wait/2 + rand.N(wait/2+1)
		wait = min(2*wait, backoffLongest)
		log.Warn("connection to RabbitMQ broke", "role", role, "error", err, "retry_in", pause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// connect dials and runs one session. The session's context ends, too, when the
// connection does.
func (b Broker) connect(ctx context.Context, role string, run session, ready func()) error {
	conn, raw, err := b.dial(ctx, role)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	closed := conn.NotifyClose(make(chan *amqp.Error, errorBuffer))
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case err, ok := <-closed:
			if ok && err != nil {
				cancel(err)
			} else {
				cancel(amqp.ErrClosed)
			}
		case <-ctx.Done():
			hangUp(conn, raw)
		}
	})
	err = run(ctx, conn, ready)
	if cause := context.Cause(ctx); cause != nil {
		err = cause // a call on a closed channel says less
	}
	cancel(nil)
	watch.Wait()
	hangUp(conn, raw)
	return err
}

// dial opens a connection. Both the dialing and the handshake end with ctx.
func (b Broker) dial(ctx context.Context, role string) (*amqp.Connection, net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var raw net.Conn
	unhook := func() bool { return true }
	defer func() { unhook() }()
	conn, err := amqp.DialConfig(b.URL, amqp.Config{
		Heartbeat:       heartbeat,
		Properties:      amqp.Table{"connection_name": b.Name + " " + role, "product": "narwhal"},
		TLSClientConfig: b.TLS.Clone(),
		Dial: func(network, addr string) (net.Conn, error) {
			var err error
			if raw, err = new(net.Dialer).DialContext(ctx, network, addr); err != nil {
				return nil, err
			}
			unhook = context.AfterFunc(ctx, func() { _ = raw.Close() })
			return raw, nil
		},
	})
	if err != nil {
		if raw != nil {
			_ = raw.Close() // the client leaves it open after a failed handshake
		}
		return nil, nil, err
	}
	return conn, raw, nil
}

// hangUp closes in order where the broker answers, and without its consent where
// it does not: a broker that blocks publishers reads nothing any more.
func hangUp(conn *amqp.Connection, raw net.Conn) {
	_ = conn.CloseDeadline(time.Now().Add(closeTimeout))
	_ = raw.Close()
}
