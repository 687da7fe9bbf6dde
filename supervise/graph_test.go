package supervise

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/codepr/narwhal/pipeline"
)

// TestGraph runs random jobs, and asks of each step what it should have been by
// looking at all that it waits for, near and far.
func TestGraph(t *testing.T) {
	ons := []pipeline.RunOn{pipeline.OnSuccess, pipeline.OnSuccess, pipeline.OnFailure, pipeline.Always}
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 7))
		steps := make([]Step, 1+r.IntN(12))
		fails := make([]bool, len(steps))
		for i := range steps {
			steps[i].On = ons[r.IntN(len(ons))]
			steps[i].AllowFailure = r.IntN(4) == 0
			fails[i] = r.IntN(4) == 0
			if r.IntN(8) == 0 {
				steps[i].Skip = "left out"
			}
			if steps[i].Parallel = r.IntN(2) == 0; steps[i].Parallel {
				for k := range i {
					if r.IntN(3) == 0 {
						steps[i].Needs = append(steps[i].Needs, k)
					}
				}
			}
		}
		waits := far(steps)
		var running, done []int
		ran := make([]bool, len(steps))
		g := newGraph(steps)
		for {
			start, leave := g.next()
			for _, i := range append(slices.Clone(start), leave...) {
				for _, k := range waits[i] {
					if !slices.Contains(done, k) && !slices.Contains(leave, k) {
						t.Fatalf("seed %d: step %d came before step %d had ended", seed, i, k)
					}
				}
			}
			for _, i := range start {
				ran[i] = true
			}
			running, done = append(running, start...), append(done, leave...)
			if len(running) == 0 {
				break
			}
			k := r.IntN(len(running))
			i := running[k]
			running = slices.Delete(running, k, k+1)
			done = append(done, i)
			g.end(i, fails[i] && !steps[i].AllowFailure)
		}
		if len(done) != len(steps) {
			t.Fatalf("seed %d: %d of %d steps ended", seed, len(done), len(steps))
		}
		for i := range steps {
			broken := slices.ContainsFunc(waits[i], func(k int) bool { return ran[k] && fails[k] && !steps[k].AllowFailure })
			want := steps[i].Skip == "" && map[pipeline.RunOn]bool{pipeline.OnSuccess: !broken, pipeline.OnFailure: broken, pipeline.Always: true}[steps[i].On]
			if ran[i] != want {
				t.Fatalf("seed %d: step %d (%+v) ran: %v, want %v", seed, i, steps[i], ran[i], want)
			}
		}
	}
}

// far gives all that each step waits for, directly or not.
func far(steps []Step) [][]int {
	waits := make([][]int, len(steps))
	for i, s := range steps {
		near := s.Needs
		if !s.Parallel {
			near = nil
			for k := range i {
				near = append(near, k)
			}
		}
		for _, k := range near {
			waits[i] = append(append(waits[i], k), waits[k]...)
		}
	}
	return waits
}

func TestAgain(t *testing.T) {
	failure := ending{status: "failed", cause: "failure", exit: 7}
	timeout := ending{status: "failed", cause: "timeout"}
	oom := ending{status: "failed", cause: "oom", exit: 137}
	for i, c := range []struct {
		retry *pipeline.Retry
		end   ending
		tries int
		want  bool
	}{
		{nil, failure, 1, false},
		{&pipeline.Retry{Max: 2}, failure, 1, true},
		{&pipeline.Retry{Max: 2}, failure, 2, true},
		{&pipeline.Retry{Max: 2}, failure, 3, false},
		{&pipeline.Retry{Max: 2}, timeout, 1, true},
		{&pipeline.Retry{Max: 2}, oom, 1, true},
		{&pipeline.Retry{Max: 2}, ending{status: "errored", cause: "config"}, 1, false},
		{&pipeline.Retry{Max: 2}, ending{status: "canceled", cause: "canceled"}, 1, false},
		{&pipeline.Retry{Max: 2}, ending{status: "errored"}, 1, false},
		{&pipeline.Retry{Max: 2, When: []pipeline.Class{"timeout"}}, failure, 1, false},
		{&pipeline.Retry{Max: 2, When: []pipeline.Class{"timeout"}}, timeout, 1, true},
		{&pipeline.Retry{Max: 2, When: []pipeline.Class{"always"}}, oom, 1, true},
		{&pipeline.Retry{Max: 2, ExitCodes: []int{7, 8}}, failure, 1, true},
		{&pipeline.Retry{Max: 2, ExitCodes: []int{8}}, failure, 1, false},
		{&pipeline.Retry{Max: 2, ExitCodes: []int{8}}, timeout, 1, true},
	} {
		if got := again(c.retry, c.end, c.tries); got != c.want {
			t.Errorf("case %d: %v", i, got)
		}
	}
	r := &pipeline.Retry{Backoff: 3e9}
	var pauses []string
	for _, tries := range []int{1, 2, 3, 100, 100_000} {
		pauses = append(pauses, backoff(r, tries).String())
	}
	if got := fmt.Sprint(pauses); got != "[3s 6s 12s 1h0m0s 1h0m0s]" {
		t.Errorf("pauses %s", got)
	}
}
