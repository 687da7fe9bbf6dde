package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/rabbit"
)

// testBrokerRestarts publishes from many sides while the broker is ended, once in
// order and once by SIGKILL, and started again: what was confirmed must all be built.
func testBrokerRestarts(t *testing.T, url string, server *rabbit.Broker) {
	r := newRig(t, url, "restarts")
	r.consume(t, r.log)
	r.publish(t, 0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	var accepted []int
	var senders sync.WaitGroup
	next := 1
	for range 16 {
		senders.Go(func() {
			for ctx.Err() == nil {
				mu.Lock()
				n := next
				next++
				mu.Unlock()
				if _, err := r.publisher.Publish(t.Context(), someCommit(n), ""); err == nil {
					mu.Lock()
					accepted = append(accepted, n)
					mu.Unlock()
				} else if !errors.Is(err, ErrUnavailable) {
					t.Errorf("publish: %v", err)
				}
			}
		})
	}
	// In order first: RabbitMQ 3.10 writes down half a second after it has declared
	// a queue that there is one, and starts with an empty queue that elects no leader
	// where it was killed before.
	for _, end := range []func(testing.TB){server.Stop, server.Kill} {
		before := r.log.builds()
		r.log.mustUntil(t, "commits flow", func(s *fsm.State) bool { return s.BuildCount() > before+100 })
		end(t)
		server.Restart(t)
	}
	before := r.log.builds()
	r.log.mustUntil(t, "commits flow again", func(s *fsm.State) bool { return s.BuildCount() > before+100 })
	cancel()
	senders.Wait()
	confirmed, missing := len(accepted), accepted
	waiting, stop := context.WithTimeout(t.Context(), deadline)
	defer stop()
	if err := r.log.until(waiting, func(s *fsm.State) bool {
		for len(missing) > 0 && hasBuild(missing[0])(s) {
			missing = missing[1:]
		}
		return len(missing) == 0
	}); err != nil {
		t.Errorf("of %d confirmed commits %d or fewer are not built, %d to begin with; %s", confirmed, len(missing), missing[0], queueNow(url, r.broker.topology().commits))
	}
	t.Logf("%d commits sent, %d confirmed, %d built", next-1, confirmed, r.log.builds())
}

// queueNow says what a queue holds and who consumes it, for a failure's text.
func queueNow(url, name string) string {
	conn, err := amqp.Dial(url)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = conn.Close() }()
	ch, err := conn.Channel()
	if err != nil {
		return err.Error()
	}
	q, err := ch.QueueDeclarePassive(name, true, false, false, false, nil)
	return fmt.Sprintf("queue %s: %d ready, %d consumers, error %v", name, q.Messages, q.Consumers, err)
}
