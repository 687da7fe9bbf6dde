package fsm

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// An entry of a newer version stops the node: it is never half understood.
func TestNewerEntryIsRefused(t *testing.T) {
	newer := map[string]any{
		"unknown command": []any{1, []any{map[int]any{1: time.Now().Format(time.RFC3339), 99: map[string]any{}}}},
		"unknown field":   []any{1, []any{map[int]any{1: time.Now().Format(time.RFC3339), 7: map[string]any{"build": 1, "why": "x"}}}},
		"unknown in a plan": []any{1, []any{map[int]any{1: time.Now().Format(time.RFC3339), 5: map[string]any{"outcome": map[string]any{
			"plan": map[string]any{"jobs": []any{map[string]any{"name": "a", "allow_all": true}}}}}}}},
		"version": []any{2, []any{}},
	}
	for name, entry := range newer {
		data, err := cbor.Marshal(entry)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeEntry(data); !errors.Is(err, ErrUpgrade) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := DecodeEntry([]byte("garbage")); err == nil || errors.Is(err, ErrUpgrade) {
		t.Errorf("garbage: %v", err)
	}
}

// Text comparison of fence tokens is comparison of tokens.
func TestTokenOrder(t *testing.T) {
	order := []Token{{Index: 9}, {Index: 10}, {Epoch: 1, Index: 2}, {Epoch: 1, Index: 1 << 60}, {Epoch: 10}}
	for i := 1; i < len(order); i++ {
		if order[i-1].String() >= order[i].String() {
			t.Errorf("%s is not before %s", order[i-1], order[i])
		}
	}
}

// BenchmarkApply is one build of one job on its whole road: seven commands.
func BenchmarkApply(b *testing.B) {
	s, _ := Apply(New(), 1, 1, []Command{{UpsertNode: &UpsertNode{Node: Node{ID: "n1", Capacity: plan("a", 1<<40, "").Jobs[0].Resources}}}})
	index := uint64(1)
	step := func(c Command) {
		index++
		data, err := EncodeCommand(c)
		if err != nil {
			b.Fatal(err)
		}
		entry, err := JoinEntry([][]byte{data})
		if err != nil {
			b.Fatal(err)
		}
		commands, err := DecodeEntry(entry)
		if err != nil {
			b.Fatal(err)
		}
		var results []Result
		if s, results = Apply(s, index, 1, commands); results[0].Err != nil {
			b.Fatal(results[0].Err)
		}
	}
	for i := range b.N {
		id := BuildID(i + 1)
		step(Command{AddBuild: &AddBuild{Key: fmt.Sprint(i), Commit: Commit{Repo: "acme/api", SHA: "a"}}})
		for seq := range uint32(2) {
			job := JobID{Build: id, Seq: seq}
			step(Command{AssignJob: &AssignJob{Job: job, N: 1, Node: "n1"}})
			ref := AttemptRef{Job: job, N: 1, Token: Token{Index: index}}
			step(Command{StartAttempt: &StartAttempt{Ref: ref}})
			o := Outcome{Status: Passed}
			if seq == 0 {
				o.Plan = plan("a", 1000, "")
			}
			step(Command{FinishAttempt: &FinishAttempt{Ref: ref, Outcome: o}})
		}
	}
}
