package fsm

import (
	"bytes"
	"errors"
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
	fields(reflect.TypeFor[Command](), 1, now, make(map[reflect.Type]uint))
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

// fields lists what is encoded, as PACKAGE.TYPE.FIELD=NAME, and since when: what lies in a
// field that is new is as new.
func fields(t reflect.Type, version uint, out map[string]uint, seen map[reflect.Type]uint) {
	if was, ok := seen[t]; ok && was <= version {
		return
	}
	seen[t] = version
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		fields(t.Elem(), version, out, seen)
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
			out[fmt.Sprintf("%s.%s=%s", t.String(), f.Name, name)] = max(version, since(f))
			fields(f.Type, max(version, since(f)), out, seen)
		}
	}
}

// newest is New on nodes that all have this version.
func newest() *State {
	s := New()
	s.version = StateVersion
	return s
}

// TestVersionIsRaised has what is new be done from the entry on that says so, not before
// and not by who restores a snapshot of before; and one that is too new stop a node.
func TestVersionIsRaised(t *testing.T) {
	s := New()
	do := func(c Command) {
		t.Helper()
		var results []Result
		if s, results = Apply(s, s.Index()+1, 1, []Command{c}); results[0].Err != nil {
			t.Fatal(results[0].Err)
		}
	}
	push := func(sha string) {
		t.Helper()
		c := Commit{Repo: "acme/api", CloneURL: "git://acme/api", SHA: sha, Ref: "refs/heads/main", Event: EventPush}
		do(Command{AddBuild: &AddBuild{Key: c.Key(), Commit: c}})
	}
	restore := func(version uint) {
		t.Helper()
		var b bytes.Buffer
		if _, err := s.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		var h head
		if err := decMode.NewDecoder(bytes.NewReader(b.Bytes())).Decode(&h); err != nil || h.Version != version {
			t.Errorf("written as version %d, want %d: %v", h.Version, version, err)
		}
		before, err := s.Hash()
		if err != nil {
			t.Fatal(err)
		}
		if s, err = Restore(&b); err != nil {
			t.Fatal(err)
		}
		if after, err := s.Hash(); err != nil || after != before {
			t.Errorf("restored to another state: %v", err)
		}
	}
	// silenced: a branch that is forgotten takes its say from the newest build.
	silenced := func() bool {
		do(Command{DropSchedules: &DropSchedules{Repo: "acme/api", Branch: "main"}})
		for b := range s.Builds(0) {
			return b.Unscheduled
		}
		t.Fatal("there is no build")
		return false
	}
	push("1")
	if silenced() {
		t.Error("version 1 silences what is not planned")
	}
	restore(3)
	if _, ok := s.Remote("acme/api"); ok || s.Version() != 1 {
		t.Errorf("version %d notes remotes", s.Version())
	}
	do(Command{RaiseVersion: &RaiseVersion{Version: 2}})
	do(Command{RaiseVersion: &RaiseVersion{Version: 1}})
	push("2")
	if !silenced() {
		t.Error("version 2 does not silence what is not planned")
	}
	restore(snapshotVersion)
	if _, ok := s.Remote("acme/api"); !ok || s.Version() != 2 {
		t.Errorf("version %d notes no remotes", s.Version())
	}
	data, err := EncodeCommand(Command{RaiseVersion: &RaiseVersion{Version: StateVersion + 1}})
	if err != nil {
		t.Fatal(err)
	}
	entry, err := JoinEntry([][]byte{data})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeEntry(entry); !errors.Is(err, ErrUpgrade) {
		t.Errorf("a version that is not known here: %v", err)
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
	for want, c := range map[uint]Command{1: {AddBuild: &AddBuild{}}, 2: {AddBuild: &AddBuild{Missed: true}}} {
		if got := Needs(c); got != want {
			t.Errorf("a command of version %d needs %d", want, got)
		}
	}
}
