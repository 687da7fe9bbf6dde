package executor

import (
	"testing"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// TestWhatIsMadeAhead goes through a pool's decisions without an engine.
func TestWhatIsMadeAhead(t *testing.T) {
	w := newWarmPool(DockerConfig{Warm: 1, WarmDir: "/warm", Offer: pipeline.Resources{CPU: 2000, Memory: 1 << 30}})
	now := time.Unix(1e9, 0)
	use := func(image string) { w.uses[warmKey{image: image}] = warmUse{at: now} }
	made := func(want string) *slot {
		t.Helper()
		drop, add, _, _ := w.next(now)
		if drop != nil || add == nil || add.key.image != want {
			t.Fatalf("want one of %q, got %+v, %+v", want, drop, add)
		}
		add.state = free
		return add
	}
	idle := func() time.Duration {
		t.Helper()
		drop, add, _, again := w.next(now)
		if drop != nil || add != nil {
			t.Fatalf("want nothing, got %+v, %+v", drop, add)
		}
		return again
	}
	dropped := func(want *slot) {
		t.Helper()
		drop, add, _, _ := w.next(now)
		if drop != want || add != nil {
			t.Fatalf("want %+v gone, got %+v, %+v", want, drop, add)
		}
		w.forget(drop.id)
	}
	idle()
	use("a")
	done := w.starting()
	idle() // while one starts
	done()
	ref := fsm.AttemptRef{N: 1}
	w.running[ref] = pipeline.Resources{CPU: 500, Memory: 1 << 30}
	idle() // the memory is gone
	w.over(ref)
	a := made("a")
	if again := idle(); again != warmIdle {
		t.Errorf("looks again in %s", again)
	}
	a.state = claimed
	first, a := a, made("a")
	w.release(first)
	dropped(first)
	for _, image := range []string{"b", "c", "d"} {
		now = now.Add(time.Minute)
		use(image)
		made(image)
	}
	now = now.Add(time.Minute)
	use("e")
	dropped(a) // there are 4, and it was used least lately
	made("e")
	idle()
	now = now.Add(warmIdle)
	for range 4 {
		drop, _, _, _ := w.next(now)
		if drop == nil {
			t.Fatal("one stays that nobody uses")
		}
		w.forget(drop.id)
	}
	idle()
	if len(w.slots)+len(w.uses) > 0 {
		t.Errorf("left: %v, %v", w.slots, w.uses)
	}
}

// TestNothingIsMadeAheadWithoutRoom: what is free goes, what is claimed stays.
func TestNothingIsMadeAheadWithoutRoom(t *testing.T) {
	w := newWarmPool(DockerConfig{Warm: 1, WarmDir: "/warm"})
	d, now := &Docker{warm: w}, time.Unix(1e9, 0)
	for i, image := range []string{"a", "b"} {
		w.uses[warmKey{image: image}] = warmUse{at: now.Add(time.Duration(i))}
	}
	var slots []*slot
	for range 2 {
		_, add, _, _ := w.next(now)
		slots = append(slots, add)
		add.state = free
	}
	slots[0].state = claimed
	d.Stock(false)
	drop, add, _, _ := w.next(now)
	if drop != slots[1] || add != nil {
		t.Fatalf("without room: drop %+v, add %+v", drop, add)
	}
	w.forget(drop.id)
	if drop, add, _, _ := w.next(now); drop != nil || add != nil {
		t.Fatalf("still without room: drop %+v, add %+v", drop, add)
	}
	d.Stock(true)
	if drop, add, _, _ := w.next(now); drop != nil || add == nil {
		t.Fatalf("with room again: drop %+v, add %+v", drop, add)
	}
}
