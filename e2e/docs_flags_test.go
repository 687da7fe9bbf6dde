package e2e

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
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
var talkers = []string{
	"push", "builds", "build", "build tests", "build timeline", "jobs", "logs", "cancel", "retry", "approve", "reject", "artifacts list", "artifacts get",
	"audit", "schedules", "schedules rm", "hooks list", "hooks show", "hooks replay", "secret set", "secret list", "secret rm", "registry set", "registry rm", "snapshot save", "nodes", "status", "why", "drain", "drill", "leave",
}

// onFiles are those that need no node.
var onFiles = []string{"lint", "init", "schema", "snapshot inspect", "snapshot restore"}

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
	out, _, code := cli(t, nil, append(slices.Clone(command), "--help")...)
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

// commands are those that --help lists, and theirs behind them, such as "secret set".
func commands(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, name := range subcommands(t) {
		found = append(found, name)
		if name != "completion" && name != "help" {
			for _, sub := range subcommands(t, name) {
				found = append(found, name+" "+sub)
			}
		}
	}
	for _, want := range []string{"node", "push", "secret set", "build tests"} {
		if !slices.Contains(found, want) {
			t.Fatalf("--help lists %q: can't read it", found)
		}
	}
	return found
}

func subcommands(t *testing.T, command ...string) (found []string) {
	t.Helper()
	out, _, _ := cli(t, nil, append(slices.Clone(command), "--help")...)
	_, list, _ := strings.Cut(out, "\nAvailable Commands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	for line := range strings.Lines(list) {
		if m := helpCommand.FindStringSubmatch(line); m != nil {
			found = append(found, m[1])
		}
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

var commandRow = regexp.MustCompile("(?m)^\\| `([a-z ]+)` \\|((?: `--[\\w-]+`)*) \\| .* \\|$")

// ownFlags are what the tables of commands below a heading say, by command.
func ownFlags(t *testing.T, heading string) map[string][]string {
	t.Helper()
	_, section, _ := strings.Cut(document(t, "docs/configuration.md"), "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	found := make(map[string][]string)
	for _, m := range commandRow.FindAllStringSubmatch(section, -1) {
		found[m[1]] = strings.Fields(strings.NewReplacer("`", " ", "--", "").Replace(m[2]))
	}
	return found
}

// TestCommandsAreDocumented: the tables have every command, with just its flags.
func TestCommandsAreDocumented(t *testing.T) {
	connection := []string{"addr", "data-dir", "token", "token-file"}
	for heading, known := range map[string][]string{"Commands that talk to a node": talkers, "Commands on a file": onFiles} {
		told := ownFlags(t, heading)
		if got, want := slices.Sorted(maps.Keys(told)), slices.Sorted(slices.Values(known)); !slices.Equal(got, want) {
			t.Errorf("docs/configuration.md, %s: has %q, want %q", heading, got, want)
		}
		for command, flags := range told {
			var have []string
			for name := range options(t, strings.Fields(command)...) {
				if !slices.Contains(connection, name) {
					have = append(have, name)
				}
			}
			slices.Sort(flags)
			if slices.Sort(have); !slices.Equal(have, flags) {
				t.Errorf("narwhal %s has the flags %q, docs/configuration.md says %q", command, have, flags)
			}
		}
	}
	elsewhere := []string{"node", "agent", "recover", "run", "version", "completion", "help", "secret", "registry", "artifacts", "snapshot", "hooks"}
	for _, command := range commands(t) {
		if !slices.Contains(talkers, command) && !slices.Contains(onFiles, command) && !slices.Contains(elsewhere, command) {
			t.Errorf("narwhal %s is not in docs/configuration.md", command)
		}
	}
}

func TestConfigurationIsDocumented(t *testing.T) {
	for _, command := range []string{"node", "agent", "recover", "run"} {
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
	for _, command := range talkers {
		have := options(t, strings.Fields(command)...)
		for name, def := range told {
			if o, ok := have[name]; !ok || o.def != def {
				t.Errorf("narwhal %s --%s: there is %v with the default %q, docs/configuration.md says %q", command, name, ok, o.def, def)
			}
		}
	}
	for _, command := range commands(t) {
		if _, ok := options(t, strings.Fields(command)...)["addr"]; ok && !slices.Contains(talkers, command) {
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
