package link

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// fixed is a cluster whose leader the test changes.
type fixed struct {
	mu      sync.Mutex
	leader  fsm.NodeID
	changed chan struct{}
}

func newFixed(id fsm.NodeID) *fixed { return &fixed{leader: id, changed: make(chan struct{})} }

func (f *fixed) set(id fsm.NodeID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leader = id
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fixed) Leader() (fsm.NodeID, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.leader, f.leader != ""
}

func (f *fixed) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

func TestFollowsTheLeader(t *testing.T) {
	tn := newTLSNet(t, "a", "b", "n1")
	greeted := make(chan string, 16)
	serve := func(name string) string {
		return tn.serve(t, name, handlerFunc(func(_ context.Context, _ fsm.NodeID, s Stream) error {
			if _, err := s.Recv(); err != nil {
				return err
			}
			greeted <- name
			return drain(s)
		}))
	}
	addrs := map[fsm.NodeID]string{"a": serve("a"), "b": serve("b")}
	leaders := newFixed("")
	c := tn.client(t, "n1", addrs, leaders)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = c.Run(ctx, func(_ context.Context, s NodeStream) error {
			if err := s.Send(hello("n1")); err != nil {
				return err
			}
			_, err := s.Recv()
			return err
		})
	})
	for _, leader := range []string{"a", "b", "a"} {
		leaders.set(fsm.NodeID(leader))
		select {
		case got := <-greeted:
			if got != leader {
				t.Errorf("%s was greeted, %s leads", got, leader)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no hello to %s", leader)
		}
	}
	leaders.set("") // nobody known: the stream stays
	cancel()
	wg.Wait()
	if len(greeted) != 0 {
		t.Errorf("%s was greeted once too often", <-greeted)
	}
}

func TestBacksOffAndResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // guards dials
		var dials []time.Time
		leaders := newFixed("a")
		c := must(NewClient(ClientConfig{Leaders: leaders, Log: slog.New(slog.DiscardHandler),
			Dial: func(context.Context, fsm.NodeID) (net.Conn, error) {
				mu.Lock()
				defer mu.Unlock()
				dials = append(dials, time.Now())
				return nil, net.ErrClosed
			}}))
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() { _ = c.Run(ctx, nil) })
		time.Sleep(59*time.Second + time.Millisecond)
		synctest.Wait()
		mu.Lock()
		if n := len(dials); n < 30 || n > 70 {
			t.Errorf("%d dials in a minute", n)
		}
		if first := dials[1].Sub(dials[0]); first > firstDelay {
			t.Errorf("second dial after %v", first)
		}
		before := len(dials)
		mu.Unlock()
		leaders.set("b") // no waiting for a new leader
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if len(dials) != before+1 {
			t.Errorf("%d dials at a change of leader", len(dials)-before)
		}
	})
}
