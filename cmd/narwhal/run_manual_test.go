package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/codepr/narwhal/pipeline"
)

// manualSteps reads a file and gives what is left of its jobs where only these steps
// are approved: the steps that run, and why others don't. A job that is skipped is one.
func manualSteps(t *testing.T, file string, approved ...string) (runs, reasons []string, err error) {
	t.Helper()
	f, err := pipeline.Read("narwhal.yml", []byte(file), pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := f.Plan(pipeline.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := laptopSteps(p.Jobs, false, approved); err != nil {
		return nil, nil, err
	}
	for _, j := range p.Jobs {
		if j.Skip != "" {
			runs, reasons = append(runs, j.Name+" skipped"), append(reasons, j.Skip)
			continue
		}
		for _, s := range j.Steps {
			switch {
			case s.When.Manual:
				t.Errorf("step %s waits for a person", s.Name)
			case s.Skip == "":
				runs = append(runs, s.Name)
			default:
				reasons = append(reasons, s.Name+": "+s.Skip)
			}
		}
	}
	return runs, reasons, nil
}

const inARow = `
jobs:
  a:
    steps:
      - {name: test, command: x}
      - {name: ship it, when: manual, command: x}
      - {name: smoke, command: x}
      - {name: tell, when: always, command: x}
      - {name: cry, when: on_failure, command: x}
      - {name: open, when: manual, needs: [smoke], command: x}
      - {name: beside, needs: [test], command: x}
      - {name: last, command: x}
  b: {needs: [a], steps: [{name: b, command: x}]}
  c: {needs: [b], steps: [{name: c, command: x}]}
  d: {needs: [a], when: always, steps: [{name: d, command: x}]}
`

func TestRunLeavesOutManualSteps(t *testing.T) {
	for _, c := range []struct {
		file     string
		approved []string
		runs     string
	}{
		{inARow, nil, "test, tell, cry, beside, b skipped, c, d"},
		{inARow, []string{"ship it"}, "test, ship it, smoke, tell, cry, beside, b skipped, c, d"},
		{inARow, []string{"open"}, "test, tell, cry, beside, b skipped, c, d"},
		{inARow, []string{"open", "ship it"}, "test, ship it, smoke, tell, cry, open, beside, last, b, c, d"},
		// Who may fail holds nobody up.
		{strings.ReplaceAll(inARow, "when: manual", "when: manual, allow_failure: true"), nil, "test, smoke, tell, cry, beside, last, b, c, d"},
		{strings.Replace(inARow, "  a:\n", "  a:\n    allow_failure: true\n", 1), nil, "test, tell, cry, beside, b, c, d"},
	} {
		runs, reasons, err := manualSteps(t, c.file, c.approved...)
		if got := strings.Join(runs, ", "); err != nil || got != c.runs {
			t.Errorf("with %q approved these run: %s; want %s (%v)\n%s", c.approved, got, c.runs, err, strings.Join(reasons, "\n"))
		}
	}
	_, reasons, _ := manualSteps(t, inARow, "open")
	for _, want := range []string{
		"ship it: it waits for a person: run it with `narwhal run --approve 'ship it'`",
		"smoke: it needs ship it, which waits for a person: run it with `narwhal run --approve 'ship it'`",
		"it needs a, whose step ship it waits for a person: run it with `narwhal run --approve 'ship it'`",
	} {
		if !slices.Contains(reasons, want) {
			t.Errorf("there is no reason %q in\n%s", want, strings.Join(reasons, "\n"))
		}
	}
}

func TestRunApprovesOnlyManualSteps(t *testing.T) {
	_, _, err := manualSteps(t, inARow, "test")
	if want := `--approve test: no step of that name waits for a person: those that do are ship it, open`; fmt.Sprint(err) != want {
		t.Errorf("got %v", err)
	}
	_, _, err = manualSteps(t, "steps: [{command: x}]", "test")
	if want := `--approve test: no step waits for a person`; fmt.Sprint(err) != want {
		t.Errorf("got %v", err)
	}
}
