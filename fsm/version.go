package fsm

import (
	"fmt"
	"reflect"
	"strconv"

	"github.com/codepr/narwhal/pipeline"
)

// StateVersion is what log entries this version can apply: all whose commands Need no
// more. It is raised with the first field that is added to a command, or to what a
// command carries, after others run the version before; the field says so by its tag,
// `since:"2"`. The leader proposes nothing that Needs more than what every node that
// holds the log has: an older one would have to stop. What is done otherwise on
// entries that older versions know has no tag to say so: Apply does it only where
// State.Version, which the leader raises when all can, is that high.
const StateVersion = 2

// Version is the state version that all nodes which hold the log had when the state was
// raised to it.
func (s *State) Version() uint { return s.version }

// Needs is the lowest StateVersion that can apply a command.
func Needs(c Command) uint {
	needs := commandNeeds.of(reflect.ValueOf(c))
	if f := c.FinishAttempt; f != nil && f.Outcome.Packed != nil && f.Outcome.Plan == nil && commandNeeds.tagged[reflect.TypeFor[pipeline.Pipeline]()] {
		if plan, err := pipeline.Unpack(f.Outcome.Packed); err == nil { // bytes that are none are refused by Apply
			needs = max(needs, commandNeeds.of(reflect.ValueOf(plan)))
		}
	}
	return needs
}

var commandNeeds = needsOf(reflect.TypeFor[Command]())

// needs knows which types have fields that not every version knows.
type needs struct{ tagged map[reflect.Type]bool }

func needsOf(root reflect.Type) needs {
	n := needs{make(map[reflect.Type]bool)}
	for before := -1; before != len(n.tagged); { // until nothing more has been found: types may hold themselves
		before = len(n.tagged)
		n.mark(root, make(map[reflect.Type]bool))
	}
	return n
}

// mark finds the types that have a tag somewhere in them.
func (n needs) mark(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] {
		return n.tagged[t]
	}
	seen[t] = true
	found := false
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		found = n.mark(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() {
				found = n.mark(f.Type, seen) || since(f) > 1 || found
			}
		}
	}
	if found {
		n.tagged[t] = true
	}
	return found
}

// since is the version that brought a field.
func since(f reflect.StructField) uint {
	text, ok := f.Tag.Lookup("since")
	if !ok {
		return 1
	}
	v, err := strconv.ParseUint(text, 10, 32)
	if err != nil || v < 2 {
		panic(fmt.Sprintf("field %s: since:%q is no version from 2", f.Name, text)) // tags are constants
	}
	return uint(v)
}

// of is the newest version that brought a field which is set in v.
func (n needs) of(v reflect.Value) uint {
	newest := uint(1)
	if !v.IsValid() || !n.tagged[v.Type()] {
		return newest
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			newest = n.of(v.Elem())
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			newest = max(newest, n.of(v.Index(i)))
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			newest = max(newest, n.of(it.Value()))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && !v.Field(i).IsZero() {
				newest = max(newest, since(f), n.of(v.Field(i)))
			}
		}
	}
	return newest
}
