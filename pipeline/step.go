package pipeline

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

func (r *reader) steps(n *yaml.Node, defaults stepDefaults, facts *Facts) []Step {
	items, ok := r.items(n, "steps")
	if !ok {
		return nil
	}
	if len(items) == 0 {
		r.errorf(n, "steps: is empty: it needs at least one step")
	}
	written := make(map[string][]int) // places of the names as they are written
	var steps []Step
	for i, item := range items {
		all, ok := r.fields(item, "step", inStep)
		step := Step{Name: fmt.Sprintf("step-%d", i+1), Shell: defaults.shell}
		if ok {
			vs := r.variables(all)
			sc := r.scope.under(vs)
			if len(vs) > 0 {
				step.Env = make(map[string]string)
				r.resolveLayer(sc, sc.env, step.Env)
			}
			r.in(sc, func() { r.step(&step, item, all, facts) })
			r.stepNeeds(&step, all, written, i, items)
		}
		title := step.Name
		for _, e := range all {
			if e.key == "name" {
				title = e.value.Value
			}
		}
		named := func(j int) bool { return facts != nil || slices.Contains(written[title], j) } // before values are known, as written
		twice := false
		for j := range steps {
			twice = twice || steps[j].When.Manual && steps[j].Name == step.Name && named(j)
		}
		written[title] = append(written[title], i)
		if step.When.Manual && twice {
			r.errorf(item, "when: two manual steps are called %s, and whoever approves one names it: give each a name of its own", quote(step.Name))
		}
		steps = append(steps, step)
	}
	return steps
}

// step reads a step in its own scope.
func (r *reader) step(step *Step, n *yaml.Node, all []entry, facts *Facts) {
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
		default:
			r.stepSetting(step, e, facts)
		}
	}
	if command == nil {
		r.errorf(n, `step %s has no "command"`, quote(step.Name))
	}
}

func (r *reader) stepSetting(step *Step, e entry, facts *Facts) {
	switch e.key {
	case "when":
		v := r.when(e.value, facts)
		step.When, step.Skip = v.When, v.skip
	case "image":
		step.Image, _ = r.image(e.value)
	case "dependencies":
		step.Dependencies = r.dependencies(e.value)
	case "secrets":
		step.Secrets = r.secrets(e.value)
	case "timeout":
		setParsed(r, &step.Timeout, e, "timeout", "a time", parseTimeout)
	case "retry":
		step.Retry = r.retry(e.value, false)
	case "allow_failure":
		r.boolean(&step.AllowFailure, e.value, "allow_failure")
	case "shell":
		r.shell(&step.Shell, e)
	}
}

// stepNeeds turns the names that a step needs into places. Names are compared as
// they are written.
func (r *reader) stepNeeds(step *Step, all []entry, above map[string][]int, i int, items []*yaml.Node) {
	for _, e := range all {
		if e.key != "needs" {
			continue
		}
		step.Parallel = true
		list, _ := r.items(e.value, "needs")
		for _, item := range list {
			need, ok := r.written(item, "needs", "the name of a step")
			if !ok {
				continue
			}
			at := above[need]
			switch {
			case len(at) == 1 && slices.Contains(step.Needs, at[0]):
				r.errorf(item, "needs: %s is there twice", quote(need))
			case len(at) == 1:
				step.Needs = append(step.Needs, at[0])
			case len(at) > 1:
				r.errorf(item, "needs: %d steps are called %s: give each a name of its own", len(at), quote(need))
			default:
				r.errorf(item, "needs: %s", noStep(need, above, items[i:]))
			}
		}
	}
}

// noStep says why a name is none of a step above.
func noStep(need string, above map[string][]int, from []*yaml.Node) string {
	for i, item := range from {
		if nameOf(item) != need {
			continue
		}
		if i == 0 {
			return fmt.Sprintf("step %s needs itself", quote(need))
		}
		return fmt.Sprintf("step %s stands below: steps go from top to bottom, so put it above this one", quote(need))
	}
	var names []string
	for n := range above {
		names = append(names, n)
	}
	slices.Sort(names)
	if s := suggest(need, names[:min(len(names), maxSuggested)]); s != "" {
		return fmt.Sprintf("there is no step %s above: did you mean %q?", quote(need), s)
	}
	return fmt.Sprintf("there is no step %s above", quote(need))
}

// nameOf is a step's name as it is written.
func nameOf(step *yaml.Node) string {
	step = resolve(step)
	if step.Kind != yaml.MappingNode {
		return ""
	}
	for i := 0; i+1 < len(step.Content); i += 2 {
		if resolve(step.Content[i]).Value == "name" {
			return resolve(step.Content[i+1]).Value
		}
	}
	return ""
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
	size := -1
	for _, line := range lines {
		if s, ok := r.shellText(line, what, expected); ok {
			all = append(all, s)
			size += len("\n") + len(s)
		}
	}
	r.scriptFits(n, what, size)
	return all
}

// scriptFits sees that a shell can be given what it is to run.
func (r *reader) scriptFits(n *yaml.Node, what string, size int) {
	if size > MaxScript {
		r.errorf(n, "%s: has %d bytes: a shell takes at most %d (%d KiB); put it into a file of the repository, and run that",
			what, size, MaxScript, MaxScript>>10)
	}
}

// shellText reads what a shell runs.
func (r *reader) shellText(n *yaml.Node, what, expected string) (string, bool) {
	s, ok := r.written(n, what, expected)
	if !ok {
		return "", false
	}
	if strings.TrimSpace(s) == "" {
		r.errorf(n, "%s: is empty", what)
		return "", false
	}
	if wrong, right := expression(s); wrong != "" {
		r.warnf(n, "%s: %s: there are no expressions, and no shell knows this: write %s", what, quote(wrong), right)
	}
	s, err := shellRefs(s, r.scope.checkOwn)
	if err != nil {
		r.errorf(n, "%s: %v", what, err)
		return "", false
	}
	return s, true
}

func (r *reader) dependencies(n *yaml.Node) []string {
	if isNull(n) {
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
