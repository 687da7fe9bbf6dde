package main

import (
	"fmt"
	"strings"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
)

// jobStatus says how a job stands, and what it waits for.
func jobStatus(j *api.Job) string {
	text := withCause(j.Status, j.Cause)
	if j.Allowed && (j.Status == fsm.Failed || j.Status == fsm.Errored) {
		text += ", allowed"
	}
	switch n := len(j.Waiting); {
	case n == 1:
		text += ", step " + j.Waiting[0] + " waits for a person"
	case n > 1:
		text += ", steps " + strings.Join(j.Waiting, ", ") + " wait for a person"
	}
	return text
}

// asks says what of a job waits for a person, a line each, with what to type.
func asks(j *api.Job) []string {
	var lines []string
	if j.Status == fsm.Held {
		lines = append(lines, fmt.Sprintf("job %s, %s, waits for a person: %s", j.ID, plain(j.Name), fsm.Approval(j.ID.String(), "")))
	}
	for _, step := range j.Waiting {
		lines = append(lines, fmt.Sprintf("step %s of job %s, %s, waits for a person: %s",
			plain(step), j.ID, plain(j.Name), plain(fsm.Approval(j.ID.String(), step))))
	}
	return lines
}

// asker tells whoever follows a build what waits for a person, once an attempt.
type asker struct {
	say  func(format string, args ...any)
	told map[askOf]bool
}

type askOf struct {
	attempt int // the job's newest one
	line    string
}

func (a *asker) tell(b api.Build) {
	if a.told == nil {
		a.told = make(map[askOf]bool)
	}
	for i := range b.Jobs {
		j := &b.Jobs[i]
		for _, line := range asks(j) {
			if of := (askOf{len(j.Attempts), line}); !a.told[of] {
				a.told[of] = true
				a.say("%s", line)
			}
		}
	}
}
