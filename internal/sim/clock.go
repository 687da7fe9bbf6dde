package sim

import (
	"container/heap"
	"time"
)

// event is something that happens at a time. Events at the same time happen in
// the order in which they were planned.
type event struct {
	at  time.Duration
	seq uint64
	run func()
}

// agenda is a heap of what is to come.
type agenda []event

func (a agenda) Len() int { return len(a) }

func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].seq < a[j].seq
}

func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }

// Push is for container/heap.
func (a *agenda) Push(x any) { *a = append(*a, x.(event)) }

// Pop is for container/heap.
func (a *agenda) Pop() any {
	old := *a
	last := old[len(old)-1]
	old[len(old)-1] = event{}
	*a = old[:len(old)-1]
	return last
}

// after plans run for d from now.
func (w *world) after(d time.Duration, run func()) {
	w.planned++
	heap.Push(&w.agenda, event{at: w.now + max(d, 0), seq: w.planned, run: run})
}

// between draws a duration.
func (w *world) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(w.rng.Int64N(int64(hi-lo)+1))
}

func (w *world) chance(p float64) bool { return w.rng.Float64() < p }

// epoch is what a clock that is right shows when a run begins: schedules come due
// among the faults.
func epoch() time.Time { return time.Date(2026, 1, 1, 0, 0, 40, 0, time.UTC) }

// after plans run on the member's own clock; it does not happen when the process
// has ended by then.
func (m *member) after(d time.Duration, run func()) {
	gen := m.gen
	m.w.after(time.Duration(float64(d)/m.rate), func() {
		if m.up && m.gen == gen {
			run()
		}
	})
}

// mono is the member's monotonic clock: it has a rate of its own and never steps.
func (m *member) mono() time.Time {
	return epoch().Add(time.Duration(float64(m.w.now) * m.rate))
}

// wall is the member's wall clock. People step it.
func (m *member) wall() time.Time { return epoch().Add(m.w.now + m.wallOff) }
