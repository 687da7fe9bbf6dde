package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/fsm"
)

const (
	eventVersion   = 1
	eventWindow    = 256 // events on their way to the broker at a time
	metricInterval = 10 * time.Second
	ackRetry       = time.Second
)

// Outbox is the replicated list of what has to be told outside.
type Outbox interface {
	// Wait blocks until there are transitions beyond seq after, and returns them in
	// order, or ctx's error.
	Wait(ctx context.Context, after uint64) ([]fsm.Transition, error)
}

// NodeMetrics is how busy a node is.
type NodeMetrics struct {
	Node    fsm.NodeID `json:"node"`
	Name    string     `json:"name"`
	CPU     float64    `json:"cpu"`     // share of all its cores in use, 0 to 1
	Memory  int64      `json:"memory"`  // bytes in use
	Running int        `json:"running"` // jobs
	At      time.Time  `json:"at"`
}

// Events tells RabbitMQ's topic exchange <prefix>.events what happens. Routing
// keys are build.<repo>.<status>, job.<repo>.<status> and node.<name>.metrics; in
// names dots and the wildcards are escaped as in URLs (%2E). Events are told at
// least once and in the order of their Seq; the MessageId <cluster>-<seq> tells
// repeats. It runs only while this node leads.
type Events struct {
	Cluster   string
	Publisher *Publisher
	Outbox    Outbox
	Proposer  Proposer
	// Tests is what a job's attempt said of its tests, for as long as the state has it;
	// nil where it had none. Nil: events carry their counts only.
	Tests func(job fsm.JobID, attempt int) *fsm.TestReport
	// Metrics gives every node's figures. Nil: none are published.
	Metrics func() []NodeMetrics
	// MetricInterval is the time between two rounds of metrics. Default: 10 s.
	MetricInterval time.Duration
	Log            *slog.Logger
}

// event is a transition's body: the transition's fields and these.
type event struct {
	Version int    `json:"v"`
	Cluster string `json:"cluster"`
	fsm.Transition
	Report *fsm.TestReport `json:"test_report,omitempty"`
}

// Run publishes until ctx ends, and then returns nil. Another error than ctx's is
// the outbox's.
func (e *Events) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	confirmed := make(chan uint64, 1)
	g.Go(func() error { return e.publishLoop(ctx, confirmed) })
	g.Go(func() error { return e.ackLoop(ctx, confirmed) })
	if e.Metrics != nil {
		g.Go(func() error { return e.metricLoop(ctx) })
	}
	err := g.Wait()
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return nil
	}
	return err
}

func (e *Events) publishLoop(ctx context.Context, confirmed chan uint64) error {
	var after uint64
	for {
		news, err := e.Outbox.Wait(ctx, after)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("wait for the outbox: %w", err)
		}
		for len(news) > 0 {
			window := news[:min(len(news), eventWindow)]
			n, err := e.publish(ctx, window)
			if n > 0 {
				after = window[n-1].Seq
				news = news[n:]
				replace(confirmed, after)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				// The publisher has waited for the broker already: no pause here.
				e.Log.Warn("events wait for RabbitMQ", "from_seq", after+1, "error", err)
			}
		}
	}
}

// publish sends a window and returns how many from its front are confirmed.
func (e *Events) publish(ctx context.Context, window []fsm.Transition) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, e.Publisher.broker.PublishTimeout)
	defer cancel()
	var sent []*request
	var sendErr error
	for i := range window {
		req, err := e.request(&window[i])
		if err == nil {
			err = e.Publisher.send(ctx, req)
		}
		if err != nil {
			sendErr = err
			break
		}
		sent = append(sent, req)
	}
	for n, req := range sent {
		if err := req.wait(ctx); err != nil {
			return n, err
		}
	}
	return len(sent), sendErr
}

func (e *Events) request(t *fsm.Transition) (*request, error) {
	told := event{Version: eventVersion, Cluster: e.Cluster, Transition: *t}
	if t.Tests != nil && t.Job != nil && e.Tests != nil {
		told.Report = e.Tests(*t.Job, t.N)
	}
	body, err := json.Marshal(told)
	if err != nil {
		return nil, fmt.Errorf("encode event %d: %w", t.Seq, err)
	}
	key := t.Kind + "." + escapeKey(t.Repo) + "." + string(t.Status)
	return newRequest(e.Publisher.names.events, key, false, amqp.Publishing{
		DeliveryMode: amqp.Persistent, MessageId: e.Cluster + "-" + strconv.FormatUint(t.Seq, 10), Type: t.Kind, AppId: "narwhal",
		ContentType: "application/json", Timestamp: t.At, Body: body,
	}), nil
}

// replace leaves only the newest value in a channel of one.
func replace(ch chan uint64, seq uint64) {
	select {
	case <-ch:
	default:
	}
	ch <- seq // there is room: only one goroutine puts something in
}

// ackLoop drops from the outbox what the broker has. One proposal is on its way
// at a time, and covers all that was confirmed while the last one was.
func (e *Events) ackLoop(ctx context.Context, confirmed <-chan uint64) error {
	var seq uint64
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case seq = <-confirmed:
		case <-retry:
		}
		retry = nil
		_, err := e.Proposer.Propose(ctx, fsm.Command{At: time.Now().UTC(), AckEvents: &fsm.AckEvents{Seq: seq}})
		if err != nil && ctx.Err() == nil {
			// At worst the next leader tells them again.
			e.Log.Warn("events not acknowledged yet", "seq", seq, "error", err)
			retry = time.After(ackRetry)
		}
	}
}

// metricLoop is told as it is: nobody misses a metric that the broker missed.
func (e *Events) metricLoop(ctx context.Context) error {
	interval := e.MetricInterval
	if interval == 0 {
		interval = metricInterval
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if !e.Publisher.Connected() {
			continue
		}
		if err := e.publishMetrics(ctx); err != nil && ctx.Err() == nil {
			e.Log.Warn("node metrics not published", "error", err)
		}
	}
}

func (e *Events) publishMetrics(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, e.Publisher.broker.PublishTimeout)
	defer cancel()
	var sent []*request
	for _, m := range e.Metrics() {
		body, err := json.Marshal(struct {
			Version int    `json:"v"`
			Cluster string `json:"cluster"`
			NodeMetrics
		}{eventVersion, e.Cluster, m})
		if err != nil {
			return fmt.Errorf("encode metrics of node %s: %w", m.Name, err)
		}
		req := newRequest(e.Publisher.names.events, "node."+escapeKey(m.Name)+".metrics", false, amqp.Publishing{
			DeliveryMode: amqp.Transient, Type: "metrics", AppId: "narwhal", ContentType: "application/json", Timestamp: m.At, Body: body,
		})
		if err := e.Publisher.send(ctx, req); err != nil {
			return err
		}
		sent = append(sent, req)
	}
	for _, req := range sent {
		if err := req.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// escapeKey makes a name one word of a routing key. Names are cut where the key
// would be longer than the protocol's 255 bytes.
func escapeKey(name string) string {
	const longest = 200
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(".*#%", c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
		if b.Len() > longest-3 {
			break
		}
	}
	return b.String()
}
