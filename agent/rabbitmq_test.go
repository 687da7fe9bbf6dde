package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/rabbit"
)

// rig is one cluster's corner of the broker that the subtests share.
type rig struct {
	broker    Broker
	publisher *Publisher
	log       *fakeLog
	ch        *amqp.Channel // the test's own
}

func newRig(t *testing.T, url, prefix string) *rig {
	t.Helper()
	r := &rig{broker: Broker{URL: url, Prefix: prefix, Name: t.Name(), PublishTimeout: deadline}, log: newFakeLog()}
	var err error
	if r.publisher, err = NewPublisher(r.broker, quiet()); err != nil {
		t.Fatal(err)
	}
	conn, err := amqp.Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if r.ch, err = conn.Channel(); err != nil {
		t.Fatal(err)
	}
	if err := r.broker.topology().declare(r.ch); err != nil {
		t.Fatal(err)
	}
	running(t, r.publisher.Run)
	return r
}

// consume starts a leader's consumer.
func (r *rig) consume(t *testing.T, proposer Proposer) (stop func()) {
	t.Helper()
	c, err := NewConsumer(r.broker, proposer, r.log.overtaken, quiet())
	if err != nil {
		t.Fatal(err)
	}
	return running(t, c.Run)
}

func (r *rig) publish(t *testing.T, commits ...int) {
	t.Helper()
	for _, n := range commits {
		if _, err := r.publisher.Publish(t.Context(), someCommit(n), fmt.Sprint("delivery ", n)); err != nil {
			t.Fatal(err)
		}
	}
}

// depth waits until a queue holds want messages that nobody has.
func (r *rig) depth(t *testing.T, queue string, want int) {
	t.Helper()
	var got amqp.Queue
	var err error
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if got, err = r.ch.QueueDeclarePassive(queue, true, false, false, false, nil); err != nil {
			t.Fatal(err)
		}
		if got.Messages == want {
			return
		}
	}
	t.Fatalf("queue %s holds %d messages, want %d", queue, got.Messages, want)
}

// dead takes the one message that the dead-letter queue is to hold.
func (r *rig) dead(t *testing.T) amqp.Delivery {
	t.Helper()
	name := r.broker.topology().dead
	r.depth(t, name, 1)
	d, ok, err := r.ch.Get(name, true)
	if err != nil || !ok {
		t.Fatalf("get: %v %v", ok, err)
	}
	return d
}

// take consumes one message: RabbitMQ gives none by basic.get from a queue with a
// single active consumer.
func (r *rig) take(t *testing.T, queue string) amqp.Delivery {
	t.Helper()
	deliveries, err := r.ch.Consume(queue, "take", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case d := <-deliveries:
		if err := r.ch.Cancel("take", false); err != nil {
			t.Fatal(err)
		}
		return d
	case <-time.After(deadline):
		t.Fatalf("queue %s is empty", queue)
		return amqp.Delivery{}
	}
}

func TestRabbitMQ(t *testing.T) {
	url, server := rabbit.Start(t)
	t.Run("conformance", func(t *testing.T) { testBrokerQueue(t, url) })
	t.Run("publishing", func(t *testing.T) { testPublishing(t, url) })
	t.Run("acknowledged after the log only", func(t *testing.T) { testAckAfterCommit(t, url) })
	t.Run("a consumer's crash delivers again", func(t *testing.T) { testConsumerCrash(t, url) })
	t.Run("a leader that is none gives back", func(t *testing.T) { testNotLeader(t, url) })
	t.Run("poison", func(t *testing.T) { testPoison(t, url) })
	t.Run("one active consumer", func(t *testing.T) { testOneActive(t, url) })
	t.Run("events", func(t *testing.T) { testEvents(t, url) })
	t.Run("other arguments", func(t *testing.T) { testOtherArguments(t, url) })
	t.Run("a queue that is full", func(t *testing.T) { testFullQueue(t, url, server) })
	t.Run("restarts with commits in flight", func(t *testing.T) { testBrokerRestarts(t, url, server) })
}

