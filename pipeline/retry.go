package pipeline

import (
	"slices"

	"gopkg.in/yaml.v3"
)

// retry reads a number of retries, or which ends are tried again. A step, which
// is tried again within its attempt, doesn't outlive its node or its image.
func (r *reader) retry(n *yaml.Node, job bool) *Retry {
	to := &Retry{}
	if n.Kind != yaml.MappingNode {
		r.number(&to.Max, n, "retry", 0, maxRetries)
		return to
	}
	all, _ := r.fields(n, "retry", inRetry)
	if !has(all, "max") {
		r.errorf(n, `retry: "max" is missing: how often is it tried again?`)
	}
	for _, e := range all {
		switch e.key {
		case "max":
			r.number(&to.Max, e.value, "retry.max", 0, maxRetries)
		case "when":
			to.When = r.classes(e.value, job)
		case "exit_codes":
			to.ExitCodes = r.exitCodes(e.value)
		case "backoff":
			setParsed(r, &to.Backoff, e, "retry.backoff", "a time", timeUpTo(maxBackoff))
		}
	}
	if len(to.ExitCodes) > 0 && len(to.When) > 0 &&
		!slices.Contains(to.When, ClassFailure) && !slices.Contains(to.When, ClassAlways) {
		r.errorf(n, `retry: "exit_codes" are those of a failure, which is not in "when"`)
	}
	if to.Max > 1 && len(to.When) == 1 && to.When[0] == ClassNodeLost {
		r.warnf(n, "retry: after node_lost a job is tried again once, whatever max says: one that has lost two nodes is not given a third")
	}
	return to
}

func (r *reader) classes(n *yaml.Node, job bool) []Class {
	var all []Class
	for _, s := range r.some(n, "retry.when", maxNameLen, maxPaths) {
		c := Class(s.text)
		switch {
		case !slices.Contains(classes(), s.text):
			r.errorf(s.at, "retry.when: %s", notOne(s.text, classes()))
		case !job && (c == ClassNodeLost || c == ClassImagePull):
			r.errorf(s.at, "retry.when: a step is tried again within its job, which %s ends: put this retry in the job", c)
		case !slices.Contains(all, c):
			all = append(all, c)
		}
	}
	return all
}

func (r *reader) exitCodes(n *yaml.Node) []int {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items, _ = r.items(n, "retry.exit_codes")
		if len(items) == 0 || len(items) > maxExitCodes {
			r.errorf(n, "retry.exit_codes: expected from 1 to %d of them", maxExitCodes)
			return nil
		}
	}
	var all []int
	for _, item := range items {
		code := 0
		if r.number(&code, item, "retry.exit_codes", 1, 255) && !slices.Contains(all, code) {
			all = append(all, code)
		}
	}
	return all
}

// concurrency reads a group, or a group with its limit.
func (r *reader) concurrency(n *yaml.Node) *Concurrency {
	to := &Concurrency{Limit: 1}
	if n.Kind != yaml.MappingNode {
		to.Group, _ = r.line(n, "concurrency", maxGroupName)
		return to
	}
	all, _ := r.fields(n, "concurrency", inConcurrency)
	if !has(all, "group") {
		r.errorf(n, `concurrency: "group" is missing: what is counted together?`)
	}
	for _, e := range all {
		switch e.key {
		case "group":
			to.Group, _ = r.line(e.value, "concurrency.group", maxGroupName)
		case "limit":
			r.number(&to.Limit, e.value, "concurrency.limit", 1, maxGroupLimit)
		case "cancel_in_progress":
			r.boolean(&to.CancelInProgress, e.value, "concurrency.cancel_in_progress")
		}
	}
	return to
}
