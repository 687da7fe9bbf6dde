package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/codepr/narwhal/pipeline"
)

// cli runs narwhal with nothing of this process's environment but PATH, and what
// is given as KEY=VALUE.
func cli(t *testing.T, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(deadline(t, patience), binary, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("narwhal %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// talkers are the commands that talk to a node.
var talkers = []string{"push", "builds", "build", "jobs", "logs", "cancel", "retry", "nodes", "status", "why", "drain", "leave"}

// option is a flag as --help shows it.
type option struct {
	short string
	value string // what kind of value it takes; empty where it is on or off
	def   string // its default; empty where it has none
}

var (
	helpFlag    = regexp.MustCompile(`^\s+(?:-(\w), |)--([\w-]+)(?: (\S+)|)\s{2,}(.*)$`)
	helpDefault = regexp.MustCompile(`\(default ([^:].*)\)$`)
	helpCommand = regexp.MustCompile(`^  ([a-z]+) +\S`)
)

// options are a command's flags, by name, but for --help.
func options(t *testing.T, command ...string) map[string]option {
	t.Helper()
	out, _, code := cli(t, nil, append(command, "--help")...)
	if code != 0 {
		t.Fatalf("narwhal %s --help: exit status %d", strings.Join(command, " "), code)
	}
	found := make(map[string]option)
	for line := range strings.Lines(out) {
		m := helpFlag.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if m == nil || m[2] == "help" {
			continue
		}
		o := option{short: m[1], value: m[3]}
		if d := helpDefault.FindStringSubmatch(m[4]); d != nil {
			o.def = strings.Trim(d[1], `"[]`)
		}
		found[m[2]] = o
	}
	return found
}

// commands are those that --help lists.
func commands(t *testing.T) []string {
	t.Helper()
	out, _, _ := cli(t, nil, "--help")
	var found []string
	for line := range strings.Lines(out) {
		if m := helpCommand.FindStringSubmatch(line); m != nil {
			found = append(found, m[1])
		}
	}
	if !slices.Contains(found, "node") || !slices.Contains(found, "push") {
		t.Fatalf("--help lists %q: can't read it", found)
	}
	return found
}

func document(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

var (
	flagRow = regexp.MustCompile("(?m)^\\| `--([\\w-]+)` \\| (.*?) \\| .* \\| .* \\|$")
	codeAll = regexp.MustCompile("^`([^`]*)`$")
)

// described are the flags in the tables below a heading of docs/configuration.md.
// A default in words, such as "none", is none that --help would show.
func described(t *testing.T, heading string) map[string]string {
	t.Helper()
	_, section, ok := strings.Cut(document(t, "docs/configuration.md"), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("docs/configuration.md has no heading %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	found := make(map[string]string)
	for _, m := range flagRow.FindAllStringSubmatch(section, -1) {
		if _, twice := found[m[1]]; twice {
			t.Errorf("%s: --%s stands there twice", heading, m[1])
		}
		found[m[1]] = ""
		if code := codeAll.FindStringSubmatch(m[2]); code != nil {
			found[m[1]] = code[1]
		}
	}
	return found
}

func TestConfigurationIsDocumented(t *testing.T) {
	for _, command := range []string{"node", "agent", "recover"} {
		have, told := options(t, command), described(t, "`narwhal "+command+"`")
		for name, o := range have {
			def, ok := told[name]
			switch {
			case !ok:
				t.Errorf("narwhal %s --%s is not in docs/configuration.md", command, name)
			case def != o.def:
				t.Errorf("narwhal %s --%s: its default is %q, docs/configuration.md says %q", command, name, o.def, def)
			}
		}
		for name := range told {
			if _, ok := have[name]; !ok {
				t.Errorf("docs/configuration.md tells of narwhal %s --%s, which is not there", command, name)
			}
		}
	}
}

func TestConnectionIsDocumented(t *testing.T) {
	told := described(t, "Commands that talk to a node")
	want := []string{"addr", "data-dir", "token", "token-file"}
	if got := slices.Sorted(maps.Keys(told)); !slices.Equal(got, want) {
		t.Fatalf("docs/configuration.md tells of %q", got)
	}
	text := document(t, "docs/configuration.md")
	for _, command := range talkers {
		have := options(t, command)
		if !strings.Contains(text, "`"+command+"`") {
			t.Errorf("docs/configuration.md does not say that %s talks to a node", command)
		}
		for name, def := range told {
			if o, ok := have[name]; !ok || o.def != def {
				t.Errorf("narwhal %s --%s: there is %v with the default %q, docs/configuration.md says %q", command, name, ok, o.def, def)
			}
		}
	}
	for _, command := range commands(t) {
		if _, ok := options(t, command)["addr"]; ok && !slices.Contains(talkers, command) {
			t.Errorf("narwhal %s talks to a node: the documents and these tests don't know", command)
		}
	}
}

// TestVariables gives each flag, by its variable, a value that it can't have.
func TestVariables(t *testing.T) {
	for _, command := range []string{"node", "agent", "recover"} {
		for name, o := range options(t, command) {
			if o.value != "" && o.value != "duration" {
				continue // takes any text at first
			}
			variable := "NARWHAL_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
			_, stderr, code := cli(t, []string{variable + "=wrong"}, command)
			if code != 2 || !strings.Contains(stderr, variable) {
				t.Errorf("%s=wrong narwhal %s: exit status %d, %s", variable, command, code, stderr)
			}
		}
	}
}

var (
	fence      = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")
	inlineCall = regexp.MustCompile("`(narwhal [^`]+)`")
	lineCall   = regexp.MustCompile(`(?m)^\s*(?:sudo )?(narwhal [^#\n]+)`)
)

// docCalls are the command lines of narwhal in a document, in fences and in text.
func docCalls(text string) []string {
	var found []string
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		if m[1] == "yaml" {
			continue
		}
		for _, c := range lineCall.FindAllStringSubmatch(m[2], -1) {
			found = append(found, c[1])
		}
	}
	for _, c := range inlineCall.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		found = append(found, c[1])
	}
	return found
}

// checkCall says what is wrong with a command line of a document; nothing of it is
// run. COMMAND stands for any command.
func checkCall(t *testing.T, call string, known []string) string {
	words := strings.Fields(call)[1:]
	if words[0] == "COMMAND" {
		return ""
	}
	if !slices.Contains(known, words[0]) {
		return "there is no command " + words[0]
	}
	have := options(t, words[0])
	for _, word := range words[1:] {
		name, long := strings.CutPrefix(strings.Trim(word, "[],…"), "--")
		name, _, _ = strings.Cut(name, "=")
		short, dash := strings.CutPrefix(name, "-")
		if !long && !dash || name == "help" {
			continue
		}
		ok := false
		for full, o := range have {
			ok = ok || long && full == name || !long && o.short == short
		}
		if !ok {
			return "narwhal " + words[0] + " has no flag " + word
		}
	}
	return ""
}

func TestCommandLinesOfTheDocuments(t *testing.T) {
	files, err := filepath.Glob("../docs/*.md")
	if err != nil || len(files) < 4 {
		t.Fatalf("%q, %v", files, err)
	}
	known, seen := commands(t), 0
	for _, file := range append(files, "../README.md") {
		for _, call := range docCalls(document(t, strings.TrimPrefix(file, "../"))) {
			seen++
			if wrong := checkCall(t, call, known); wrong != "" {
				t.Errorf("%s: `%s`: %s", file, call, wrong)
			}
		}
	}
	if seen < 15 {
		t.Errorf("only %d command lines were found", seen)
	}
	for _, call := range []string{"narwhal nope", "narwhal push --nope", "narwhal logs -x 42"} {
		if checkCall(t, call, known) == "" {
			t.Errorf("`%s` passes this test", call)
		}
	}
}

// TestFilesOfTheDocuments reads the examples of narwhal.yml that package pipeline,
// which reads docs/pipeline.md, doesn't: README's, and this repository's own file.
func TestFilesOfTheDocuments(t *testing.T) {
	files := map[string]string{"narwhal.yml": document(t, "narwhal.yml")}
	for i, m := range fence.FindAllStringSubmatch(document(t, "README.md"), -1) {
		if m[1] == "yaml" {
			files[fmt.Sprintf("README.md, block %d", i+1)] = m[2]
		}
	}
	if len(files) < 2 {
		t.Error("README.md has no example")
	}
	for name, text := range files {
		if _, err := pipeline.Read(name, []byte(text), pipeline.Options{}); err != nil {
			t.Error(err)
		}
	}
}

var docLink = regexp.MustCompile(`\]\(([^)#:]+\.md)?(#[^)]*)?\)`)

// TestLinksOfTheDocuments follows the links from one document to another.
func TestLinksOfTheDocuments(t *testing.T) {
	files, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, "../README.md") {
		text := document(t, strings.TrimPrefix(file, "../"))
		for _, m := range docLink.FindAllStringSubmatch(text, -1) {
			target := file
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(file), m[1])
			}
			data, err := os.ReadFile(target)
			if err != nil {
				t.Errorf("%s: %s", file, err)
				continue
			}
			if m[2] != "" && !slices.Contains(anchors(string(data)), m[2]) {
				t.Errorf("%s: %s has no heading %s", file, target, m[2])
			}
		}
	}
}

var notInAnchor = regexp.MustCompile(`[^a-z0-9 _-]`)

// anchors are a document's headings as links name them.
func anchors(text string) []string {
	var found []string
	for line := range strings.Lines(text) {
		if heading, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && line[0] == '#' {
			slug := notInAnchor.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
			found = append(found, "#"+strings.ReplaceAll(slug, " ", "-"))
		}
	}
	return found
}
