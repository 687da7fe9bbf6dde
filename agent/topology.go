package agent

import (
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
)

// deliveryLimit is how often a message is delivered before the broker takes it
// for poison. A leader's death counts as a delivery, so it is not small; poison
// that narwhal recognizes is dead-lettered at once.
const deliveryLimit = 20

// topology are the names of what narwhal has in a broker.
//
//	ingest ──commit.#──▶ commits.v1 ──rejected, or 20 deliveries──▶ dlx ──▶ commits.dead.v1
//	events: topic exchange; consumers bring their own queues
//
// A queue can't be declared again with other arguments, so its name carries a
// version: a narwhal that wants other arguments takes the next one.
type topology struct {
	ingest, commits, dlx, dead, events string
}

const commitKey = "commit"

func (b Broker) topology() topology {
	return topology{
		ingest:  b.Prefix + ".ingest",
		commits: b.Prefix + ".commits.v1",
		dlx:     b.Prefix + ".dlx",
		dead:    b.Prefix + ".commits.dead.v1",
		events:  b.Prefix + ".events",
	}
}

// declare makes what is missing. Declaring again what is there changes nothing.
func (t topology) declare(ch *amqp.Channel) error {
	exchanges := []struct{ name, kind string }{
		{t.ingest, amqp.ExchangeTopic}, {t.dlx, amqp.ExchangeFanout}, {t.events, amqp.ExchangeTopic},
	}
	for _, e := range exchanges {
		if err := ch.ExchangeDeclare(e.name, e.kind, true, false, false, false, nil); err != nil {
			return fmt.Errorf("declare exchange %s: %w", e.name, err)
		}
	}
	queues := []struct {
		name, exchange, key string
		args                amqp.Table
	}{
		{t.dead, t.dlx, "#", amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum}},
		{t.commits, t.ingest, commitKey + ".#", amqp.Table{
			amqp.QueueTypeArg:          amqp.QueueTypeQuorum,
			"x-delivery-limit":         int32(deliveryLimit),
			"x-dead-letter-exchange":   t.dlx,
			"x-dead-letter-strategy":   "at-least-once", // wants reject-publish
			"x-overflow":               "reject-publish",
			"x-single-active-consumer": true,
		}},
	}
	for _, q := range queues {
		if _, err := ch.QueueDeclare(q.name, true, false, false, false, q.args); err != nil {
			return fmt.Errorf("declare queue %s: %w", q.name, err)
		}
		if err := ch.QueueBind(q.name, q.key, q.exchange, false, nil); err != nil {
			return fmt.Errorf("bind queue %s: %w", q.name, err)
		}
	}
	return nil
}
