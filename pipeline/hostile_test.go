package pipeline

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
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
	var links strings.Builder
	links.WriteString("x-0: &a0 {A: b}\n")
	for i := 1; i < 20000; i++ {
		fmt.Fprintf(&links, "x-%d: &a%d {<<: *a%d}\n", i, i, i-1)
	}
	chain := links.String()
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
		"env in jobs":   {env + jobs, "written out the jobs up to this one have more than 400000 values"},
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
			_, err := plan("narwhal.yml", data, Options{})
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
			_, err := plan("narwhal.yml", []byte(c.file), Options{})
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
		{"1 MiB of scripts", "steps:\n" + strings.Repeat("- command: |\n"+strings.Repeat("    echo 0123456789abcdef\n", 5000), 8), ""},
		{"a script of 127 KiB", "steps:\n- commands: [" + strings.Repeat("x", MaxScript-2) + ", x]\n", ""},
		{"a script that is longer", "steps:\n- commands: [" + strings.Repeat("x", MaxScript-2) + ", xx]\n",
			"narwhal.yml:2:13: commands: has 130049 bytes: a shell takes at most 130048 (127 KiB)"},
		{"a service's script that is longer", "services: [{name: a, image: b, command: " + strings.Repeat("x", MaxScript+1) + "}]\nsteps: [{command: x}]\n",
			"services.command: has 130049 bytes"},
		{"too many errors", "steps:\n" + strings.Repeat("- {comand: a}\n", 300), "too many errors"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := plan("narwhal.yml", []byte(c.file), Options{})
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
	_, err := plan("narwhal.yml", []byte(s), Options{})
	if err == nil || !strings.Contains(err.Error(), "wait for each other") {
		t.Fatalf("got %.300v", err)
	}
	checkErrors(t, err)
}

// multipliers are files that Read takes, or not, and whose plans would be far
// larger than they are.
func multipliers() map[string]string {
	value := strings.Repeat("v", 60<<10)
	names := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "%d,", i)
		}
		return b.String()
	}
	lines := func(head string, n int, line func(i int) string) string {
		var b strings.Builder
		b.WriteString(head)
		for i := range n {
			b.WriteString(line(i))
		}
		return b.String() + fine
	}
	double := "env:\n  A0: aaaaaaaaaa\n"
	for i := 1; i < 60; i++ {
		double += fmt.Sprintf("  A%d: ${A%d}${A%d}\n", i, i-1, i-1)
	}
	deep := "env:\n  A0: a\n"
	for i := 1; i < 5000; i++ {
		deep += fmt.Sprintf("  A%d: ${A%d}\n", i, i+1)
	}
	jobs := ""
	for i := range maxJobs {
		jobs += fmt.Sprintf("  j%d: {steps: [{command: a}]}\n", i)
	}
	var inputs strings.Builder
	for i := range maxInputs {
		fmt.Fprintf(&inputs, "i%d: {default: %s}, ", i, strings.Repeat("x", 4000))
	}
	aliases := "x-env: &env {A" + strings.ReplaceAll(names(800), ",", ": , A") + ": }\nx-step: &s {command: x, env: *env}\njobs:\n  a:\n" +
		"    matrix: {a: [" + names(16) + "], b: [" + names(16) + "]}\n    steps: [" + strings.Repeat("*s, ", 55) + "]\n"
	globs := strings.Repeat(`"*a*a*a*a*a*a*a*a*b", `, 90)
	return map[string]string{
		"one value, many times": "env: {A: " + value + "}\nname: a\nsteps: [{command: x, env: {B: \"" + strings.Repeat("${A}", 200000) + "\"}}]",
		"in labels":             lines("env: {A: "+value+"}\nlabels:\n", 40000, func(i int) string { return fmt.Sprintf("  l%d: ${A}\n", i) }),
		"doubled":               double + fine,
		"deep":                  deep + "  A5000: b" + fine,
		"unknown names":         lines("env:\n", 40000, func(i int) string { return fmt.Sprintf("  A%d: ${B%d}\n", i, i) }),
		"unknown among many":    lines("env:\n", 30000, func(i int) string { return fmt.Sprintf("  A%dAAAA: ${AA%dAAA}\n", i, i) }),
		"matrix of a script":    "jobs:\n  a:\n    matrix: {n: [" + names(256) + "]}\n    steps: [{command: " + strings.Repeat("x", 100<<10) + "}]",
		"matrix of steps":       "jobs:\n  a:\n    matrix: {n: [" + names(256) + "]}\n    steps: [" + strings.Repeat("{command: x}, ", 999) + "]",
		"matrix of lists":       "jobs:\n  a:\n    matrix: {a: [" + names(256) + "], b: [" + names(256) + "], c: [" + names(256) + "], d: [" + names(256) + "]}\n    steps: [{command: x}]",
		"matrix of excludes":    "jobs:\n  a:\n    matrix: {a: [" + names(64) + "], b: [" + names(64) + "], exclude: [" + strings.Repeat("{a: x}, ", 1024) + "]}\n    steps: [{command: x}]",
		"matrix in every job": fill("jobs:\n", func(i int) string {
			return fmt.Sprintf("  j%d: {matrix: {n: [%s]}, steps: [{command: x}]}\n", i, names(200))
		}),
		"top in every job":       "cache: [" + strings.Repeat("{key: a, paths: [a, b, c]}, ", 16) + "]\njobs:\n  a: {matrix: {n: [" + names(256) + "]}, steps: [{command: x}]}",
		"errors in every job":    strings.TrimSuffix(lines("labels:\n", 40, func(i int) string { return fmt.Sprintf("  \"? %d\": b\n", i) }), fine) + "\njobs:\n" + jobs,
		"globs":                  "when: {path: [" + globs + "]}\njobs:\n  a: {matrix: {n: [" + names(256) + "]}, steps: [{command: x}]}",
		"many inputs":            "inputs: {" + strings.TrimSuffix(inputs.String(), ", ") + "}\njobs:\n  a: {matrix: {n: [" + names(256) + "]}, steps: [{command: x}]}",
		"inputs in every job":    "inputs: {a: {default: " + strings.Repeat("x", 4000) + "}, b: {default: " + strings.Repeat("x", 4000) + "}}\njobs:\n  a: {matrix: {n: [" + names(256) + "]}, steps: [{command: x}]}",
		"many variables":         lines("env:\n", 40000, func(i int) string { return fmt.Sprintf("  A%d: b\n", i) }),
		"aliases of elsewhere":   aliases,
		"variables in all steps": strings.TrimSuffix(lines("env: {A: "+value+"}\nsteps:\n", 900, func(int) string { return "- {command: x, env: {B: \"${A}\", C: \"${A}\"}}\n" }), fine),
	}
}

