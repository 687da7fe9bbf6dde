package pipeline

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// names reads a list of one-line strings.
func (r *reader) names(n *yaml.Node, what string) []name {
	items, ok := r.items(n, what)
	if !ok {
		return nil
	}
	var all []name
	for _, item := range items {
		if s, ok := r.line(item, what, maxPackage); ok {
			all = append(all, name{s, item})
		}
	}
	return all
}

func (r *reader) readSteps(n *yaml.Node) []Step {
	items, ok := r.items(n, "steps")
	if !ok {
		return nil
	}
	if len(items) == 0 {
		r.errorf(n, "steps: is empty: it needs at least one step")
	}
	var steps []Step
	for i, item := range items {
		if r.steps++; r.steps > maxSteps {
			if r.steps == maxSteps+1 {
				r.errorf(item, "steps: more than %d in the file", maxSteps)
			}
			break
		}
		steps = append(steps, r.step(item, i))
	}
	return steps
}

func (r *reader) step(n *yaml.Node, i int) Step {
	step := Step{Name: fmt.Sprintf("step-%d", i+1)}
	all, ok := r.entries(n, "step")
	if !ok {
		return step
	}
	var command *entry
	for _, e := range all {
		switch e.key {
		case "name":
			if s, ok := r.line(e.value, "name", maxNameLen); ok {
				step.Name = s
			}
		case "command", "commands":
			if command != nil {
				r.errorf(e.at, `a step has "command" or "commands", not both`)
				continue
			}
			command = &e
			step.Command = r.command(e.value, e.key)
		case "dependencies":
			step.Dependencies = r.dependencies(e.value)
		case "env":
			step.Env = r.env(e.value)
		case "timeout":
			setParsed(r, &step.Timeout, e, "timeout", "a time", parseTimeout)
		default:
			r.unknown(e, inStep)
		}
	}
	if command == nil {
		r.errorf(n, `step %s has no "command"`, quote(step.Name))
	}
	return step
}

// command reads a string or a list of strings, none of them blank.
func (r *reader) command(n *yaml.Node, what string) []string {
	lines := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		var ok bool
		if lines, ok = r.items(n, what); !ok {
			return nil
		}
		if len(lines) == 0 {
			r.errorf(n, "%s: is empty", what)
		}
	}
	expected := "a string or a list of strings"
	if n.Kind == yaml.SequenceNode {
		expected = "a string"
	}
	var all []string
	for _, line := range lines {
		s, ok := r.scalar(line, what, expected)
		if ok && strings.TrimSpace(s) == "" {
			r.errorf(line, "%s: is empty", what)
		}
		all = append(all, s)
	}
	return all
}

func (r *reader) dependencies(n *yaml.Node) []string {
	if n.Kind == yaml.ScalarNode && n.Tag == nullTag {
		return nil // as in the original format
	}
	var all []string
	for _, d := range r.names(n, "dependencies") {
		if !isPackage(d.text) {
			r.errorf(d.at, "dependencies: %s is no name of a package", quote(d.text))
			continue
		}
		if !slices.Contains(all, d.text) {
			all = append(all, d.text)
		}
	}
	return all
}
