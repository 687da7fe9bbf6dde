package pipeline

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// String gives the plan as text, for people and for golden files: every job
// with its defaults filled in, in the order of the file.
func (p Pipeline) String() string {
	var b strings.Builder
	if p.Name != "" {
		fmt.Fprintf(&b, "pipeline %s\n", p.Name)
	}
	for _, job := range p.Jobs {
		job.write(&b)
	}
	return b.String()
}

func (j Job) write(b *strings.Builder) {
	fmt.Fprintf(b, "job %s\n", j.Name)
	row := func(key, format string, args ...any) {
		fmt.Fprintf(b, "  %-10s %s\n", key, fmt.Sprintf(format, args...))
	}
	if len(j.Needs) > 0 {
		row("needs", "%s", strings.Join(j.Needs, ", "))
	}
	row("image", "%s", j.Image)
	row("resources", "%s", j.Resources)
	row("timeout", "%s", j.Timeout)
	if s := assignments(j.Labels); s != "" {
		row("labels", "%s", s)
	}
	if s := assignments(j.Env); s != "" {
		row("env", "%s", s)
	}
	if j.Clone != (Clone{}) {
		row("clone", "%s", j.Clone)
	}
	if j.Priority != 0 {
		row("priority", "%d", j.Priority)
	}
	if j.OnNodeLoss != NodeLossRerun {
		row("node loss", "%s", j.OnNodeLoss)
	}
	for _, step := range j.Steps {
		step.write(b)
	}
}

func (s Step) write(b *strings.Builder) {
	fmt.Fprintf(b, "  step %s\n", s.Name)
	if len(s.Dependencies) > 0 {
		fmt.Fprintf(b, "    install %s\n", strings.Join(s.Dependencies, " "))
	}
	if env := assignments(s.Env); env != "" {
		fmt.Fprintf(b, "    env %s\n", env)
	}
	if s.Timeout > 0 {
		fmt.Fprintf(b, "    timeout %s\n", s.Timeout)
	}
	for _, command := range s.Command {
		sign := "$"
		for line := range strings.SplitSeq(strings.TrimSuffix(command, "\n"), "\n") {
			fmt.Fprintf(b, "    %s %s\n", sign, line)
			sign = ">"
		}
	}
}

// String gives cpu, memory and disk as they can be written in a file.
func (r Resources) String() string {
	s := fmt.Sprintf("cpu %dm, memory %s", r.CPU, size(r.Memory))
	if r.Disk > 0 {
		s += ", disk " + size(r.Disk)
	}
	return s
}

// String gives what differs from a plain checkout of the whole history.
func (c Clone) String() string {
	var all []string
	if c.Depth > 0 {
		all = append(all, fmt.Sprintf("depth %d", c.Depth))
	}
	for _, flag := range []struct {
		on   bool
		name string
	}{{c.Submodules, "submodules"}, {c.LFS, "lfs"}, {c.Skip, "skip"}} {
		if flag.on {
			all = append(all, flag.name)
		}
	}
	return strings.Join(all, ", ")
}

// size gives bytes in the largest unit that divides them.
func size(n int64) string {
	for _, unit := range []string{"Ti", "Gi", "Mi", "Ki"} {
		if n > 0 && n%units[unit] == 0 {
			return fmt.Sprintf("%d%s", n/units[unit], unit)
		}
	}
	return fmt.Sprintf("%d", n)
}

// assignments gives A="1" B="2", sorted.
func assignments(m map[string]string) string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, fmt.Sprintf("%s=%q", k, m[k]))
	}
	return strings.Join(all, " ")
}
