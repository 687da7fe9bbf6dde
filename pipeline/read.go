package pipeline

import (
	"maps"
	"strings"

	"gopkg.in/yaml.v3"
)

// pipeline reads the top of a file.
func (r *reader) pipeline(root *yaml.Node, opts Options) Pipeline {
	all, ok := r.entries(root, "the file")
	if !ok {
		return Pipeline{}
	}
	var p Pipeline
	defaults := Job{
		Image:      opts.DefaultImage,
		Resources:  Resources{CPU: defaultCPU, Memory: defaultMemory},
		Timeout:    defaultTimeout,
		OnNodeLoss: NodeLossRerun,
	}
	if defaults.Image == "" {
		defaults.Image = "ubuntu"
	}
	var bodies []entry
	for _, e := range all {
		switch {
		case e.key == "name":
			p.Name, _ = r.line(e.value, "name", maxNameLen)
		case e.key == "steps" || e.key == "jobs":
			bodies = append(bodies, e)
		case !r.setting(&defaults, e):
			r.unknown(e, inTop)
		}
	}
	switch {
	case len(bodies) == 0:
		r.errorf(root, `the file needs "steps" (one job) or "jobs" (several)`)
	case len(bodies) == 2:
		r.errorf(bodies[1].at, `the file has both "steps" and "jobs": keep one, and move the steps into a job`)
	}
	// Only now are the defaults complete: they may stand below the jobs.
	for _, e := range bodies {
		if e.key == "jobs" {
			p.Jobs = r.jobs(e, defaults)
			continue
		}
		job := defaults
		job.Name = slug(p.Name)
		job.Steps = r.readSteps(e.value)
		p.Jobs = []Job{job}
	}
	return p
}

// slug makes a job's name of a pipeline's, which may hold anything.
func slug(name string) string {
	fit := func(c rune) bool { return c < 0x80 && inSet(byte(c), "a0_.-") }
	words := strings.FieldsFunc(name, func(c rune) bool { return !fit(c) })
	name = strings.TrimLeft(strings.Join(words, "-"), "_.-")
	name = name[:min(len(name), 63)]
	if name == "" {
		return "build"
	}
	return name
}

// setting reads a key that stands at the top or in a job, over what job has by
// default. It answers false when the key is none of these.
func (r *reader) setting(job *Job, e entry) bool {
	switch e.key {
	case "image":
		if s, ok := r.image(e.value); ok {
			job.Image = s
		}
	case "env":
		job.Env = overlay(job.Env, r.env(e.value))
	case "labels":
		job.Labels = overlay(job.Labels, r.labels(e.value))
	case "resources":
		r.resources(&job.Resources, e.value)
	case "timeout":
		setParsed(r, &job.Timeout, e, "timeout", "a time", parseTimeout)
	case "clone":
		r.clone(&job.Clone, e.value)
	case "priority":
		r.number(&job.Priority, e.value, "priority", -maxPriority, maxPriority)
	case "on_node_loss":
		r.nodeLoss(&job.OnNodeLoss, e.value)
	default:
		return false
	}
	return true
}

// overlay leaves both maps as they are.
func overlay(below, above map[string]string) map[string]string {
	if len(below) == 0 {
		return above
	}
	both := maps.Clone(below)
	maps.Copy(both, above)
	return both
}

// jobs reads the map of jobs.
func (r *reader) jobs(body entry, defaults Job) []Job {
	all, ok := r.entries(body.value, "jobs")
	if !ok {
		return nil
	}
	if len(all) == 0 {
		r.errorf(body.value, "jobs: is empty: it needs at least one job")
		return nil
	}
	if len(all) > maxJobs {
		r.errorf(all[maxJobs].at, "jobs: %d jobs: at most %d are allowed", len(all), maxJobs)
		return nil
	}
	// Each job that overlays the defaults gets a copy of them: bound the sum.
	if size := (textSize(defaults.Env) + textSize(defaults.Labels)) * len(all); size > maxExpanded {
		r.errorf(body.at, "jobs: env and labels of the top come to more than %d MiB in %d jobs",
			maxExpanded>>20, len(all))
		return nil
	}
	jobs := make([]Job, 0, len(all))
	needs := make([][]name, 0, len(all))
	for _, e := range all {
		job, need := r.job(e, defaults)
		jobs = append(jobs, job)
		needs = append(needs, need)
	}
	r.checkNeeds(jobs, needs)
	return jobs
}

// textSize counts what a map costs, in bytes, roughly.
func textSize(m map[string]string) int {
	const overhead = 32
	size := 0
	for k, v := range m {
		size += len(k) + len(v) + overhead
	}
	return size
}

// name is a word of the file and where it stands.
type name struct {
	text string
	at   *yaml.Node
}

func (r *reader) job(e entry, defaults Job) (Job, []name) {
	job := defaults
	job.Env, job.Labels = maps.Clone(defaults.Env), maps.Clone(defaults.Labels)
	job.Name = e.key
	if !isJobName(e.key) {
		r.errorf(e.at, "jobs: name %s: use letters, digits, _ . and -, at most 63, the first a letter or digit",
			quote(e.key))
	}
	all, ok := r.entries(e.value, "job "+quote(e.key))
	if !ok {
		return job, nil
	}
	var needs []name
	var steps *entry
	for _, e := range all {
		switch {
		case e.key == "needs":
			needs = r.names(e.value, "needs")
		case e.key == "steps":
			steps = &e
		case !r.setting(&job, e):
			r.unknown(e, inJob)
		}
	}
	if steps == nil {
		r.errorf(e.at, `job %s has no "steps"`, quote(e.key))
		return job, needs
	}
	job.Steps = r.readSteps(steps.value)
	for _, n := range needs {
		job.Needs = append(job.Needs, n.text)
	}
	return job, needs
}
