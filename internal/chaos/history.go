package chaos

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/codepr/narwhal/fsm"
)

// operation is a request as its client saw it.
type operation struct {
	what       string // create, read, cancel
	order      int    // which build it was about
	call, back int64  // when it was sent and answered, nanoseconds of one clock

	build  fsm.BuildID // what was answered; 0: there is no such build
	status fsm.Status
}

var epoch = time.Now()

// now is a reading of this process's monotonic clock.
func now() int64 { return int64(time.Since(epoch)) }

// known is what an outside observer knows of a build.
type known struct {
	build  fsm.BuildID
	status fsm.Status
}

// progress orders the states of a build: it never goes back.
func progress(s fsm.Status) int {
	switch {
	case s.Terminal():
		return 2
	case s == fsm.Running:
		return 1
	default:
		return 0
	}
}

// model is one build as a linearizable object (Herlihy and Wing 1990): one key makes one
// build, which goes forward by itself at any time, and never changes once it has ended.
var model = porcupine.Model{
	Init: func() any { return known{} },
	Step: func(state, input, output any) (bool, any) {
		before, op, out := state.(known), input.(string), output.(known)
		switch {
		case out.build == 0:
			return op != "create" && before.build == 0, before
		case before.build == 0 && op != "create":
			return false, before
		case before.build != 0 && out.build != before.build:
			return false, before
		case progress(out.status) < progress(before.status):
			return false, before
		case before.status.Terminal() && out.status != before.status:
			return false, before
		}
		return true, out
	},
}

// unlinear are the orders whose history no order of events explains.
func unlinear(history []operation) []int {
	byOrder := make(map[int][]porcupine.Operation)
	for i, op := range history {
		byOrder[op.order] = append(byOrder[op.order], porcupine.Operation{
			ClientId: i, Input: op.what, Call: op.call, Output: known{op.build, op.status}, Return: op.back,
		})
	}
	var bad []int
	for order, ops := range byOrder {
		if !porcupine.CheckOperations(model, ops) {
			bad = append(bad, order)
		}
	}
	return bad
}

// story tells what clients saw of an order, by the time that they asked.
func story(history []operation, order int) string {
	var ops []operation
	for _, op := range history {
		if op.order == order {
			ops = append(ops, op)
		}
	}
	slices.SortFunc(ops, func(a, b operation) int { return cmp.Compare(a.call, b.call) })
	var said []string
	for _, op := range ops {
		said = append(said, fmt.Sprintf("%s from %s to %s: build %d %s", op.what, time.Duration(op.call), time.Duration(op.back), op.build, op.status))
	}
	return strings.Join(said, "; ")
}
