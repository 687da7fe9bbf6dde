package runner

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/codepr/narwhal/fsm"
)

const (
	// maxOutcome keeps an attempt's end, in bytes, well inside one entry of the
	// replicated log, which takes 256 KiB: a leader can't take what is larger, and
	// it would be reported forever.
	maxOutcome = 216 << 10
	// maxMessage has room for all that can be wrong with a file.
	maxMessage  = 16 << 10
	maxStepName = 256
)

// fit makes an outcome one that the log takes. What it sheds is what is missed least,
// first: what tests say, then their names, then steps; the message tells of it.
func fit(o fsm.Outcome) fsm.Outcome {
	o.Message = clip(o.Message, maxMessage)
	o.Steps = slices.Clone(o.Steps)
	for i := range o.Steps {
		o.Steps[i].Name = clip(o.Steps[i].Name, maxStepName)
	}
	if weight(o) <= maxOutcome {
		return o
	}
	if o.Tests != nil {
		o.Tests = withoutTexts(*o.Tests)
		left := "what the tests say"
		if weight(o) > maxOutcome {
			left = "the tests' names"
			o.Tests = o.Tests.Counts(left + " are left out")
		}
		o.Message = note(o.Message, left+" are left out: with them the result is too large for the cluster's log")
	}
	return shedSteps(o)
}

// shedSteps leaves out steps, those that passed or were skipped before all others
// and of these the last ones first.
func shedSteps(o fsm.Outcome) fsm.Outcome {
	all := o.Steps
	over := weight(o) - maxOutcome
	if over <= 0 || len(all) == 0 {
		return o
	}
	over += 256 // of the note
	nothing := weight(fsm.Outcome{})
	gone := make(map[int]bool)
	for _, dull := range []bool{true, false} {
		for i := len(all) - 1; i >= 0 && over > 0; i-- {
			if (all[i].Status == fsm.Passed || all[i].Status == fsm.Skipped) == dull {
				gone[i] = true
				over -= weight(fsm.Outcome{Steps: all[i : i+1]}) - nothing
			}
		}
	}
	o.Steps = nil
	for i := range all {
		if !gone[i] {
			o.Steps = append(o.Steps, all[i])
		}
	}
	o.Message = note(o.Message, fmt.Sprintf("%d of its %d steps are left out: with them the result is too large for the cluster's log", len(gone), len(all)))
	return o
}

// weight is the size of an outcome in the log, in bytes.
func weight(o fsm.Outcome) int {
	data, err := fsm.EncodeCommand(fsm.Command{FinishAttempt: &fsm.FinishAttempt{Outcome: o}})
	if err != nil { // which the ledger finds too
		return 0
	}
	return len(data)
}

func withoutTexts(r fsm.TestReport) *fsm.TestReport {
	for _, list := range []*[]fsm.TestCase{&r.Failures, &r.Slowest, &r.Flaky} {
		*list = slices.Clone(*list)
		for i := range *list {
			(*list)[i].Text = ""
		}
	}
	return &r
}

func note(message, more string) string {
	if message == "" {
		return more
	}
	return message + "; " + more
}

// clip makes valid UTF-8 of a text, which the log refuses to be without, of most
// bytes at most.
func clip(text string, most int) string {
	text = strings.ToValidUTF8(text, "\ufffd")
	if len(text) <= most {
		return text
	}
	const more = "…"
	cut := most - len(more)
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + more
}
