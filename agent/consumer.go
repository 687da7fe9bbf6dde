package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/codepr/narwhal/fsm"
)

const (
	prefetch       = 64 // and so the most commits that one round proposes
	proposeBackoff = 50 * time.Millisecond
	proposeLongest = 2 * time.Second
)

// Consumer takes commits from RabbitMQ's queue into the replicated log. It runs
// only while this node leads; that two of them run for a moment is harmless: the
// queue feeds one at a time, and the log knows a commit's key.
type Consumer struct {
	broker    Broker
	names     topology
	proposer  Proposer
	overtaken Overtaken
	log       *slog.Logger
}

// NewConsumer makes a consumer; it connects in Run. overtaken asks the state that the
// proposer changes.
func NewConsumer(broker Broker, proposer Proposer, overtaken Overtaken, log *slog.Logger) (*Consumer, error) {
	if err := broker.Validate(); err != nil {
		return nil, err
	}
	broker = broker.withDefaults()
	return &Consumer{broker: broker, names: broker.topology(), proposer: proposer, overtaken: overtaken, log: log}, nil
}

// Run consumes until ctx ends, and then returns nil; what has not been proposed
// by then goes to the next leader.
func (c *Consumer) Run(ctx context.Context) error {
	c.broker.supervise(ctx, "consume", c.log, c.session)
	return nil
}

func (c *Consumer) session(ctx context.Context, conn *amqp.Connection, ready func()) error {
	ch, err := conn.Channel()
	if err != nil {
		return fmt.Errorf("open channel: %w", err)
	}
	if err := c.names.declare(ch); err != nil {
		return err
	}
	if err := ch.Qos(prefetch, 0, false); err != nil {
		return fmt.Errorf("limit deliveries: %w", err)
	}
	deliveries, err := ch.Consume(c.names.commits, "", false, false, false, false, nil)
	if err != nil {
		return fmt.Errorf("consume %s: %w", c.names.commits, err)
	}
	ready()
	for {
		batch, err := gather(ctx, deliveries)
		if err != nil {
			return err
		}
		if err := c.take(ctx, ch, batch); err != nil {
			return err // closes the channel: all that is not acknowledged is delivered again
		}
	}
}

// gather waits for a delivery and adds those that are there already: a round is as
// large as what came while the last one was committed, and never waits to grow.
func gather(ctx context.Context, deliveries <-chan amqp.Delivery) ([]amqp.Delivery, error) {
	var batch []amqp.Delivery
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case d, ok := <-deliveries:
		if !ok {
			return nil, fmt.Errorf("the broker ended the consumer: %w", amqp.ErrClosed)
		}
		batch = append(batch, d)
	}
	for len(batch) < prefetch {
		select {
		case d, ok := <-deliveries:
			if !ok {
				return batch, nil // the next call says so
			}
			batch = append(batch, d)
		default:
			return batch, nil
		}
	}
	return batch, nil
}

// take proposes a batch and settles it with the broker. An error means that some
// of it could not be proposed and is still the broker's.
func (c *Consumer) take(ctx context.Context, ch *amqp.Channel, batch []amqp.Delivery) error {
	results := make([]error, len(batch))
	var proposals sync.WaitGroup
	for i := range batch {
		proposals.Go(func() { results[i] = c.propose(ctx, &batch[i]) })
	}
	proposals.Wait()
	var failed []error
	for i, err := range results {
		switch {
		case errors.Is(err, ErrBadMessage):
			c.log.Error("dead-lettered a message of the commit queue", "queue", c.names.dead, "message", line(batch[i].MessageId, 80), "error", err)
			if err := ch.Reject(batch[i].DeliveryTag, false); err != nil {
				return fmt.Errorf("reject message: %w", err)
			}
		case err != nil:
			failed = append(failed, err)
		}
	}
	if len(failed) == 0 {
		return c.ackAll(ch, batch, results)
	}
	for i, err := range results {
		if err != nil {
			continue
		}
		if err := c.ack(ch, batch[i].DeliveryTag, false); err != nil {
			return err
		}
	}
	return fmt.Errorf("propose %d of %d messages: %w", len(failed), len(batch), failed[0])
}

// ackAll acknowledges a batch of which nothing failed, in one frame. That frame
// names the last one that was not rejected: the broker closes the channel over a
// number that is settled already.
func (c *Consumer) ackAll(ch *amqp.Channel, batch []amqp.Delivery, results []error) error {
	for i := len(batch) - 1; i >= 0; i-- {
		if results[i] == nil {
			return c.ack(ch, batch[i].DeliveryTag, true)
		}
	}
	return nil
}

func (c *Consumer) ack(ch *amqp.Channel, tag uint64, multiple bool) error {
	if err := ch.Ack(tag, multiple); err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	return nil
}

// enter has the log hold what a message brings.
func (c *Consumer) enter(ctx context.Context, m *message, log *slog.Logger) error {
	if m.Deleted != nil {
		dropped, err := forget(ctx, c.proposer, c.overtaken, *m.Deleted)
		if err == nil {
			log.Info("deletion of a branch taken from RabbitMQ", "branch", m.Deleted.Branch, "overtaken", !dropped)
		}
		return err
	}
	result, err := c.proposer.Propose(ctx, addBuild(m.Commit))
	if err == nil {
		err = result.Err
	}
	if err == nil {
		log.Info("commit taken from RabbitMQ", "build", result.Build, "known", result.Known)
	}
	return err
}

// propose returns nil once the log holds what the delivery brings. It does not give
// up before ctx ends or this node is known not to lead: giving the message back
// would only count as one of its deliveries, and the next one would fail alike.
func (c *Consumer) propose(ctx context.Context, d *amqp.Delivery) error {
	m, err := decodeMessage(d.Body)
	if err != nil {
		return err
	}
	log := c.log.With("key", m.key(), "repo", m.repo(), "delivery", m.Delivery, "redelivered", d.Redelivered)
	for wait := proposeBackoff; ; wait = min(2*wait, proposeLongest) {
		err := c.enter(ctx, &m, log)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, fsm.ErrInvalid):
			return fmt.Errorf("%w: %w", ErrBadMessage, err)
		case errors.Is(err, ErrNotLeader) || ctx.Err() != nil:
			return err
		}
		log.Warn("message not taken yet", "error", err, "retry_in", wait)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}