// testFullQueue bounds the queue, as an operator's policy does: what does not fit is not
// accepted, and it is once there is room; what was accepted is built.
func testFullQueue(t *testing.T, url string, server *rabbit.Broker) {
	r := newRig(t, url, "full")
	server.Control(t, "set_policy", "full", "^"+regexp.QuoteMeta(r.broker.topology().commits)+"$", `{"max-length":5,"overflow":"reject-publish"}`, "--apply-to", "queues")
	t.Cleanup(func() { server.Control(t, "clear_policy", "full") })
	var accepted []int
	refused := -1
	for i := 0; refused < 0 && i < 200; i++ { // a quorum queue counts a moment late
		switch _, err := r.publisher.Publish(t.Context(), someCommit(i), ""); {
		case err == nil:
			accepted = append(accepted, i)
		case errors.Is(err, ErrUnavailable):
			refused = i
		default:
			t.Fatal(err)
		}
	}
	if refused < 5 {
		t.Fatalf("a queue of 5 has taken %v, and refused %d", accepted, refused)
	}
	r.consume(t, r.log)
	r.log.mustUntil(t, "what was accepted is built", func(s *fsm.State) bool {
		for _, i := range accepted {
			if !hasBuild(i)(s) {
				return false
			}
		}
		return true
	})
	if r.log.has(refused) {
		t.Errorf("commit %d was refused, and is built", refused)
	}
	r.publish(t, refused) // as the forge does
	r.log.mustUntil(t, "and what came again", hasBuild(refused))
}

func testBrokerQueue(t *testing.T, url string) {
	r := newRig(t, url, "conformance")
	r.consume(t, r.log)
	names := r.broker.topology()
	r.publish(t, 0)
	r.publisher.broker.PublishTimeout = 2 * time.Second
	testQueue(t, r.publisher, r.log, func(t *testing.T, down bool) {
		// What a queue that takes no more looks like from outside: it can't be routed to.
		bind := r.ch.QueueUnbind(names.commits, "commit.#", names.ingest, nil)
		if !down {
			bind = r.ch.QueueBind(names.commits, "commit.#", names.ingest, false, nil)
		}
		if bind != nil {
			t.Fatal(bind)
		}
	})
}

func testPublishing(t *testing.T, url string) {
	r := newRig(t, url, "publishing")
	names := r.broker.topology()
	r.publish(t, 1)
	d := r.take(t, names.commits)
	want := fmt.Sprintf(`{"v":1,"commit":{"repo":"acme/api.v2","clone_url":"https://github.com/acme/api.v2.git","sha":%q,"ref":"refs/heads/main","event":"push","message":"change it","author":"otter"},"delivery":"delivery 1"}`, sha(1))
	if string(d.Body) != want || d.MessageId != someCommit(1).Key() || d.DeliveryMode != amqp.Persistent || d.RoutingKey != "commit.acme/api%2Ev2" {
		t.Errorf("message %s\nid %s mode %d key %s", d.Body, d.MessageId, d.DeliveryMode, d.RoutingKey)
	}
	// A consumer of the version before refuses this one, by its number.
	gone := Deletion{Repo: "acme/api.v2", Branch: "old", Head: sha(1)}
	if err := r.publisher.Forget(t.Context(), gone, "delivery 2"); err != nil {
		t.Fatal(err)
	}
	d = r.take(t, names.commits)
	want = fmt.Sprintf(`{"v":2,"deleted":{"repo":"acme/api.v2","branch":"old","head":%q},"delivery":"delivery 2"}`, sha(1))
	if string(d.Body) != want || d.MessageId != gone.Key() || d.DeliveryMode != amqp.Persistent || d.RoutingKey != "commit.acme/api%2Ev2" {
		t.Errorf("message %s\nid %s mode %d key %s", d.Body, d.MessageId, d.DeliveryMode, d.RoutingKey)
	}
	if err := r.ch.QueueUnbind(names.commits, "commit.#", names.ingest, nil); err != nil {
		t.Fatal(err)
	}
	// RabbitMQ confirms these: only the return tells that nothing holds them.
	var wg sync.WaitGroup
	errs := make([]error, 50)
	for i := range errs {
		wg.Go(func() { _, errs[i] = r.publisher.Publish(t.Context(), someCommit(10+i), "") })
	}
	wg.Wait()
	for _, err := range errs {
		if !errors.Is(err, ErrUnroutable) || !errors.Is(err, ErrUnavailable) {
			t.Fatalf("publishing to no queue: %v", err)
		}
	}
}

