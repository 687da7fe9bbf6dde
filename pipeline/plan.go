package pipeline

import (
	"maps"
	"strings"

	"gopkg.in/yaml.v3"
)

// check walks the file without facts.
func (r *reader) check(f *File) {
	if !r.fits(f) {
		return
	}
	names := make(map[string]string)
	for _, in := range f.Inputs {
		names[in.Name] = ""
	}
	base := &scope{facts: Facts{}.variables(), inputs: names, static: true}
	r.title(f, base)
	jobs := f.jobs
	if len(jobs) == 0 { // which is an error, and not a reason to be silent on others
		jobs = []*body{{entry: entry{at: &yaml.Node{Line: 1, Column: 1}}, instances: []instance{{}}}}
	}
	for _, b := range jobs {
		if len(r.found) >= maxErrors {
			break // no more are shown, and each job reads the top's again
		}
		r.job(f, b, b.instances[0], base, nil)
		r.warnSteps(b)
	}
	f.WantsPaths = r.paths
}

// Plan gives the jobs of a commit. A job or step whose when doesn't fit the facts
// is there too, with Skip set, so that everyone sees why it doesn't run. The error
// is nil or an Errors: an input that is not right, or what ${…} came to.
func (f *File) Plan(facts Facts) (Pipeline, error) {
	r := reader{file: f.file, budget: maxExpanded}
	inputs := r.giveInputs(f, facts)
	if errs := r.report(); len(errs) > 0 {
		return Pipeline{}, errs
	}
	p := r.plan(f, facts, inputs)
	if errs := r.report(); len(errs) > 0 {
		return Pipeline{}, errs
	}
	if r.measured(f, p, func(most int) int { return most }); len(r.found) > 0 {
		return Pipeline{}, r.report()
	}
	return p, nil
}

// plan makes a commit's plan, which is whole unless r is full or spent.
func (r *reader) plan(f *File, facts Facts, inputs map[string]string) Pipeline {
	base := &scope{facts: facts.variables(), inputs: inputs}
	p := Pipeline{Name: r.title(f, base)}
	for _, b := range f.jobs {
		for _, one := range b.instances {
			p.Jobs = append(p.Jobs, r.job(f, b, one, base, &facts))
			if r.full() || r.spent != nil {
				return p
			}
		}
	}
	f.connect(&p)
	for _, s := range f.Schedules {
		if s.Branch == facts.Branch {
			p.Schedules = append(p.Schedules, s)
		}
	}
	return p
}

// example is a commit like many, by which Read sees how large a plan gets.
var example = Facts{
	Repo: "organization/repository", Commit: "2fd4e1c67a2d28fced849ee1bb76e7391b93eb12", Ref: "refs/heads/main",
	Branch: "main", Event: "push", Build: "1000",
}

// rehearse plans an example, so that what is too large is told before there is a
// commit. Nothing else of it is an error: another commit may be fine.
func (r *reader) rehearse(f *File) {
	trial := reader{file: r.file, anchors: r.anchors, budget: maxExpanded}
	p := trial.plan(f, example, trial.giveInputs(f, example))
	switch {
	case trial.spent != nil:
		r.errorf(trial.spent, "%s", tooLong)
	case !trial.full():
		r.measured(f, p, room)
	}
}

// title gives the pipeline's name.
func (r *reader) title(f *File, base *scope) (title string) {
	if f.top.name == nil {
		return ""
	}
	sc := base.under(r.variables(f.top.settings))
	r.in(sc, func() { title, _ = r.line(f.top.name.value, "name", maxNameLen) })
	return strings.TrimSpace(title)
}

// connect turns needs, which name jobs of the file, into what matrices made of
// them.
func (f *File) connect(p *Pipeline) {
	made := make(map[string][]string, len(f.jobs))
	for _, b := range f.jobs {
		for _, one := range b.instances {
			made[b.name] = append(made[b.name], one.name)
		}
	}
	i := 0
	for _, b := range f.jobs {
		var needs []string
		for _, need := range b.needs {
			needs = append(needs, made[need.text]...)
		}
		for range b.instances {
			p.Jobs[i].Needs = append([]string(nil), needs...)
			i++
		}
	}
}