// TestMultipliers sees that neither Read nor Plan does more than their limits let
// them, for the worst commit there is.
func TestMultipliers(t *testing.T) {
	facts := onMain
	facts.ChangedKnown = true
	for i := range 20000 {
		facts.Changed = append(facts.Changed, fmt.Sprintf("%s%d", strings.Repeat("a", 200), i))
	}
	const most = 500 << 20
	for name, file := range multipliers() {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			f, err := Read("narwhal.yml", []byte(file), Options{})
			result := "read and planned"
			if err == nil {
				var p Pipeline
				if p, err = f.Plan(facts); err == nil {
					checkPlan(t, p)
				}
			}
			runtime.ReadMemStats(&after)
			if err != nil {
				checkErrors(t, err)
				result, _, _ = strings.Cut(err.Error(), "\n")
			}
			used := after.TotalAlloc - before.TotalAlloc
			t.Logf("%d KiB in, %d MiB allocated: %.140s", len(file)>>10, used>>20, result)
			if used > most {
				t.Errorf("allocated %d MiB, at most %d", used>>20, most>>20)
			}
		})
	}
}

// TestLongKeys has files whose keys are as long as the file may be: an error shows the
// beginning of one.
func TestLongKeys(t *testing.T) {
	key := strings.Repeat("k", 300_000)
	for _, file := range []string{
		"matrix:\n  ? " + key + "\n  : []",
		"matrix:\n  ? " + key + "\n  : [a, a, {}]",
		"matrix:\n  ? " + key + "\n  : " + "[" + strings.Repeat("a, ", maxJobs) + "a]",
		"matrix:\n  include:\n    - ? " + key + "\n      : {}",
		"env:\n  ? " + key + "\n  : {}",
		"env:\n  ? " + key + "\n  : " + strings.Repeat("v", maxEnvValue+1),
		"labels:\n  ? " + key + "\n  : {}",
		"when:\n  env:\n    ? " + key + "\n    : {}",
		"when:\n  env:\n    ? " + key + "\n    : x",
		"schedule:\n  - cron: 0 3 * * *\n    inputs:\n      ? " + key + "\n      : {}",
		"inputs:\n  ? " + key + "\n  : {}",
		"secrets: [" + key + ", NARWHAL]",
		"? " + key + "\n: x",
	} {
		text := "jobs:\n  one:\n    " + strings.ReplaceAll(file, "\n", "\n    ") + "\n    steps: [{command: x}]\n"
		for _, text := range []string{text, file + fine} {
			if err := failure("narwhal.yml", text); len(err) > 20_000 {
				t.Errorf("%.40q…: its errors have %d bytes: %.300s…", file, len(err), err)
			}
		}
	}
}

// failure is what is wrong with a file, when it is read or planned.
func failure(name, text string) string {
	f, err := Read(name, []byte(text), Options{})
	if err == nil {
		_, err = f.Plan(Facts{})
	}
	if err == nil {
		return ""
	}
	return err.Error()
}
