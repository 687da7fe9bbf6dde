package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// runOptions is what `narwhal run` was asked for.
type runOptions struct {
	dir         string
	job         string   // empty for all
	inputs      []string // name=value
	secretFiles []string
	approve     []string // manual jobs and steps, by name
	executor    string
	image       string // where the file names none
	pull        string // the policy
	artifacts   string // folder to unpack artifacts into; empty for none
	color       string // auto, always or never
	verbose     bool
}

func runCommand() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use: "run [JOB]", Short: "Run narwhal.yml here, on this machine, without a cluster", Args: cobra.MaximumNArgs(1),
		Long: "Run this directory's narwhal.yml on this machine, with what is not committed, in the same way as a\n" +
			"cluster does: the same scheduler, runner and containers, in this process. With a JOB, run that one\n" +
			"and what it needs, whatever their conditions; a JOB that waits for a person is approved by that.\n" +
			"Other jobs and steps that wait for one are left out, with what depends on them, but for those that\n" +
			"--approve names. Files that .gitignore names are left out. The exit status is 0 if the build passed,\n" +
			"else 1; 2 if there is no such JOB, step or input, or the JOB needs what nobody has approved.",
		Example: "  narwhal run                            all jobs, matrices and services included\n" +
			"  narwhal run test --input level=debug   one job, and those that it needs\n" +
			"  narwhal run --secret-file .env.ci      secrets, a NAME=value on each line",
	}
	f := cmd.Flags()
	f.StringVarP(&o.dir, "directory", "C", ".", "the `folder` of the checkout")
	f.StringArrayVar(&o.inputs, "input", nil, "an input that the file asks for, as `name=value`; may be given more than once")
	f.StringArrayVar(&o.secretFiles, "secret-file", nil, "a `file` of secrets, a NAME=value on each line; may be given more than once")
	f.StringArrayVar(&o.approve, "approve", nil, "let the job or step with this `name` go on, that waits for a person; may be given more than once")
	f.StringVar(&o.executor, "executor", "docker", "how steps run: `docker`, or process, which isolates nothing")
	f.StringVar(&o.image, "default-image", "ubuntu", "the `image` of jobs that name none")
	f.StringVar(&o.pull, "pull", string(executor.PullIfNotPresent), "when an image is asked for at its registry: `if-not-present`, always or never")
	f.StringVar(&o.artifacts, "artifacts", "", "unpack what jobs leave into this `folder`, one below it for each job")
	f.StringVar(&o.color, "color", "auto", "colour the output: `auto` (at a terminal, unless NO_COLOR is set), always or never")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "say what narwhal itself does")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			o.job = args[0]
		}
		return runHere(cmd.Context(), o)
	}
	return cmd
}

// errInterrupted is returned when a person stopped the run.
var errInterrupted = exitError{code: exitInterrupted}

// runHere runs the build to its end.
func runHere(ctx context.Context, o runOptions) (err error) {
	inputs, err := o.readInputs()
	if err != nil {
		return err
	}
	secrets, err := readSecretFiles(o.secretFiles)
	if err != nil {
		return err
	}
	p, err := newPrinter(os.Stdout, os.Stderr, o.color)
	if err != nil {
		return err
	}
	if err := o.check(inputs, p); err != nil {
		return err
	}
	l, err := openLaptop(ctx, o, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	b, err := l.build(ctx, inputs, secrets)
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return errInterrupted
	case l.unknown != nil:
		return exitError{code: exitUsage}
	case b.Status != fsm.Passed:
		return exitError{code: exitFailed}
	}
	return nil
}

func (o *runOptions) readInputs() (map[string]string, error) {
	if err := checkPairs(o.inputs); err != nil {
		return nil, err
	}
	inputs := make(map[string]string, len(o.inputs))
	for _, pair := range o.inputs {
		name, value, _ := strings.Cut(pair, "=")
		inputs[name] = value
	}
	if o.executor != "docker" && o.executor != "process" {
		return nil, usage("--executor %q: want docker or process", o.executor)
	}
	if err := executor.PullPolicy(o.pull).Validate(); err != nil {
		return nil, usage("--pull %q: %w", o.pull, err)
	}
	return inputs, nil
}

