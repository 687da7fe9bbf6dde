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
	return manualOf(t, file, person{approved: approved})
}

func manualOf(t *testing.T, file string, who person) (runs, reasons []string, err error) {
	t.Helper()
	f, err := pipeline.Read("narwhal.yml", []byte(file), pipeline.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := f.Plan(pipeline.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	if who.job != "" {
		keep, err := wantedJobs(p.Jobs, who.job)
		if err != nil {
			t.Fatal(err)
		}
		p.Jobs = slices.DeleteFunc(p.Jobs, func(j pipeline.Job) bool { return !keep[j.Name] })
	}
	if _, err := who.settle(p.Jobs); err != nil {
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
	if want := `--approve test: nothing of that name waits for a person: what does is ship it, open`; fmt.Sprint(err) != want {
		t.Errorf("got %v", err)
	}
	_, _, err = manualSteps(t, "steps: [{command: x}]", "test")
	if want := `--approve test: nothing waits for a person`; fmt.Sprint(err) != want {
		t.Errorf("got %v", err)
	}
}

const inAChain = `
jobs:
  test: {when: {event: tag}, steps: [{name: test, command: x}]}
  gate: {needs: [test], when: manual, steps: [{name: gate, command: x}]}
  build: {needs: [gate], steps: [{name: build, command: x}, {name: sign, when: manual, command: x}]}
  ship: {needs: [build], when: manual, steps: [{name: ship, command: x}, {name: tell, when: manual, command: x}, {name: told, command: x}]}
`

// TestRunApprovesTheJobItNames: that, and neither other jobs nor any steps.
func TestRunApprovesTheJobItNames(t *testing.T) {
	for _, c := range []struct {
		job      string
		approved []string
		runs     string
		fails    string
	}{
		{"test", nil, "test", ""},
		{"gate", nil, "test, gate", ""},
		{"ship", nil, "", "job ship can't be run: it needs build, whose step sign waits for a person: run it with `narwhal run ship --approve sign`"},
		{"ship", []string{"sign"}, "", "job ship can't be run: it needs build: it needs gate: it waits for a person: run it with `narwhal run ship --approve gate`"},
		{"ship", []string{"gate"}, "", "job ship can't be run: it needs build, whose step sign waits for a person: run it with `narwhal run ship --approve sign`"},
		{"ship", []string{"gate", "sign"}, "test, gate, build, sign, ship", ""},
		{"ship", []string{"gate", "sign", "tell"}, "test, gate, build, sign, ship, tell, told", ""},
		{"ship", []string{"test"}, "", "--approve test: nothing of that name waits for a person: what does is gate, sign, ship, tell"},
		{"", []string{"gate", "sign"}, "test skipped, gate, build, sign, ship skipped", ""},
	} {
		runs, reasons, err := manualOf(t, inAChain, person{c.job, c.approved})
		got := strings.Join(runs, ", ")
		if c.fails == "" && (err != nil || got != c.runs) || c.fails != "" && fmt.Sprint(err) != c.fails {
			t.Errorf("run %s with %q approved runs %s: %v\n%s", c.job, c.approved, got, err, strings.Join(reasons, "\n"))
		}
	}
}