func testAckAfterCommit(t *testing.T, url string) {
	r := newRig(t, url, "after")
	proposed := make(chan struct{}, prefetch)
	slow := proposerFunc(func(ctx context.Context, _ fsm.Command) (fsm.Result, error) {
		proposed <- struct{}{}
		<-ctx.Done()
		return fsm.Result{}, ctx.Err()
	})
	stop := r.consume(t, slow)
	r.publish(t, 1)
	receive(t, proposed, "the commit is proposed")
	stop() // before the log had it
	r.depth(t, r.broker.topology().commits, 1)
	r.consume(t, r.log)
	r.log.mustUntil(t, "the build is there", hasBuild(1))
	r.depth(t, r.broker.topology().commits, 0)
}

// testConsumerCrash ends a leader between its log entry and its acknowledgement,
// and before its log entry.
func testConsumerCrash(t *testing.T, url string) {
	r := newRig(t, url, "crash")
	r.publish(t, 1, 2)
	held := make(chan struct{}, prefetch)
	crashing := proposerFunc(func(ctx context.Context, cmd fsm.Command) (fsm.Result, error) {
		if cmd.AddBuild.Key == someCommit(1).Key() {
			if _, err := r.log.Propose(ctx, cmd); err != nil {
				t.Error(err)
			}
			held <- struct{}{}
		}
		<-ctx.Done()
		return fsm.Result{}, ctx.Err()
	})
	stop := r.consume(t, crashing)
	receive(t, held, "the first commit is in the log")
	if got := r.log.builds(); got != 1 {
		t.Fatalf("%d builds before the crash, want 1", got)
	}
	stop()
	r.depth(t, r.broker.topology().commits, 2)
	r.consume(t, r.log)
	r.log.mustUntil(t, "the second build is there", hasBuild(2))
	r.depth(t, r.broker.topology().commits, 0)
	if got := r.log.builds(); got != 2 {
		t.Errorf("%d builds, want 2", got)
	}
}

func testNotLeader(t *testing.T, url string) {
	r := newRig(t, url, "notleader")
	r.publish(t, 1, 2, 3)
	refused := make(chan struct{}, 100)
	r.log.setFault(func(cmd fsm.Command) error {
		if cmd.AddBuild.Key == someCommit(2).Key() {
			select {
			case refused <- struct{}{}:
			default:
			}
			return fmt.Errorf("propose: %w", ErrNotLeader)
		}
		return nil
	})
	stop := r.consume(t, r.log)
	receive(t, refused, "it is refused")
	receive(t, refused, "it is delivered again to the next session and refused")
	stop()
	if r.log.has(2) {
		t.Error("a commit that was refused is built")
	}
	r.log.setFault(nil)
	r.consume(t, r.log)
	r.log.mustUntil(t, "all builds are there", func(s *fsm.State) bool { return s.BuildCount() == 3 })
	r.depth(t, r.broker.topology().commits, 0)
}