// checkPairs checks what was given as inputs.
func checkPairs(inputs []string) error {
	seen := make(map[string]bool, len(inputs))
	for _, pair := range inputs {
		name, _, ok := strings.Cut(pair, "=")
		switch {
		case !ok || name == "":
			return usage("--input %q: want name=value", pair)
		case seen[name]:
			return usage("--input %s is given twice", name)
		}
		seen[name] = true
	}
	return nil
}

// readSecretFiles reads NAME=value lines; # begins a comment. A value that begins with a
// quote goes on to the line that ends with it. Errors name the line and show nothing of
// it.
func readSecretFiles(paths []string) (map[string]string, error) {
	secrets := make(map[string]string)
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("--secret-file: %w", err)
		}
		lines := strings.Split(string(data), "\n")
		for n := 0; n < len(lines); n++ {
			line := strings.TrimRight(lines[n], "\r")
			if text := strings.TrimSpace(line); text == "" || text[0] == '#' {
				continue
			}
			name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
			if name = strings.TrimSpace(name); !ok || name == "" || value == "" {
				return nil, usage("--secret-file %s:%d: want NAME=value", path, n+1)
			}
			first := n
			for open(value) {
				if n++; n == len(lines) {
					return nil, usage("--secret-file %s:%d: the quote is not closed", path, first+1)
				}
				value += "\n" + strings.TrimRight(lines[n], "\r")
			}
			secrets[name] = unquote(value)
		}
	}
	return secrets, nil
}

// open reports whether a value begins with a quote and does not end with it.
func open(value string) bool {
	quoted := value[0] == '"' || value[0] == '\''
	return quoted && (len(value) == 1 || value[len(value)-1] != value[0])
}

// unquote takes a pair of quotes off, as files for shells have them.
func unquote(value string) string {
	if n := len(value); n >= 2 && value[0] == value[n-1] && (value[0] == '"' || value[0] == '\'') {
		return value[1 : n-1]
	}
	return value
}

// adjust fits a plan to this machine: of the jobs those that were asked for, with no
// labels, and no more than the machine has.
func (l *laptop) adjust() func(*pipeline.Pipeline) error {
	o, machine := l.o, l.machine
	return func(p *pipeline.Pipeline) error {
		keep, err := wantedJobs(p.Jobs, o.job)
		if err != nil {
			l.unknown = err
			return err
		}
		jobs := p.Jobs[:0:0]
		var names []string
		for _, j := range p.Jobs {
			if !keep[j.Name] {
				continue
			}
			if r := least(j.Resources, machine); r != j.Resources {
				l.printer.say("job %s asks for %s, this machine has %s", j.Name, j.Resources, machine)
				j.Resources = r
			}
			j.Labels = nil
			jobs, names = append(jobs, j), append(names, j.Name)
		}
		left, err := person{job: o.job, approved: o.approve}.settle(jobs)
		for _, what := range left {
			l.printer.say("%s", plain(what))
		}
		if err != nil {
			l.unknown = err
			return err
		}
		p.Jobs = jobs
		l.printer.jobs(names)
		return nil
	}
}

func least(want, have pipeline.Resources) pipeline.Resources {
	return pipeline.Resources{CPU: min(want.CPU, have.CPU), Memory: min(want.Memory, have.Memory), Disk: min(want.Disk, have.Disk)}
}

// wantedJobs are the job, by its own name or that of its matrix, and all that it
// needs.
func wantedJobs(jobs []pipeline.Job, name string) (map[string]bool, error) {
	byName := make(map[string]pipeline.Job, len(jobs))
	var todo, all []string
	for _, j := range jobs {
		byName[j.Name] = j
		all = append(all, j.Name)
		if name == "" || j.Name == name || j.Of == name {
			todo = append(todo, j.Name)
		}
	}
	if len(todo) == 0 {
		return nil, &noJob{name, all}
	}
	keep := make(map[string]bool)
	for len(todo) > 0 {
		next := todo[0]
		todo = todo[1:]
		if !keep[next] {
			keep[next] = true
			todo = append(todo, byName[next].Needs...)
		}
	}
	return keep, nil
}

// cacheDir is where a checkout's mirror, caches and leftovers are kept between runs.
func cacheDir(checkout string) (string, error) {
	root, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a folder for caches: %w", err)
	}
	return filepath.Join(root, "narwhal", "run", nameOf(checkout)), nil
}
