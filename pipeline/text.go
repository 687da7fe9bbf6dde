package pipeline

import (
	"cmp"
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
	for _, s := range p.Schedules {
		fmt.Fprintf(&b, "schedule %s, %s, branch %s%s\n", s.Cron, s.Timezone, s.Branch, after(" with ", assignments(s.Inputs)))
	}
	for _, job := range p.Jobs {
		job.write(&b)
	}
	return b.String()
}

// row writes a key and what it is, where it is anything.
func row(b *strings.Builder, indent, key, value string) {
	if value != "" {
		fmt.Fprintf(b, "%s%-10s %s\n", indent, key, value)
	}
}

// after gives a value behind a word, or nothing.
func after(word, value string) string {
	if value == "" {
		return ""
	}
	return word + value
}

func (j Job) write(b *strings.Builder) {
	fmt.Fprintf(b, "job %s\n", j.Name)
	r := func(key, value string) { row(b, "  ", key, value) }
	r("skipped", j.Skip)
	if j.Of != "" {
		r("matrix", j.Of+": "+assignments(j.Matrix))
	}
	r("needs", strings.Join(j.Needs, ", "))
	r("when", j.When.String())
	r("image", j.Image)
	r("resources", j.Resources.String())
	r("timeout", j.Timeout.String())
	r("labels", assignments(j.Labels))
	r("env", assignments(j.Env))
	r("secrets", strings.Join(j.Secrets, ", "))
	r("retry", j.Retry.String())
	r("clone", j.Clone.String())
	if j.Priority != 0 {
		r("priority", fmt.Sprint(j.Priority))
	}
	if j.OnNodeLoss != NodeLossRerun {
		r("node loss", string(j.OnNodeLoss))
	}
	r("group", j.Concurrency.String())
	if j.AllowFailure {
		r("failure", "allowed")
	}
	for _, s := range j.Services {
		r("service", s.String())
		row(b, "    ", "env", assignments(s.Env))
		row(b, "    ", "command", quoted(s.Command))
		row(b, "    ", "ready", s.Ready.String())
	}
	for _, c := range j.Cache {
		r("cache", c.String())
	}
	r("artifacts", j.Artifacts.String())
	for _, step := range j.Steps {
		step.write(b, j.Steps)
	}
}

func (s Step) write(b *strings.Builder, all []Step) {
	fmt.Fprintf(b, "  step %s\n", s.Name)
	r := func(key, value string) { row(b, "    ", key, value) }
	r("skipped", s.Skip)
	if s.Parallel {
		var names []string
		for _, i := range s.Needs {
			names = append(names, all[i].Name)
		}
		r("needs", cmp.Or(strings.Join(names, ", "), "nothing"))
	}
	r("when", s.When.String())
	r("image", s.Image)
	r("shell", string(s.Shell))
	r("install", strings.Join(s.Dependencies, " "))
	r("env", assignments(s.Env))
	r("secrets", strings.Join(s.Secrets, ", "))
	if s.Timeout > 0 {
		r("timeout", s.Timeout.String())
	}
	r("retry", s.Retry.String())
	if s.AllowFailure {
		r("failure", "allowed")
	}
	for _, command := range s.Command {
		sign := "$"
		for line := range strings.SplitSeq(strings.TrimSuffix(command, "\n"), "\n") {
			fmt.Fprintf(b, "    %s %s\n", sign, line)
			sign = ">"
		}
	}
}

// String is empty for what runs once all before it has passed.
func (w When) String() string {
	s := string(w.On)
	if w.Manual {
		s = strings.TrimPrefix(s+", manual", ", ")
	}
	return s
}

// String gives how often, and after what.
func (r *Retry) String() string {
	if r == nil {
		return ""
	}
	s := fmt.Sprintf("%d times", r.Max)
	for i, c := range r.When {
		s += []string{", after ", " or "}[min(i, 1)] + string(c)
	}
	if len(r.ExitCodes) > 0 {
		s += ", exit codes " + strings.Trim(fmt.Sprint(r.ExitCodes), "[]")
	}
	if r.Backoff > 0 {
		s += ", backoff " + r.Backoff.String()
	}
	return s
}

// String gives the group and how many may run in it.
func (c *Concurrency) String() string {
	if c == nil {
		return ""
	}
	what := "jobs"
	if c.PerBuild {
		what = "builds"
	}
	s := fmt.Sprintf("%s, %s %d", c.Group, what, c.Limit)
	if c.CancelInProgress {
		s += ", older are canceled"
	}
	return s
}

// String gives the name and the image.
func (s Service) String() string { return s.Name + " " + s.Image }

// String gives what is waited for, and how long.
func (r *Ready) String() string {
	switch {
	case r == nil:
		return ""
	case r.Port > 0:
		return fmt.Sprintf("port %d within %s", r.Port, r.Timeout)
	}
	return fmt.Sprintf("%s within %s", quoted(r.Command), r.Timeout)
}

// String gives the keys, the paths and the policy.
func (c Cache) String() string {
	return c.Key + after(" else ", strings.Join(c.RestoreKeys, ", ")) + after(": ", strings.Join(c.Paths, ", ")) + after(", ", string(c.Policy))
}

// String gives the files, and when and how long they are kept.
func (a *Artifacts) String() string {
	if a == nil {
		return ""
	}
	s := strings.Join(a.Paths, ", ") + after(" without ", strings.Join(a.Exclude, ", ")) +
		after("; junit ", strings.Join(a.JUnit, ", ")) + after("; ", string(a.When))
	if a.ExpireIn > 0 {
		s += "; for " + a.ExpireIn.String()
	}
	return strings.TrimPrefix(s, "; ")
}

// quoted gives arguments so that it can be seen where each ends.
func quoted(args []string) string {
	var all []string
	for _, a := range args {
		all = append(all, fmt.Sprintf("%q", a))
	}
	return strings.Join(all, " ")
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