func testPoison(t *testing.T, url string) {
	r := newRig(t, url, "poison")
	names := r.broker.topology()
	evil := someCommit(9)
	evil.Ref = "refs/heads/--upload-pack=id"
	hostile, err := (&message{Version: commitVersion, Commit: evil}).encode()
	if err != nil {
		t.Fatal(err)
	}
	var breaks breakCounter
	consumer, err := NewConsumer(r.broker, r.log, r.log.overtaken, slog.New(&breaks))
	if err != nil {
		t.Fatal(err)
	}
	running(t, consumer.Run)
	for i, body := range []string{`{`, `{"v":2,"commit":{}}`, `{"v":3,"commit":{}}`, `{"v":2,"deleted":{"repo":"a/b","branch":"--all"}}`, `{"v":1,"commit":{"repo":"a/b"}}`, string(hostile), "\x00\xff"} {
		r.publish(t, 100+i)
		err := r.ch.Publish(names.ingest, "commit.x", true, false, amqp.Publishing{Body: []byte(body), DeliveryMode: amqp.Persistent})
		if err != nil {
			t.Fatal(err)
		}
		d := r.dead(t)
		deaths, _ := d.Headers["x-death"].([]any)
		if string(d.Body) != body || len(deaths) != 1 || deaths[0].(amqp.Table)["reason"] != "rejected" {
			t.Errorf("dead letter %q with %v, want %q rejected", d.Body, d.Headers, body)
		}
		r.log.mustUntil(t, "the commit before the poison is built", hasBuild(100+i))
	}
	// Alone in its round: there is nothing else to acknowledge.
	if err := r.ch.Publish(names.ingest, "commit.x", true, false, amqp.Publishing{Body: []byte("alone"), DeliveryMode: amqp.Persistent}); err != nil {
		t.Fatal(err)
	}
	if d := r.dead(t); string(d.Body) != "alone" {
		t.Errorf("dead letter %q", d.Body)
	}
	r.publish(t, 200)
	r.log.mustUntil(t, "the commit after the poison is built", hasBuild(200))
	if n := breaks.Load(); n != 0 {
		t.Errorf("poison broke the connection %d times", n)
	}
	t.Run("that only the state recognizes", func(t *testing.T) {
		r.log.setFault(func(cmd fsm.Command) error {
			if cmd.AddBuild.Key == someCommit(7).Key() {
				return fmt.Errorf("%w: planted", fsm.ErrInvalid)
			}
			return nil
		})
		r.publish(t, 7, 8)
		if d := r.dead(t); d.MessageId != someCommit(7).Key() {
			t.Errorf("dead letter %s", d.Body)
		}
		r.log.mustUntil(t, "the one after it is built", hasBuild(8))
	})
	t.Run("not what fails for a while", func(t *testing.T) {
		left := 3
		r.log.setFault(func(fsm.Command) error {
			if left--; left >= 0 {
				return errDown
			}
			return nil
		})
		r.publish(t, 20)
		r.log.mustUntil(t, "it is built", hasBuild(20))
		r.depth(t, names.dead, 0)
	})
}

// breakCounter is a log that counts how often the connection broke.
type breakCounter struct {
	slog.Handler
	atomic.Int32
}

func (b *breakCounter) Enabled(context.Context, slog.Level) bool { return true }
func (b *breakCounter) WithAttrs([]slog.Attr) slog.Handler       { return b }

func (b *breakCounter) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "broke") {
		b.Add(1)
	}
	return nil
}

func testOneActive(t *testing.T, url string) {
	r := newRig(t, url, "active")
	other := newFakeLog()
	stopFirst := r.consume(t, r.log)
	r.publish(t, 1)
	r.log.mustUntil(t, "the first takes it", hasBuild(1))
	r.consume(t, other)
	for n := 2; n < 30; n++ {
		r.publish(t, n)
	}
	r.log.mustUntil(t, "the first takes all", func(s *fsm.State) bool { return s.BuildCount() == 29 })
	if n := other.builds(); n != 0 {
		t.Errorf("the second took %d while the first was there", n)
	}
	stopFirst()
	r.publish(t, 30)
	other.mustUntil(t, "the second takes over", hasBuild(30))
}

