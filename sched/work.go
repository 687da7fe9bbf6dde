package sched

import (
	"maps"
	"slices"
	"strings"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/pipeline"
)

// Work is what a node needs to know to run an attempt; nil where it is no longer
// known.
func Work(s *fsm.State, ref fsm.AttemptRef) *link.Work {
	j, ok := s.Job(ref.Job)
	if !ok {
		return nil
	}
	b, _ := s.Build(ref.Job.Build)
	w := &link.Work{Kind: j.Kind, Name: j.Name, Commit: b.Commit, Spec: j.Spec}
	if j.Spec == nil {
		w.Inputs = b.Inputs
		return w
	}
	w.Scopes = fsm.CacheScopes(b.Commit)
	w.Artifacts = artifacts(s, j)
	if !b.Commit.Fork { // who wrote its file is anybody
		w.Secrets, w.Registries = secrets(s, j), registries(s, j)
	}
	return w
}

// artifacts are what the jobs that j needs have left, whatever became of them.
func artifacts(s *fsm.State, j *fsm.Job) map[string]fsm.Artifacts {
	out := make(map[string]fsm.Artifacts)
	for _, seq := range j.Needs {
		need, ok := s.Job(fsm.JobID{Build: j.ID.Build, Seq: seq})
		if !ok {
			continue
		}
		if a, ok := need.Current(); ok && a.Artifacts != nil {
			out[need.Name] = *a.Artifacts
		}
	}
	return some(out)
}

// secrets are those that the job and its steps name.
func secrets(s *fsm.State, j *fsm.Job) map[string][]byte {
	names := slices.Clone(j.Spec.Secrets)
	for i := range j.Spec.Steps {
		names = append(names, j.Spec.Steps[i].Secrets...)
	}
	out := make(map[string][]byte)
	for _, name := range names {
		if strings.HasPrefix(name, fsm.RegistrySecret("")) {
			continue // the engine's, never a step's
		}
		if v, ok := s.Secret(j.Repo, name); ok {
			out[name] = v.Sealed
		}
	}
	return some(out)
}

// registries are the credentials for the images that the job runs.
func registries(s *fsm.State, j *fsm.Job) map[string][]byte {
	out := make(map[string][]byte)
	for _, image := range images(j.Spec) {
		host := registryOf(image)
		if v, ok := s.Secret(j.Repo, fsm.RegistrySecret(host)); ok {
			out[host] = v.Sealed
		}
	}
	return some(out)
}

// images are all that the job runs: its own, its steps' and its services'.
func images(spec *pipeline.Job) []string {
	out := []string{spec.Image}
	for i := range spec.Steps {
		out = append(out, spec.Steps[i].Image)
	}
	for i := range spec.Services {
		out = append(out, spec.Services[i].Image)
	}
	return slices.DeleteFunc(out, func(image string) bool { return image == "" })
}

// registryOf is the host that an image comes from, by Docker's rule: what stands
// before the first slash is one only if it looks like one.
func registryOf(image string) string {
	host, _, found := strings.Cut(image, "/")
	if found && (strings.ContainsAny(host, ".:") || host == "localhost") {
		return host
	}
	return dockerHub
}

const dockerHub = "docker.io"

// some is m, or nil where it is empty.
func some[T any](m map[string]T) map[string]T {
	if len(m) == 0 {
		return nil
	}
	return m
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
