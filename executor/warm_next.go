package executor

import (
	"path/filepath"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// starting is called when a start begins, and what it returns when it has ended.
func (w *warmPool) starting() (done func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.starts++
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.starts--
		w.nudge()
	}
}

// began counts what runs.
func (w *warmPool) began(t Task) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running[t.Ref] = t.Work.Spec.Resources
}

// over forgets an attempt of which no container is left.
func (w *warmPool) over(ref fsm.AttemptRef) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.running, ref)
	for id, s := range w.slots {
		if s.state == taken && s.ref == ref {
			delete(w.slots, id)
		}
	}
	w.nudge()
}

// full reports whether the node's jobs have all that it offers.
func (w *warmPool) full() bool {
	var cpu, memory int64
	for _, r := range w.running {
		cpu += r.CPU
		memory += r.Memory
	}
	return w.offer.CPU > 0 && cpu >= w.offer.CPU || w.offer.Memory > 0 && memory >= w.offer.Memory
}

// Stock says whether the machine has room for what is made ahead: where it has none,
// what nobody has claimed goes, and no more is made until it has.
func (d *Docker) Stock(room bool) {
	d.warm.mu.Lock()
	defer d.warm.mu.Unlock()
	d.warm.scant = !room
	d.warm.nudge()
}

// next is what is to be done now: a slot to be removed, or one to be made, or nothing
// before again, or a nudge.
func (w *warmPool) next(now time.Time) (drop, add *slot, use warmUse, again time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	again = w.age(now)
	have := make(map[warmKey]int)
	for _, s := range w.slots {
		_, used := w.uses[s.key]
		switch {
		case s.state == doomed, s.state == free && (!used || w.scant):
			s.state = doomed
			return s, nil, use, 0
		case s.state == free:
			have[s.key]++
		}
	}
	if w.starts > 0 || w.scant || w.full() {
		return nil, nil, use, again // whoever ends nudges
	}
	key, least, total := w.wanted(have)
	use = w.uses[key]
	switch {
	case use.at.IsZero():
		return nil, nil, use, again
	case total < maxWarm:
		id := newSlotID()
		add = &slot{id: id, key: key, dir: filepath.Join(w.dir, id), state: making}
		w.slots[id] = add
		return nil, add, use, 0
	}
	for _, s := range w.slots { // what was used last goes before
		if s.state == free && s.key == least && w.uses[least].at.Before(use.at) {
			s.state = doomed
			return s, nil, use, 0
		}
	}
	return nil, nil, use, again
}

// age forgets what was not used for long, and gives the time to the next such.
func (w *warmPool) age(now time.Time) time.Duration {
	next := warmIdle
	for key, u := range w.uses {
		if left := u.at.Add(warmIdle).Sub(now); left <= 0 {
			delete(w.uses, key)
		} else {
			next = min(next, left)
		}
	}
	return next
}

// wanted is, of those that have too few, what was used last; of those that have some,
// what was not used for longest; and how many there are.
func (w *warmPool) wanted(have map[warmKey]int) (want, least warmKey, total int) {
	for key, u := range w.uses {
		total += have[key]
		if have[key] < w.perKey && u.at.After(w.uses[want].at) {
			want = key
		}
		if have[key] > 0 && (least == warmKey{} || u.at.Before(w.uses[least].at)) {
			least = key
		}
	}
	return want, least, total
}
