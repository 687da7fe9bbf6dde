package runner

import (
	"context"
	"sync"
	"time"

	"github.com/codepr/narwhal/pipeline"
)

// lease is this node's right to run what must not run twice. It is counted from
// when the last beat that the leader has acknowledged was sent, on this
// machine's monotonic clock: the leader, who counts from when that beat
// arrived, is always later.
type lease struct {
	ttl time.Duration

	mu      sync.Mutex
	seq     uint64
	sent    map[uint64]time.Time
	until   time.Time
	renewed chan struct{} // holds a token after an acknowledgement
}

func newLease(ttl time.Duration) *lease {
	return &lease{ttl: ttl, sent: map[uint64]time.Time{}, renewed: make(chan struct{}, 1)}
}

// begin gives the lease a first term: of what was adopted, nobody knows when
// the leader was last heard.
func (l *lease) begin(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = now.Add(l.ttl)
}

// beat numbers a beat that is sent now.
func (l *lease) beat(now time.Time) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	l.sent[l.seq] = now
	return l.seq
}

// forget drops the beats of a stream that has ended: an answer to them can't
// come any more.
func (l *lease) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.sent)
}

// ack takes the leader's word that it has beat seq.
func (l *lease) ack(seq uint64) {
	l.mu.Lock()
	at, ok := l.sent[seq]
	if ok {
		l.until = at.Add(l.ttl)
	}
	for s := range l.sent {
		if s <= seq {
			delete(l.sent, s)
		}
	}
	l.mu.Unlock()
	if ok {
		select {
		case l.renewed <- struct{}{}:
		default:
		}
	}
}

// waiting is how long the oldest beat has gone without an answer.
func (l *lease) waiting(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var most time.Duration
	for _, at := range l.sent {
		most = max(most, now.Sub(at))
	}
	return most
}

func (l *lease) left(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until.Sub(now)
}

// watchLease stops what must not outlive the lease, whenever it has run out.
func (r *Runner) watchLease(ctx context.Context) error {
	for ctx.Err() == nil {
		left := r.lease.left(time.Now())
		if left <= 0 {
			r.fence()
			select {
			case <-ctx.Done():
			case <-r.lease.renewed:
				r.nudge() // what waited for a lease may start
			}
			continue
		}
		timer := time.NewTimer(left)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

func (r *Runner) fence() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.attempts {
		if a.exclusive() && a.state.alive() && a.state < fencing {
			r.log.Warn("lease has run out, stopping the job", "attempt", a.ref.String())
			a.halt(fencing, r.cfg.FenceGrace)
		}
	}
}

// exclusive reports whether the job must never run twice at a time.
func (a *attempt) exclusive() bool {
	return a.work.Spec != nil && a.work.Spec.OnNodeLoss == pipeline.NodeLossFail
}
