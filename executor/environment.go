package executor

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
	"github.com/codepr/narwhal/supervise"
)

// builtin is what every step sees of its attempt, whatever its file says.
func builtin(t Task) map[string]string {
	c := t.Work.Commit
	return map[string]string{
		"CI":                   "true",
		"NARWHAL":              "true",
		"NARWHAL_REPO":         c.Repo,
		"NARWHAL_COMMIT":       c.SHA,
		"NARWHAL_REF":          c.Ref,
		"NARWHAL_BRANCH":       c.Branch(),
		"NARWHAL_TAG":          c.Tag(),
		"NARWHAL_EVENT":        string(c.Event),
		"NARWHAL_PULL_REQUEST": pullRequest(c),
		"NARWHAL_BASE":         c.Base,
		"NARWHAL_BUILD":        strconv.FormatUint(uint64(t.Ref.Job.Build), 10),
		"NARWHAL_JOB":          t.Ref.Job.String(),
		"NARWHAL_JOB_NAME":     t.Work.Name,
		"NARWHAL_ATTEMPT":      strconv.Itoa(t.Ref.N),
		"NARWHAL_NODE":         string(t.Node),
		"NARWHAL_NODE_ID":      string(t.Node),
		"NARWHAL_FENCE_TOKEN":  t.Ref.Token.String(),
	}
}

// pullRequest is a pull request's number; empty for any other commit.
func pullRequest(c fsm.Commit) string {
	if c.PullRequest == 0 {
		return ""
	}
	return strconv.Itoa(c.PullRequest)
}

// identity are the variables by which a process is known as an attempt's. They
// can't be overridden by anything.
var identity = []string{"NARWHAL_NODE_ID", "NARWHAL_JOB", "NARWHAL_ATTEMPT", "NARWHAL_FENCE_TOKEN"}

// task translates an attempt for the supervisor. below is the environment under
// the job's own, such as PATH.
func task(t Task, dir string, below []string, grace time.Duration, logLimit int64) supervise.Task {
	spec := t.Work.Spec
	own := builtin(t)
	env := maps.Clone(spec.Env)
	if env == nil {
		env = make(map[string]string)
	}
	maps.Copy(env, own)
	maps.Copy(env, t.Env)
	s := supervise.Task{
		Dir: dir, Timeout: spec.Timeout, Grace: grace, LogLimit: logLimit,
		Restore: t.Restore, Caches: t.Caches, Artifacts: artifacts(spec.Artifacts),
		CacheLimit: t.CacheLimit, ArtifactsLimit: t.ArtifactsLimit,
		Job: t.Ref.Job.String(),
	}
	for _, key := range identity {
		env[key] = own[key]
		s.Marks = append(s.Marks, key+"="+own[key])
	}
	s.Env = append(slices.Clone(below), entries(env)...)
	named := satellites(t)
	for _, step := range spec.Steps {
		s.Steps = append(s.Steps, aStep(step, spec, own, named[step.Image]))
		if step.When.Manual {
			last := &s.Steps[len(s.Steps)-1]
			last.Manual, last.Lock = true, supervise.Lock(t.Approvals[step.Name])
		}
	}
	for _, service := range spec.Services {
		if service.Ready != nil && service.Ready.Port != 0 {
			s.Services = append(s.Services, supervise.Service{Name: service.Name, Port: service.Ready.Port, Timeout: service.Ready.Timeout})
		}
	}
	return s
}

func aStep(step pipeline.Step, spec *pipeline.Job, own map[string]string, satellite string) supervise.Step {
	over := maps.Clone(step.Env)
	maps.DeleteFunc(over, func(key, _ string) bool { _, taken := own[key]; return taken })
	secrets := slices.DeleteFunc(slices.Concat(spec.Secrets, step.Secrets), func(name string) bool { _, taken := own[name]; return taken })
	slices.Sort(secrets)
	where := ""
	if satellite != "" {
		where = "image " + step.Image
	}
	return supervise.Step{
		Name: step.Name, Where: where, Command: step.Command, Dependencies: step.Dependencies,
		Env: entries(over), Secrets: slices.Compact(secrets), Timeout: step.Timeout,
		Parallel: step.Parallel, Needs: step.Needs, On: step.When.On, Skip: step.Skip,
		Retry: step.Retry, AllowFailure: step.AllowFailure, Shell: step.Shell, Satellite: satellite,
	}
}

func artifacts(want *pipeline.Artifacts) *supervise.Artifacts {
	if want == nil {
		return nil
	}
	a := &supervise.Artifacts{Paths: want.Paths, Exclude: want.Exclude, When: want.When, JUnit: want.JUnit}
	if len(a.Paths) > 0 {
		a.File = ArtifactsFile
	}
	if len(a.JUnit) > 0 {
		a.JUnitFile = JUnitFile
	}
	return a
}

func entries(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for _, key := range slices.Sorted(maps.Keys(env)) {
		list = append(list, key+"="+env[key])
	}
	return list
}
