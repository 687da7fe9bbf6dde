package pipeline

import (
	"strings"

	"gopkg.in/yaml.v3"
)

// outline finds the parts of a file: what needs no ${…} to be known.
func (r *reader) outline(root *yaml.Node, opts Options) *File {
	f := &File{file: r.file, image: opts.DefaultImage}
	if f.image == "" {
		f.image = "ubuntu"
	}
	all, ok := r.fields(root, "the file", inTop)
	if !ok {
		return f
	}
	for _, e := range all {
		switch e.key {
		case "name":
			f.top.name = &e
			f.Name = e.value.Value
		case "inputs":
			f.top.inputs = &e
		case "schedule":
			f.top.schedule = &e
		case "steps", "jobs":
			if f.top.body != nil {
				r.errorf(e.at, `the file has both "steps" and "jobs": keep one, and move the steps into a job`)
				continue
			}
			f.top.body = &e
		default:
			f.top.settings = append(f.top.settings, e)
		}
	}
	if f.top.inputs != nil {
		f.Inputs = r.readInputs(f.top.inputs.value)
	}
	if f.top.schedule != nil {
		f.Schedules = r.readSchedules(f.top.schedule.value, f.Inputs)
	}
	switch {
	case f.top.body == nil:
		r.errorf(root, `the file needs "steps" (one job) or "jobs" (several)`)
	case f.top.body.key == "steps":
		job := slug(f.Name)
		f.jobs = []*body{{name: job, entry: *f.top.body, steps: *f.top.body, instances: []instance{{name: job}}}}
	default:
		f.jobs = r.bodies(*f.top.body)
	}
	return f
}

// slug makes a job's name of a pipeline's, which may hold anything.
func slug(name string) string {
	fit := func(c rune) bool { return c < 0x80 && inSet(byte(c), "a0_.-") }
	words := strings.FieldsFunc(name, func(c rune) bool { return !fit(c) })
	name = strings.TrimLeft(strings.Join(words, "-"), "_.-")
	name = name[:min(len(name), maxJobName)]
	if name == "" {
		return "build"
	}
	return name
}

// bodies reads the outlines of the jobs.
func (r *reader) bodies(jobs entry) []*body {
	all, ok := r.entries(jobs.value, "jobs")
	switch {
	case !ok:
		return nil
	case len(all) == 0:
		r.errorf(jobs.value, "jobs: is empty: it needs at least one job")
		return nil
	case len(all) > maxJobs:
		r.errorf(all[maxJobs].at, "jobs: %d jobs: at most %d are allowed", len(all), maxJobs)
		return nil
	}
	bodies := make([]*body, 0, len(all))
	count := 0
	for _, e := range all {
		b := r.body(e)
		bodies = append(bodies, b)
		if count += len(b.instances); count > maxJobs {
			r.errorf(e.at, "jobs: with matrices written out there are more than %d", maxJobs)
			break
		}
	}
	r.checkNeeds(bodies)
	return bodies
}

func (r *reader) body(e entry) *body {
	b := &body{name: e.key, entry: e, instances: []instance{{name: e.key}}}
	if !isJobName(e.key) {
		r.errorf(e.at, "jobs: name %s: use letters, digits, _ . and -, at most %d, the first a letter or digit",
			quote(e.key), maxJobName)
	}
	all, ok := r.fields(e.value, "job "+quote(e.key), inJob)
	if !ok {
		return b
	}
	for _, s := range all {
		switch s.key {
		case "needs":
			b.needs = r.names(s.value, "needs")
		case "steps":
			b.steps = s
		case "allow_failure":
			b.allow = &s
		case "matrix":
			b.instances = r.matrix(e.key, s.value)
		default:
			b.settings = append(b.settings, s)
		}
	}
	if b.steps.value == nil {
		r.errorf(e.at, `job %s has no "steps"`, quote(e.key))
	}
	return b
}

// fits sees that the file stays within its limits with each job's defaults and
// matrix written out: Plan's work and memory follow from that.
func (r *reader) fits(f *File) bool {
	m := measurer{done: r.anchors, open: map[*yaml.Node]bool{}}
	of := func(all []entry) (sum measure) {
		for _, e := range all {
			one := m.node(e.value, 1)
			sum.nodes += one.nodes + 1
			sum.bytes += one.bytes + len(e.key)
		}
		return sum
	}
	top := of(f.top.settings)
	steps, nodes, bytes := 0, 0, 0
	for _, b := range f.jobs {
		own := of(b.settings)
		if b.steps.value != nil {
			all := m.node(b.steps.value, 1)
			own.nodes += all.nodes
			own.bytes += all.bytes
			steps += len(b.steps.value.Content)
		}
		nodes += (top.nodes + own.nodes) * len(b.instances)
		bytes += (top.bytes + own.bytes) * len(b.instances)
		switch {
		case steps > maxSteps:
			r.errorf(b.steps.at, "steps: more than %d in the file", maxSteps)
		case nodes > maxPlanNodes:
			r.errorf(b.entry.at, "with the top's defaults and matrices written out the jobs up to this one have more than %d values", maxPlanNodes)
		case bytes > maxExpanded:
			r.errorf(b.entry.at, "with the top's defaults and matrices written out the jobs up to this one are larger than %d MiB", maxExpanded>>20)
		default:
			continue
		}
		return false
	}
	return true
}
