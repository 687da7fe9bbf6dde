package fsm

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestFieldsSaySinceWhen holds the commands, and all that they carry, to what is known
// of them: a field that came later says since when, so that no old node is sent one.
func TestFieldsSaySinceWhen(t *testing.T) {
	const path = "testdata/fields.golden"
	now := make(map[string]uint)
	fields(reflect.TypeFor[Command](), now, make(map[reflect.Type]bool))
	text, err := os.ReadFile(path)
	if err != nil && !*rewrite {
		t.Fatal(err)
	}
	known := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		name, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		known[name] = version
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		version, ok := known[name]
		switch {
		case now[name] > StateVersion:
			t.Errorf("%s is since %d: raise StateVersion", name, now[name])
		case !ok && len(known) > 0 && now[name] == 1:
			t.Errorf("%s is new: a node of before can't read it; raise StateVersion where that is not done since the last release, and tag the field with it, as since:\"%d\"", name, max(2, StateVersion))
		case !ok && !*rewrite:
			t.Errorf("%s is not in %s: -rewrite adds it", name, path)
		case ok && version != fmt.Sprint(now[name]):
			t.Errorf("%s was since %s and is since %d by now: versions don't change", name, version, now[name])
		}
	}
	for name := range known {
		if _, ok := now[name]; !ok {
			t.Errorf("%s is gone: entries that have it are in logs", name)
		}
	}
	if *rewrite && !t.Failed() {
		var out strings.Builder
		for _, name := range slices.Sorted(maps.Keys(now)) {
			fmt.Fprintf(&out, "%s %d\n", name, now[name])
		}
		if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// fields lists what is encoded, as PACKAGE.TYPE.FIELD=NAME.
func fields(t reflect.Type, out map[string]uint, seen map[reflect.Type]bool) {
	if seen[t] {
		return
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		fields(t.Elem(), out, seen)
	case reflect.Struct:
		if t.PkgPath() == "time" {
			return
		}
		for i := range t.NumField() {
			f := t.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("cbor"), ",")
			if name == "" {
				name, _, _ = strings.Cut(f.Tag.Get("json"), ",")
			}
			if !f.IsExported() || name == "-" {
				continue
			}
			out[fmt.Sprintf("%s.%s=%s", t.String(), f.Name, name)] = since(f)
			fields(f.Type, out, seen)
		}
	}
}

type newer struct {
	Old   string
	New   int `since:"2"`
	Deep  *deeper
	Many  []deeper
	Named map[string]deeper
	Self  *newer
	None  struct{ Old string }
}

type deeper struct {
	Old   string
	Newer bool `since:"3"`
}

// TestNeeds tells what is set from what is only there to be set, however deep it lies.
func TestNeeds(t *testing.T) {
	n := needsOf(reflect.TypeFor[newer]())
	for want, all := range map[uint][]newer{
		1: {{}, {Old: "x", Deep: &deeper{Old: "x"}, Many: []deeper{{}}, Self: &newer{Old: "x"}}},
		2: {{New: 1}, {Self: &newer{Self: &newer{New: 1}}}},
		3: {{Deep: &deeper{Newer: true}}, {Many: []deeper{{}, {Newer: true}}}, {Named: map[string]deeper{"x": {Newer: true}}}, {New: 1, Self: &newer{Many: []deeper{{Newer: true}}}}},
	} {
		for i, v := range all {
			if got := n.of(reflect.ValueOf(v)); got != want {
				t.Errorf("value %d needs %d, want %d", i, got, want)
			}
		}
	}
	if n.tagged[reflect.TypeFor[struct{ Old string }]()] {
		t.Error("a type without tags is looked into")
	}
	if got := Needs(Command{AddBuild: &AddBuild{}}); got != 1 {
		t.Errorf("a command of the first version needs %d", got)
	}
}