func testEvents(t *testing.T, url string) {
	r := newRig(t, url, "events")
	names := r.broker.topology()
	q, err := r.ch.QueueDeclare("", false, true, true, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"build.acme/api%2Ev2.*", "job.#", "node.*.metrics"} {
		if err := r.ch.QueueBind(q.Name, key, names.events, false, nil); err != nil {
			t.Fatal(err)
		}
	}
	got, err := r.ch.Consume(q.Name, "", true, true, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	propose(t, r.log, fsm.Command{SetSinks: &fsm.SetSinks{Events: true}})
	r.consume(t, r.log)
	events := &Events{
		Cluster: "c1", Publisher: r.publisher, Outbox: r.log, Proposer: r.log, Log: quiet(), MetricInterval: 50 * time.Millisecond,
		Metrics: func() []NodeMetrics {
			return []NodeMetrics{{Node: "n1", Name: "host.lan", CPU: 0.5, Memory: 1 << 30, Running: 2}}
		},
	}
	running(t, events.Run)
	const builds = 300 // more than a window
	for n := range builds {
		r.publish(t, n)
	}
	r.log.mustUntil(t, "the outbox is empty", func(s *fsm.State) bool {
		waiting, dropped := s.OutboxLen()
		return s.BuildCount() == builds && waiting == 0 && dropped == 0
	})
	var seq uint64
	metrics := 0
	for seq < 2*builds || metrics == 0 { // a build and its plan, each queued
		select {
		case d := <-got:
			if d.Type == "metrics" {
				metrics++
				checkMetrics(t, d)
				continue
			}
			seq++
			checkEvent(t, d, seq)
		case <-time.After(deadline):
			t.Fatalf("got %d events and %d metrics", seq, metrics)
		}
	}
}

func checkEvent(t *testing.T, d amqp.Delivery, seq uint64) {
	t.Helper()
	var e struct {
		Version int    `json:"v"`
		Cluster string `json:"cluster"`
		Seq     uint64 `json:"seq"`
		Kind    string `json:"kind"`
		Status  string `json:"status"`
	}
	if err := json.Unmarshal(d.Body, &e); err != nil {
		t.Fatal(err)
	}
	if e.Version != 1 || e.Cluster != "c1" || e.Seq != seq || d.MessageId != fmt.Sprint("c1-", seq) ||
		d.RoutingKey != e.Kind+".acme/api%2Ev2."+e.Status || d.DeliveryMode != amqp.Persistent {
		t.Fatalf("event %d: %s %s %s", seq, d.RoutingKey, d.MessageId, d.Body)
	}
}

func checkMetrics(t *testing.T, d amqp.Delivery) {
	t.Helper()
	var m struct {
		Cluster string `json:"cluster"`
		NodeMetrics
	}
	if err := json.Unmarshal(d.Body, &m); err != nil || m.Running != 2 || m.CPU != 0.5 || m.Cluster != "c1" || d.RoutingKey != "node.host%2Elan.metrics" {
		t.Fatalf("metrics %s %s: %v", d.RoutingKey, d.Body, err)
	}
}

func testOtherArguments(t *testing.T, url string) {
	broker := Broker{URL: url, Prefix: "args", PublishTimeout: 500 * time.Millisecond}
	conn, err := amqp.Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ch.QueueDeclare("args.commits.v1", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	p, err := NewPublisher(broker, quiet())
	if err != nil {
		t.Fatal(err)
	}
	running(t, p.Run)
	if _, err := p.Publish(t.Context(), someCommit(1), ""); !errors.Is(err, ErrUnavailable) || p.Connected() {
		t.Errorf("got %v, connected %v", err, p.Connected())
	}
}

func receive(t *testing.T, ch <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(deadline):
		t.Fatalf("waiting until %s", what)
	}
}

type proposerFunc func(context.Context, fsm.Command) (fsm.Result, error)

func (f proposerFunc) Propose(ctx context.Context, cmd fsm.Command) (fsm.Result, error) {
	return f(ctx, cmd)
}

func propose(t *testing.T, p Proposer, cmd fsm.Command) {
	t.Helper()
	cmd.At = time.Now()
	if result, err := p.Propose(t.Context(), cmd); err != nil || result.Err != nil {
		t.Fatalf("propose: %v %v", err, result.Err)
	}
}