// job reads one job: facts are nil while they aren't known.
func (r *reader) job(f *File, b *body, one instance, base *scope, facts *Facts) Job {
	job := Job{
		Name: one.name, Image: f.image, Resources: Resources{CPU: defaultCPU, Memory: defaultMemory},
		Timeout: defaultTimeout, OnNodeLoss: NodeLossRerun,
	}
	if one.values != nil {
		job.Of, job.Matrix = b.name, maps.Clone(one.given)
	}
	sc := *base
	sc.job, sc.matrix = b.name, one.values
	inner := sc.under(r.variables(f.top.settings)).under(r.variables(b.settings))
	r.in(inner, func() { r.jobIn(&job, f, b, facts) })
	return job
}

// jobIn reads a job in its scope.
func (r *reader) jobIn(job *Job, f *File, b *body, facts *Facts) {
	v := r.whenOf(facts, b, b.settings, f.top.settings)
	job.When, job.Skip = v.When, v.skip
	read := func() { r.filled(job, f, b, facts) }
	if job.Skip != "" {
		r.aside(read) // what doesn't run can't be wrong for this commit
		return
	}
	read()
}

// filled reads all of a job but its when.
func (r *reader) filled(job *Job, f *File, b *body, facts *Facts) {
	var defaults stepDefaults
	for _, e := range f.top.settings {
		if merges[e.key] || !has(b.settings, e.key) {
			r.setting(job, &defaults, e)
		}
	}
	if job.Concurrency != nil {
		job.Concurrency.PerBuild = true
	}
	for _, e := range b.settings {
		r.setting(job, &defaults, e)
	}
	if b.allow != nil {
		r.boolean(&job.AllowFailure, b.allow.value, "allow_failure")
		job.AllowErrors = job.AllowFailure
	}
	job.Env = r.jobEnv(r.scope, b.entry.at)
	if b.steps.value != nil {
		job.Steps = r.steps(b.steps.value, defaults, facts)
	}
}

// merges are the settings of which a job's own and the top's both count.
var merges = map[string]bool{"env": true, "secrets": true, "labels": true, "resources": true, "clone": true}

func has(all []entry, key string) bool {
	for _, e := range all {
		if e.key == key {
			return true
		}
	}
	return false
}

// jobEnv gives the variables of all layers, and those that hold the inputs and
// the values of the matrix.
func (r *reader) jobEnv(sc *scope, at *yaml.Node) map[string]string {
	env := make(map[string]string)
	r.resolveAll(sc, env)
	for name, v := range sc.matrix {
		env[variableOf(matrixPrefix, name)] = v
	}
	for name, v := range sc.inputs {
		r.budget -= len(v)
		env[variableOf(inputPrefix, name)] = v
	}
	if len(env) == 0 {
		return nil
	}
	r.spend(at, 0)
	return env
}

// resolveAll puts the values of a scope's own layers into env.
func (r *reader) resolveAll(sc *scope, env map[string]string) {
	var layers []*layer
	for l := sc.env; l != nil; l = l.below {
		layers = append(layers, l)
	}
	for i := len(layers) - 1; i >= 0; i-- {
		r.resolveLayer(sc, layers[i], env)
	}
}

// resolveLayer puts the values of one layer into env.
func (r *reader) resolveLayer(sc *scope, l *layer, env map[string]string) {
	for _, v := range l.order {
		value, ok, err := r.resolve(sc, v, l, v.name)
		if err != nil {
			r.errorf(v.at, "env.%s: %v", v.name, err)
		}
		if ok {
			env[v.name] = value
		}
	}
}

// warnSteps tells of dependencies that were probably meant as needs.
func (r *reader) warnSteps(b *body) {
	if b.steps.value == nil || b.steps.value.Kind != yaml.SequenceNode {
		return
	}
	known := map[string]bool{}
	var wanted []name
	for _, item := range b.steps.value.Content {
		item = resolve(item)
		if item.Kind != yaml.MappingNode {
			continue
		}
		for _, e := range r.merged(item, "step") {
			switch {
			case e.key == "name":
				known[e.value.Value] = true
			case e.key == "dependencies" && e.value.Kind == yaml.SequenceNode:
				for _, d := range e.value.Content {
					wanted = append(wanted, name{resolve(d).Value, d})
				}
			}
		}
	}
	for _, d := range wanted {
		if known[d.text] {
			r.warnf(d.at, "dependencies: %s is a step of this job: dependencies are packages to install; for order use needs", quote(d.text))
		}
	}
}
