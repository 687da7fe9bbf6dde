package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// person is what one at a laptop has asked for, where nobody else is there to approve.
type person struct {
	job      string // empty for all
	approved []string
}

// settle fits jobs to that. Who names a job wants it now, and what it needs: it is
// approved by that, and no condition keeps any of them out. Other jobs and steps that
// wait for a person go on where they are approved by name. Those that aren't are left
// out, with all that would run only once they have passed; these are told in words, with
// an error too.
func (p person) settle(jobs []pipeline.Job) (left []string, err error) {
	if err := p.check(jobs); err != nil {
		return nil, err
	}
	for i := range jobs {
		j := &jobs[i]
		waits := j.When.Manual && !p.asked(j) && !p.approves(j.Name) && !p.approves(j.Of)
		switch {
		case waits && p.job == "" && j.Skip == "":
			j.Skip = "it waits for a person: run it with `narwhal run " + fsm.ShellWord(j.Name) + "`"
		case waits && p.job != "":
			j.Skip = "it " + p.waits(j.Name)
			left = append(left, "job "+j.Name+" waits for a person, and is left out: "+p.way(j.Name))
		case p.job != "" || j.When.Manual:
			j.When = pipeline.When{On: j.When.On}
			if p.job != "" {
				j.Skip = ""
			}
		}
	}
	for _, step := range p.steps(jobs) {
		left = append(left, "step "+step+" waits for a person, and is left out: "+p.way(step))
	}
	return left, p.possible(jobs)
}

func (p person) asked(j *pipeline.Job) bool {
	return p.job != "" && (j.Name == p.job || j.Of == p.job)
}

func (p person) approves(name string) bool { return slices.Contains(p.approved, name) }

// steps settles the manual steps, and gives those that are left out.
func (p person) steps(jobs []pipeline.Job) (left []string) {
	lost := make(map[string]string) // the step for which a job isn't all that it should be
	for i := range jobs {
		j := &jobs[i]
		out, by := p.approveSteps(j)
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
				j.Skip = fmt.Sprintf("it needs %s, whose step %s %s", need, by, p.waits(by))
			}
		}
	}
	return left
}

// possible is an error where a job that was asked for is left out with what it needs:
// a build without it would pass, and say nothing.
func (p person) possible(jobs []pipeline.Job) error {
	why := make(map[string]string)
	for again := true; again; {
		again = false
		for i := range jobs {
			j := &jobs[i]
			reason := j.Skip
			for _, need := range j.Needs {
				if reason == "" && why[need] != "" && j.When.On == pipeline.OnSuccess {
					reason = fmt.Sprintf("it needs %s: %s", need, why[need])
				}
			}
			if reason != "" && why[j.Name] == "" {
				why[j.Name], again = reason, true
			}
		}
	}
	for i := range jobs {
		if j := &jobs[i]; p.asked(j) && why[j.Name] != "" {
			return fmt.Errorf("job %s can't be run: %s", j.Name, why[j.Name])
		}
	}
	return nil
}

// check refuses names of which nothing waits for a person.
func (p person) check(jobs []pipeline.Job) error {
	names := manualNames(jobs)
	for _, name := range p.approved {
		switch {
		case slices.Contains(names, name):
		case len(names) == 0:
			return fmt.Errorf("--approve %s: nothing waits for a person", name)
		default:
			return fmt.Errorf("--approve %s: nothing of that name waits for a person: what does is %s", name, strings.Join(names, ", "))
		}
	}
	return nil
}

// manualNames are those of jobs, of matrices, and of steps.
func manualNames(jobs []pipeline.Job) []string {
	var names []string
	add := func(name string) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, j := range jobs {
		if j.When.Manual {
			add(j.Of)
			add(j.Name)
		}
		for _, s := range j.Steps {
			if s.When.Manual {
				add(s.Name)
			}
		}
	}
	return names
}

// approveSteps gives the manual steps that are left out, and the first of them for which
// the job isn't all that it should be, if any. It goes by the rules of a step that was
// rejected, but that nothing has failed.
func (p person) approveSteps(j *pipeline.Job) (left []string, by string) {
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
			s.Skip = fmt.Sprintf("it needs %s, which %s", lost[i], p.waits(lost[i]))
		case manual && !p.approves(s.Name):
			s.Skip = "it " + p.waits(s.Name)
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

func (p person) waits(name string) string { return "waits for a person: " + p.way(name) }

// way is how it is approved.
func (p person) way(name string) string {
	run := "narwhal run "
	if p.job != "" {
		run += fsm.ShellWord(p.job) + " "
	}
	return "run it with `" + run + "--approve " + fsm.ShellWord(name) + "`"
}
