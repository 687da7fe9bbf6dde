package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// laptopSteps settles the manual steps of jobs, where nobody else is there to ask: all
// go on, or those that are approved. The others are left out with all that would run only
// once they have passed, in their job and in those that need it; these are given by name.
func laptopSteps(jobs []pipeline.Job, all bool, approved []string) (left []string, err error) {
	if err := checkApproved(jobs, approved); err != nil {
		return nil, err
	}
	if all {
		approved = manualNames(jobs)
	}
	lost := make(map[string]string) // the step for which a job isn't all that it should be
	for i := range jobs {
		j := &jobs[i]
		out, by := approveSteps(j, approved)
		if j.Skip != "" {
			continue
		}
		for _, step := range out {
			if !slices.Contains(left, step) {
				left = append(left, step)
			}
		}
		if by != "" && !j.AllowFailure {
			lost[j.Name] = by
		}
	}
	for i := range jobs {
		j := &jobs[i]
		for _, need := range j.Needs {
			if by := lost[need]; by != "" && j.Skip == "" && j.When.On == pipeline.OnSuccess {
				j.Skip = fmt.Sprintf("it needs %s, whose step %s %s", need, by, waitsHere(by))
			}
		}
	}
	return left, nil
}

// checkApproved refuses names that no step has which waits for a person.
func checkApproved(jobs []pipeline.Job, approved []string) error {
	names := manualNames(jobs)
	for _, name := range approved {
		switch {
		case slices.Contains(names, name):
		case len(names) == 0:
			return fmt.Errorf("--approve %s: no step waits for a person", name)
		default:
			return fmt.Errorf("--approve %s: no step of that name waits for a person: those that do are %s", name, strings.Join(names, ", "))
		}
	}
	return nil
}

func manualNames(jobs []pipeline.Job) []string {
	var names []string
	for _, j := range jobs {
		for _, s := range j.Steps {
			if s.When.Manual && !slices.Contains(names, s.Name) {
				names = append(names, s.Name)
			}
		}
	}
	return names
}

// approveSteps gives the manual steps that are left out, and the first of them for which
// the job isn't all that it should be, if any. It goes by the rules of a step that was
// rejected, but that nothing has failed.
func approveSteps(j *pipeline.Job, approved []string) (left []string, by string) {
	j.Steps = slices.Clone(j.Steps)
	lost := make([]string, len(j.Steps)) // the step for which one, or what it waited for, is missing
	for i := range j.Steps {
		s := &j.Steps[i]
		manual := s.When.Manual
		s.When.Manual = false
		lost[i] = lostBefore(j.Steps, lost, i)
		switch {
		case s.Skip != "":
		case lost[i] != "" && s.When.On == pipeline.OnSuccess:
			s.Skip = fmt.Sprintf("it needs %s, which %s", lost[i], waitsHere(lost[i]))
		case manual && !slices.Contains(approved, s.Name):
			s.Skip = "it " + waitsHere(s.Name)
			left = append(left, s.Name)
			// One that is there for a failure isn't missed where nothing failed.
			if lost[i] == "" && s.When.On != pipeline.OnFailure && !s.AllowFailure {
				lost[i] = s.Name
			}
		}
		if by == "" {
			by = lost[i]
		}
	}
	return left, by
}

// lostBefore is the first of what a step waits for that is missing.
func lostBefore(steps []pipeline.Step, lost []string, i int) string {
	for k := range i {
		if lost[k] != "" && (!steps[i].Parallel || slices.Contains(steps[i].Needs, k)) {
			return lost[k]
		}
	}
	return ""
}

func waitsHere(step string) string {
	return "waits for a person: run it with `narwhal run --approve " + fsm.ShellWord(step) + "`"
}
