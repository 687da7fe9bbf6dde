package fsm

import (
	"reflect"

	"github.com/codepr/narwhal/pipeline"
)

// shareAll has the jobs of a plan that was decoded share what they can.
func shareAll(plan *pipeline.Pipeline) {
	if plan == nil {
		return
	}
	for i := 1; i < len(plan.Jobs); i++ {
		share(&plan.Jobs[i], &plan.Jobs[i-1])
	}
}

// share has a job keep only once what it has in common with the one before it in its
// plan: the jobs of a matrix are all but the same, and a build may have 256. Both
// were only just decoded: nobody else has them.
func share(spec, before *pipeline.Job) {
	if spec == nil || before == nil {
		return
	}
	same(&spec.Needs, before.Needs)
	same(&spec.Secrets, before.Secrets)
	same(&spec.Labels, before.Labels)
	same(&spec.Services, before.Services)
	same(&spec.Cache, before.Cache)
	same(&spec.Artifacts, before.Artifacts)
	same(&spec.Env, before.Env)
	for name, value := range spec.Env { // where it differs, it is by little
		if there := before.Env[name]; there == value {
			spec.Env[name] = there
		}
	}
	if same(&spec.Steps, before.Steps) || len(spec.Steps) != len(before.Steps) {
		return
	}
	for i := range spec.Steps {
		step, there := &spec.Steps[i], &before.Steps[i]
		same(&step.Command, there.Command)
		same(&step.Env, there.Env)
		same(&step.Dependencies, there.Dependencies)
		same(&step.Secrets, there.Secrets)
	}
}

func same[T any](have *T, there T) bool {
	if !reflect.DeepEqual(*have, there) {
		return false
	}
	*have = there
	return true
}
