package runner

import (
	"slices"
	"sync"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
)

// maxBatch bounds the reports of one message; a plan of many jobs is large.
const maxBatch = 16

// outbox holds the reports that no leader has acknowledged, in their order. An
// outcome is on the disk before it is here.
type outbox struct {
	mu      sync.Mutex
	reports []link.Report
	lastID  uint64
	wake    chan struct{} // holds a token when there may be something to send
}

func newOutbox() *outbox { return &outbox{wake: make(chan struct{}, 1)} }

func (o *outbox) put(r link.Report) {
	o.mu.Lock()
	o.lastID++
	r.ID = o.lastID
	o.reports = append(o.reports, r)
	o.mu.Unlock()
	o.nudge()
}

func (o *outbox) nudge() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// after gives the next reports behind the one with this ID.
func (o *outbox) after(id uint64) []link.Report {
	o.mu.Lock()
	defer o.mu.Unlock()
	at, _ := slices.BinarySearchFunc(o.reports, id+1, func(r link.Report, id uint64) int {
		return int(r.ID) - int(id) // counted up from one
	})
	next := o.reports[at:]
	for i, r := range next {
		if i == maxBatch || (i > 0 && r.Outcome != nil && (r.Outcome.Plan != nil || r.Outcome.Packed != nil)) {
			next = next[:i]
			break
		}
	}
	return slices.Clone(next)
}

// take removes the report that an acknowledgement names.
func (o *outbox) take(id uint64) (r link.Report, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	at := slices.IndexFunc(o.reports, func(r link.Report) bool { return r.ID == id })
	if at < 0 {
		return link.Report{}, false
	}
	r = o.reports[at]
	o.reports = slices.Delete(o.reports, at, at+1)
	return r, true
}

// drop forgets all reports on an attempt.
func (o *outbox) drop(ref fsm.AttemptRef) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reports = slices.DeleteFunc(o.reports, func(r link.Report) bool { return r.Ref == ref })
}

// tells reports whether something on an attempt is still to be acknowledged.
func (o *outbox) tells(ref fsm.AttemptRef) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.ContainsFunc(o.reports, func(r link.Report) bool { return r.Ref == ref })
}

func (o *outbox) empty() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.reports) == 0
}
