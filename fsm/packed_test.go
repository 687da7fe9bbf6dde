package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"github.com/fxamacker/cbor/v2"
	"github.com/klauspost/compress/zstd"

	"github.com/codepr/narwhal/pipeline"
)

// square is a plan of 256 jobs, which is larger than a log entry may be unless it
// is packed.
func square() *pipeline.Pipeline {
	p := &pipeline.Pipeline{}
	for i := range 256 {
		p.Jobs = append(p.Jobs, pipeline.Job{
			Name: fmt.Sprintf("all (%d)", i), Of: "all", Matrix: map[string]string{"n": fmt.Sprint(i)}, Image: "alpine",
			Env:   map[string]string{"MATRIX_N": fmt.Sprint(i), "LONG": strings.Repeat("long ", 100)},
			Steps: []pipeline.Step{{Name: "test", Command: []string{strings.Repeat("make test\n", 100)}}, {Name: fmt.Sprint(i), Command: []string{"true"}}},
		})
	}
	return p
}

func decoded(t *testing.T, o Outcome) (Outcome, error) {
	t.Helper()
	data, err := EncodeCommand(Command{FinishAttempt: &FinishAttempt{Outcome: o}})
	if err != nil {
		t.Fatal(err)
	}
	if o.Packed != nil && len(data) > 64<<10 {
		t.Errorf("a packed plan has %d bytes in the log", len(data))
	}
	entry, err := JoinEntry([][]byte{data})
	if err != nil {
		t.Fatal(err)
	}
	commands, err := DecodeEntry(entry)
	if err != nil {
		return Outcome{}, err
	}
	return commands[0].FinishAttempt.Outcome, nil
}

// A plan in the log is the same whether it is packed, as large ones are, or not, as
// all of them were before.
func TestPackedPlan(t *testing.T) {
	p := square()
	packed, err := p.Pack()
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Outcome{"plain": {Status: Passed, Plan: p}, "packed": {Status: Passed, Packed: packed}} {
		got, err := decoded(t, o)
		if err != nil || got.Packed != nil || got.Plan == nil || got.Plan.String() != square().String() {
			t.Fatalf("%s: another plan, or none: %v", name, err)
		}
		shared(t, name, &got.Plan.Jobs[0], &got.Plan.Jobs[255])
	}
}

// shared sees that jobs of a matrix keep what they have in common once.
func shared(t *testing.T, name string, one, two *pipeline.Job) {
	t.Helper()
	if unsafe.StringData(one.Steps[0].Command[0]) != unsafe.StringData(two.Steps[0].Command[0]) {
		t.Errorf("%s: each job has its own copy of a script", name)
	}
	if unsafe.StringData(one.Env["LONG"]) != unsafe.StringData(two.Env["LONG"]) {
		t.Errorf("%s: each job has its own copy of a variable's value", name)
	}
	if one.Env["MATRIX_N"] == two.Env["MATRIX_N"] || one.Steps[1].Name == two.Steps[1].Name {
		t.Errorf("%s: %+v has become %+v", name, one, two)
	}
}

// A state that comes from a snapshot keeps it once too.
func TestRestoredPlanIsShared(t *testing.T) {
	s, _ := Apply(New(), 1, 1, []Command{
		{UpsertNode: &UpsertNode{Node: Node{ID: "n1"}}},
		{AddBuild: &AddBuild{Key: "k", Commit: Commit{Repo: "acme/api", SHA: "a"}}},
		{AssignJob: &AssignJob{Job: JobID{Build: 1}, N: 1, Node: "n1"}},
	})
	ref := AttemptRef{Job: JobID{Build: 1}, N: 1, Token: Token{Index: 1}}
	s, results := Apply(s, 2, 1, []Command{{FinishAttempt: &FinishAttempt{Ref: ref, Outcome: Outcome{Status: Passed, Plan: square()}}}})
	if results[0].Err != nil {
		t.Fatal(results[0].Err)
	}
	var buf bytes.Buffer
	if _, err := s.WriteTo(&buf); err != nil {
		t.Fatal(err)
	}
	back, err := Restore(&buf)
	if err != nil {
		t.Fatal(err)
	}
	one, _ := back.Job(JobID{Build: 1, Seq: 1})
	two, _ := back.Job(JobID{Build: 1, Seq: 256})
	shared(t, "restored", one.Spec, two.Spec)
	a, err := s.Hash()
	b, err2 := back.Hash()
	if err != nil || err2 != nil || a != b {
		t.Errorf("the restored state is another: %s %v, %s %v", a, err, b, err2)
	}
}

// What can't be unpacked is refused, and does not stop who reads the log; what a newer
// version has packed does.
func TestPackedHostile(t *testing.T) {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	newer, err := cbor.Marshal(map[string]any{"jobs": []any{map[string]any{"shape": "round"}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decoded(t, Outcome{Status: Passed, Packed: enc.EncodeAll(newer, nil)}); !errors.Is(err, ErrUpgrade) {
		t.Errorf("a newer plan: %v", err)
	}
	for name, packed := range map[string][]byte{"garbage": []byte("garbage"), "bomb": enc.EncodeAll(make([]byte, 64<<20), nil)} {
		o, err := decoded(t, Outcome{Status: Passed, Packed: packed})
		if err != nil || o.Plan != nil {
			t.Errorf("%s: %+v, %v", name, o.Plan, err)
		}
		if err := checkOutcome(&FinishAttempt{Outcome: o}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: applied with %v", name, err)
		}
	}
}
