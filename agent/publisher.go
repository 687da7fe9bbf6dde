package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/fsm"
)

// Publisher is a node's one connection by which it writes to RabbitMQ. Its
// methods may be called from many goroutines; what they publish waits while the
// broker is away, until its time is up.
type Publisher struct {
	broker   Broker
	names    topology
	log      *slog.Logger
	requests chan *request // taken by the session, while there is one
	up       atomic.Bool
}

var _ Queue = (*Publisher)(nil)

// NewPublisher makes a publisher; it connects in Run.
func NewPublisher(broker Broker, log *slog.Logger) (*Publisher, error) {
	if err := broker.Validate(); err != nil {
		return nil, err
	}
	broker = broker.withDefaults()
	return &Publisher{broker: broker, names: broker.topology(), log: log, requests: make(chan *request)}, nil
}

// Run keeps the connection up until ctx ends, and then returns nil. What is not
// confirmed by then fails with ErrUnavailable.
func (p *Publisher) Run(ctx context.Context) error {
	p.broker.supervise(ctx, "publish", p.log, p.session)
	return nil
}

// Connected tells whether the broker would take a commit now.
func (p *Publisher) Connected() bool { return p.up.Load() }

// Publish implements Queue: nil says that the broker has confirmed the commit and
// has put it into the queue.
func (p *Publisher) Publish(ctx context.Context, c fsm.Commit, delivery string) (Receipt, error) {
	return Receipt{}, p.queue(ctx, "commit", &message{Version: commitVersion, Commit: c, Delivery: delivery})
}

// Forget implements Queue: as Publish.
func (p *Publisher) Forget(ctx context.Context, d Deletion, delivery string) error {
	return p.queue(ctx, "deletion", &message{Version: deletionVersion, Deleted: &d, Delivery: delivery})
}

func (p *Publisher) queue(ctx context.Context, kind string, m *message) error {
	body, err := m.encode()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, p.broker.PublishTimeout)
	defer cancel()
	req := newRequest(p.names.ingest, commitKey+"."+escapeKey(m.repo()), true, amqp.Publishing{
		DeliveryMode: amqp.Persistent, MessageId: m.key(), Type: kind, AppId: "narwhal",
		ContentType: "application/json", Timestamp: time.Now(), Body: body,
	})
	if err := p.do(ctx, req); err != nil {
		return fmt.Errorf("publish %s %s: %w", kind, m.key(), err)
	}
	return nil
}

// request is one message on its way to the broker.
type request struct {
	exchange, key string
	mandatory     bool // it must end up in a queue
	publishing    amqp.Publishing
	done          chan error // buffered: whoever asked may have given up
	returned      string     // why the broker sent it back; the session's
}

func newRequest(exchange, key string, mandatory bool, publishing amqp.Publishing) *request {
	return &request{exchange: exchange, key: key, mandatory: mandatory, publishing: publishing, done: make(chan error, 1)}
}

func (p *Publisher) do(ctx context.Context, req *request) error {
	if err := p.send(ctx, req); err != nil {
		return err
	}
	return req.wait(ctx)
}

// send hands req to the session; messages are written in the order of send.
func (p *Publisher) send(ctx context.Context, req *request) error {
	select {
	case p.requests <- req:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: not connected to RabbitMQ: %w", ErrUnavailable, ctx.Err())
	}
}

// wait returns nil once the broker has confirmed req.
func (r *request) wait(ctx context.Context) error {
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: RabbitMQ has not confirmed: %w", ErrUnavailable, ctx.Err())
	}
}

// unsettled are the messages that the broker has not confirmed, by their number
// on the channel.
type unsettled struct {
	mu    sync.Mutex
	byTag map[uint64]*request
}

func (u *unsettled) add(tag uint64, r *request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.byTag[tag] = r
}

// markReturned notes that the broker sent a message back. Two messages of one
// commit look the same and went the same way: both are marked.
func (u *unsettled) markReturned(ret amqp.Return) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, r := range u.byTag {
		if r.publishing.MessageId == ret.MessageId && r.key == ret.RoutingKey {
			r.returned = ret.ReplyText
		}
	}
}

