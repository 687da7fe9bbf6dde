package fsm

import (
	"slices"
	"strings"
)

// Asks are the steps that wait for a person on whom nobody has decided: the node takes
// a moment to hear of a decision, and tells what waits until then.
func (a *Attempt) Asks() []string {
	var open []string
	for _, step := range a.Waiting {
		if !slices.ContainsFunc(a.Decisions, func(d StepDecision) bool { return d.Step == step }) {
			open = append(open, step)
		}
	}
	return open
}

// Approval is what people type to let a job go on that waits for them, or, where it
// isn't empty, a step of it.
func Approval(job, step string) string {
	if step == "" {
		return "narwhal approve " + job
	}
	return "narwhal approve " + job + " --step " + ShellWord(step)
}

// ShellWord is text as a shell takes it for one word.
func ShellWord(text string) string {
	plain := func(c rune) bool {
		return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.ContainsRune("-_./", c)
	}
	if text != "" && strings.TrimFunc(text, plain) == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
