package pipeline

import "maps"

// stepDefaults are settings of a job that only its steps have.
type stepDefaults struct{ shell Shell }

// setting reads a key that stands at the top or in a job, over what job has by
// default. env and when are read before, since others depend on them.
func (r *reader) setting(job *Job, defaults *stepDefaults, e entry) {
	switch e.key {
	case "image":
		if s, ok := r.image(e.value); ok {
			job.Image = s
		}
	case "secrets":
		job.Secrets = union(job.Secrets, r.secrets(e.value))
	case "labels":
		job.Labels = overlay(job.Labels, r.labels(e.value))
	case "resources":
		r.resources(&job.Resources, e.value)
	case "timeout":
		setParsed(r, &job.Timeout, e, "timeout", "a time", parseTimeout)
	case "retry":
		job.Retry = r.retry(e.value, true)
	case "clone":
		r.clone(&job.Clone, e.value)
	case "on_node_loss":
		if s, ok := r.word(e.value, "on_node_loss", []string{string(NodeLossRerun), string(NodeLossFail)}); ok {
			job.OnNodeLoss = NodeLoss(s)
		}
	case "concurrency":
		job.Concurrency = r.concurrency(e.value)
	case "priority":
		r.number(&job.Priority, e.value, "priority", -maxPriority, maxPriority)
	case "services":
		job.Services = r.services(e.value)
	case "cache":
		job.Cache = r.caches(e.value)
	case "artifacts":
		job.Artifacts = r.artifacts(e.value)
	case "shell":
		r.shell(&defaults.shell, e)
	}
}

// shell reads sh, which is the empty Shell, or bash.
func (r *reader) shell(to *Shell, e entry) {
	s, ok := r.word(e.value, "shell", []string{"sh", string(ShellBash)})
	switch {
	case ok && s == "sh":
		*to = ShellSh
	case ok:
		*to = Shell(s)
	}
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