func (u *unsettled) settle(c amqp.Confirmation) {
	u.mu.Lock()
	defer u.mu.Unlock()
	r, ok := u.byTag[c.DeliveryTag]
	if !ok {
		return
	}
	delete(u.byTag, c.DeliveryTag)
	switch {
	case !c.Ack:
		r.done <- fmt.Errorf("%w: RabbitMQ refused the message (is the queue full?)", ErrUnavailable)
	case r.returned != "":
		r.done <- fmt.Errorf("%w: %w: %s", ErrUnavailable, ErrUnroutable, r.returned)
	default:
		r.done <- nil
	}
}

func (u *unsettled) fail(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for tag, r := range u.byTag {
		delete(u.byTag, tag)
		r.done <- err
	}
}

var errBroken = errors.New("the connection broke before RabbitMQ confirmed")

// session publishes over one connection until it breaks.
func (p *Publisher) session(ctx context.Context, conn *amqp.Connection, ready func()) error {
	ch, err := conn.Channel()
	if err != nil {
		return fmt.Errorf("open channel: %w", err)
	}
	if err := p.names.declare(ch); err != nil {
		return err
	}
	if err := ch.Confirm(false); err != nil {
		return fmt.Errorf("ask for confirms: %w", err)
	}
	confirms := ch.NotifyPublish(make(chan amqp.Confirmation, 1024))
	returns := ch.NotifyReturn(make(chan amqp.Return, 64))
	blocked := conn.NotifyBlocked(make(chan amqp.Blocking, 4))
	closed := ch.NotifyClose(make(chan *amqp.Error, errorBuffer))
	waiting := &unsettled{byTag: make(map[uint64]*request)}
	ready()
	p.up.Store(true)
	defer p.up.Store(false)

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		// Closed as soon as the channel is: the other loop ends by that, too.
		p.settleLoop(confirms, returns, blocked, waiting)
		return errBroken
	})
	g.Go(func() error { return p.writeLoop(ctx, ch, waiting) })
	err = g.Wait()
	if cause, ok := <-closed; ok && cause != nil {
		err = cause
	}
	waiting.fail(fmt.Errorf("%w: %w", ErrUnavailable, errBroken))
	return err
}

// writeLoop ends with ctx. Only it publishes on ch, so the next number is its own.
func (p *Publisher) writeLoop(ctx context.Context, ch *amqp.Channel, waiting *unsettled) error {
	for {
		select {
		case <-ctx.Done():
			_ = ch.Close() // ends settleLoop; on a dead connection it is closed already
			return ctx.Err()
		case req := <-p.requests:
			waiting.add(ch.GetNextPublishSeqNo(), req)
			if err := ch.PublishWithContext(ctx, req.exchange, req.key, req.mandatory, false, req.publishing); err != nil {
				_ = ch.Close()
				return fmt.Errorf("publish: %w", err)
			}
		}
	}
}

// settleLoop hands the broker's answers on until the channel is closed. It never
// waits for anything else: the client's reader would stand still behind it.
func (p *Publisher) settleLoop(confirms <-chan amqp.Confirmation, returns <-chan amqp.Return, blocked <-chan amqp.Blocking, waiting *unsettled) {
	for {
		select {
		case c, ok := <-confirms:
			if !ok {
				return
			}
			// A message's return comes before its confirm, so it is here by now.
			drain(returns, waiting)
			waiting.settle(c)
		case r, ok := <-returns:
			if !ok {
				returns = nil
				continue
			}
			waiting.markReturned(r)
		case b, ok := <-blocked:
			if !ok {
				blocked = nil
				continue
			}
			p.up.Store(!b.Active)
			p.log.Warn("RabbitMQ's alarm for memory or disk has changed", "blocks_publishers", b.Active, "reason", b.Reason)
		}
	}
}

func drain(returns <-chan amqp.Return, waiting *unsettled) {
	for {
		select {
		case r, ok := <-returns:
			if !ok {
				return
			}
			waiting.markReturned(r)
		default:
			return
		}
	}
}
