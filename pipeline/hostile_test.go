package pipeline

import (
	"fmt"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

const fine = "\nsteps: [{command: make}]\n"

// fill gives head, lines, and a step, as long as a file may be.
func fill(head string, line func(i int) string) string {
	var b strings.Builder
	b.WriteString(head)
	for i := 0; ; i++ {
		s := line(i)
		if b.Len()+len(s)+len(fine) > MaxSize {
			return b.String() + fine
		}
		b.WriteString(s)
	}
}

// bombs are files of at most MaxSize, and what their first error says.
func bombs() map[string][2]string {
	laughs := "x-0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]\n"
	merges := "x-0: &a0 {A: b, C: d}\n"
	for i := 1; i < 30; i++ {
		laughs += fmt.Sprintf("x-%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
		merges += fmt.Sprintf("x-%d: &a%d {<<: [%s]}\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	big := strings.Repeat("x", 900<<10)
	chain := "x-0: &a0 {A: b}\n"
	for i := 1; i < 20000; i++ {
		chain += fmt.Sprintf("x-%d: &a%d {<<: *a%d}\n", i, i, i-1)
	}
	env := "env:\n"
	for i := range 2000 {
		env += fmt.Sprintf("  V%d: x\n", i)
	}
	jobs := "jobs:\n"
	for i := range maxJobs {
		jobs += fmt.Sprintf("  j%d: {steps: [{command: a}]}\n", i)
	}
	return map[string][2]string{
		"laughs":        {laughs + fine, "more than 100000 values"},
		"laughs, full":  {fill(laughs, func(int) string { return "#" + strings.Repeat("x", 1000) + "\n" }), "more than 100000 values"},
		"merges":        {merges + "env: *a29" + fine, "more than 100000 values"},
		"merge chain":   {chain + "env: *a19999" + fine, "more than 64 deep"},
		"text":          {"x-a: &a " + big + "\nx-b: [*a, *a, *a, *a, *a]" + fine, "larger than 4 MiB"},
		"text in steps": {"x-a: &a " + big + "\nsteps: [{commands: [*a, *a, *a, *a, *a]}]\n", "larger than 4 MiB"},
		"env in jobs":   {env + jobs, "more than 4 MiB in 256 jobs"},
		"cycle":         {"x-a: &a [*a]" + fine, "inside the very value"},
		"cycle of map":  {"env: &a {<<: *a}" + fine, "inside the very value"},
		"brackets":      {strings.Repeat("[", MaxSize), "exceeded max depth"},
		"brackets ok":   {"x-a: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + fine, "more than 64 deep"},
		"dashes":        {strings.Repeat("- ", MaxSize/2), "exceeded max depth"},
		"questions":     {strings.Repeat("? ", 9000), "more than 64 deep"},
		"items":         {fill("x-a:\n", func(int) string { return "-\n" }), "more than 100000 values"},
		"short keys":    {fill("", func(i int) string { return fmt.Sprintf("%x:\n", i) }), "more than 100000 values"},
		"unknown keys":  {fill("", func(i int) string { return fmt.Sprintf("imag%025d: v\n", i) }), "unknown key"},
		"long key":      {strings.Repeat("k", 900<<10) + ": v" + fine, "not YAML"},
		"long key 2":    {"? " + strings.Repeat("k", 900<<10) + "\n: v" + fine, "unknown key"},
		"comments":      {fill("x-a:\n", func(int) string { return "- a\n#\n" }), "more than 100000 values"},
		"too large":     {strings.Repeat("#", MaxSize+1), "at most 1048576"},
	}
}

// TestBombs sees that each is refused, and that refusing costs memory in
// proportion to the file, not to what it would multiply to: undefused, most of
// these come to gigabytes, the laughs to 10^30 values.
func TestBombs(t *testing.T) {
	const most = 400 << 20 // allocated in all; the most that is alive at a time is a third
	for name, bomb := range bombs() {
		t.Run(name, func(t *testing.T) {
			data := []byte(bomb[0])
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			_, err := Parse("narwhal.yml", data, Options{})
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Fatal("was accepted")
			}
			checkErrors(t, err)
			if !strings.Contains(err.Error(), bomb[1]) {
				t.Errorf("got %.300s, want %q", err, bomb[1])
			}
			used := after.TotalAlloc - before.TotalAlloc
			t.Logf("%d KiB in, %d MiB allocated: %.120s", len(data)>>10, used>>20, err)
			if used > most {
				t.Errorf("allocated %d MiB, at most %d", used>>20, most>>20)
			}
		})
	}
}

func TestBytes(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"NUL", "name: \u00f6\x00", "narwhal.yml:1:8: the file has a NUL byte"},
		{"not UTF-8", "a: b\nname: \u00f6\xff", "narwhal.yml:2:8: the file is not UTF-8"},
		{"UTF-16", "\xff\xfes\x00t\x00", "narwhal.yml:1:1: the file is not UTF-8"},
		{"escape", "name: \x1b[31m", "narwhal.yml:1:7: control character U+001B"},
		{"mark inside", "a: b\ufeff", "narwhal.yml:1:5: control character U+FEFF"},
		{"mark first", "\ufeffsteps: [{command: a}]", ""},
		{"CRLF", "steps:\r\n- command: a\r\n", ""},
		{"CRLF, bad", "steps:\r\n- comand: a\r\n  command: b", "narwhal.yml:2:3: unknown key"},
		{"column in characters", "{name: \"\u00f6\u65e5\U0001f433\", imagee: x, steps: [{command: a}]}", "narwhal.yml:1:15: unknown key"},
		{"bell by escape", `{name: "\a", steps: [{command: a}]}`, "control character"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("narwhal.yml", []byte(c.file), Options{})
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestAtTheLimits(t *testing.T) {
	build := func(jobs, steps int) string {
		s := "jobs:\n"
		for i := range jobs {
			s += fmt.Sprintf("  j%d:\n    steps:\n", i)
			for k := range steps {
				s += fmt.Sprintf("      - command: echo %d\n", k)
			}
		}
		return s
	}
	all := "jobs:\n"
	for i := range maxJobs {
		all += fmt.Sprintf("  j%d: {needs: [%s], steps: [{command: a}]}\n", i, "j0")
	}
	for _, c := range []struct {
		name, file, want string
	}{
		{"256 jobs", build(maxJobs, 1), ""},
		{"257 jobs", build(maxJobs+1, 1), "257 jobs: at most 256"},
		{"1000 steps", build(1, maxSteps), ""},
		{"1000 steps in 200 jobs", build(200, 5), ""},
		{"1001 steps", build(7, 143), "more than 1000"},
		{"self", all, "job \"j0\" needs itself"},
		{"1 MiB of script", "steps:\n- command: |\n" + strings.Repeat("    echo 0123456789abcdef\n", 40000), ""},
		{"too many errors", "steps:\n" + strings.Repeat("- {comand: a}\n", 300), "too many errors"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Parse("narwhal.yml", []byte(c.file), Options{})
			if c.want == "" {
				if err != nil {
					t.Fatalf("%.300s", err)
				}
				checkPlan(t, p)
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %.300v, want %q", err, c.want)
			}
			checkErrors(t, err)
		})
	}
}

func TestNeedsOfAllByAll(t *testing.T) {
	var names []string
	for i := range maxJobs {
		names = append(names, fmt.Sprintf("j%d", i))
	}
	s := "x-all: &all [" + strings.Join(names, ", ") + "]\njobs:\n"
	for _, n := range names {
		s += fmt.Sprintf("  %s: {needs: *all, steps: [{command: a}]}\n", n)
	}
	_, err := Parse("narwhal.yml", []byte(s), Options{})
	if err == nil || !strings.Contains(err.Error(), "wait for each other") {
		t.Fatalf("got %.300v", err)
	}
	checkErrors(t, err)
}

// FuzzParse looks for panics, for errors that cannot be shown, for plans that
// break what checkPlan states, and for answers that differ between two calls.
func FuzzParse(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		script, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range script.Files {
			if filepath.Ext(file.Name) == ".yml" {
				f.Add(file.Data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse("narwhal.yml", data, Options{})
		again, err2 := Parse("narwhal.yml", data, Options{})
		if !reflect.DeepEqual(p, again) || !reflect.DeepEqual(err, err2) {
			t.Fatalf("two answers: %v %v and %v %v", p, err, again, err2)
		}
		if err != nil {
			checkErrors(t, err)
			return
		}
		checkPlan(t, p)
		_ = p.String()
	})
}
