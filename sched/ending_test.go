package sched

import (
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
)

// With the leadership every stream ends, and new ones are refused.
func TestStreamsEndWithLeadership(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		n := s.dial(hello("n1", 1))
		n.wish(0)
		s.end()
		if err := <-n.ended; !errors.Is(err, link.ErrNotLeader) {
			t.Errorf("the stream ended with %v", err)
		}
		if _, err := s.d.Why(fsm.JobID{Build: 1}); !errors.Is(err, link.ErrNotLeader) {
			t.Errorf("why answered %v", err)
		}
		refused := s.open("n2")
		if err := <-refused.ended; !errors.Is(err, link.ErrNotLeader) {
			t.Errorf("a stream was taken: %v", err)
		}
	})
}

// stuck is a node that has been sent more than its stream holds and reads none
// of it.
func (s *stage) stuck(id string) *dialled {
	s.t.Helper()
	n := s.dial(hello(id, 1))
	for _, sha := range []string{"aaaa", "bbbb", "cccc"} {
		synctest.Wait() // what has been sent so far does not take this one along
		s.push(sha)
	}
	synctest.Wait()
	return n
}

// A node that does not read holds nobody up: not the end of the leadership, or
// this node could never lead again,
func TestLeadershipEndsWhileSending(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		n := s.stuck("n1")
		s.end()
		if err := n.over(); !errors.Is(err, link.ErrNotLeader) {
			t.Errorf("the stream ended with %v", err)
		}
	})
}

// nor its own next stream,
func TestStuckStreamIsReplaced(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		old := s.stuck("n1")
		fresh := s.dial(hello("n1", 1))
		fresh.wish(3)
		if err := old.over(); !errors.Is(err, errReplaced) {
			t.Errorf("the old stream ended with %v", err)
		}
	})
}

// nor the end of its stream when it breaks.
func TestStuckStreamBreaks(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		n := s.stuck("n1")
		n.Close()
		if err := n.over(); !errors.Is(err, io.EOF) {
			t.Errorf("the stream ended with %v", err)
		}
	})
}

// Neither does one that never says who it is.
func TestLeadershipEndsBeforeHello(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		n := s.open("n1")
		synctest.Wait()
		s.end()
		if err := n.over(); !errors.Is(err, link.ErrNotLeader) {
			t.Errorf("the stream ended with %v", err)
		}
	})
}

// slow is a stream that goes on for as long as the test wants, whether or not its
// handler has returned.
type slow struct{ up chan *link.Up }

func (s slow) Send(*link.Down) error { return nil }

func (s slow) Recv() (*link.Up, error) {
	up, ok := <-s.up
	if !ok {
		return nil, io.EOF
	}
	return up, nil
}

// What arrives when the leadership has ended changes nothing: another node may
// lead by then.
func TestNothingIsProposedAfterTheEnd(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		var serving sync.WaitGroup
		serve := func() slow {
			stream := slow{up: make(chan *link.Up)}
			serving.Go(func() {
				if err := s.d.Serve(t.Context(), "", stream); !errors.Is(err, link.ErrNotLeader) {
					t.Errorf("a stream ended with %v", err)
				}
			})
			return stream
		}
		known, late := serve(), serve()
		first, second := hello("n1", 1), hello("n2", 1)
		known.up <- &link.Up{Hello: &first}
		s.push("aaaa")
		plan := s.job("1.0")
		a, ok := plan.Current()
		if !ok || a.Status != fsm.Assigned {
			t.Fatalf("the plan was not placed: %+v", plan)
		}
		s.resign()
		synctest.Wait()
		serving.Wait() // though neither stream has ended
		before, _ := s.log.Watch()
		known.up <- &link.Up{Reports: []link.Report{ended(plan.Ref(a), onePlan)}}
		late.up <- &link.Up{Hello: &second}
		synctest.Wait()
		if after, _ := s.log.Watch(); after.Index() != before.Index() {
			t.Errorf("%d entries were proposed", after.Index()-before.Index())
		}
		close(known.up)
		close(late.up)
	})
}

// A report that can't be carried to the log ends the stream at once, so that it
// is sent again on the next one; not only when the node says something more.
func TestStreamEndsWhenAReportIsNotTaken(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		n := s.dial(hello("n1", 1))
		n.wish(0)
		noLeader := errors.New("no leader")
		s.log.refuse(noLeader)
		n.say(&link.Up{Reports: []link.Report{{ID: 1, Started: true}}})
		if err := n.over(); !errors.Is(err, noLeader) {
			t.Errorf("the stream ended with %v", err)
		}
	})
}
