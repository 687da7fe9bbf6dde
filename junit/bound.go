package junit

import (
	"fmt"
	"slices"

	"github.com/codepr/narwhal/fsm"
)

// bounded brings the sum within what the replicated state can bear. What failed comes
// first.
func (r *Reports) bounded(sum fsm.TestReport) fsm.TestReport {
	sum = bound(sum)
	sum.Passes = r.passes(fsm.MaxReport - sum.Size())
	return sum
}

// bound bounds what the tests say, the first failures first.
func bound(r fsm.TestReport) fsm.TestReport {
	names := fsm.MaxReportNames
	r.Failures = named(r.Failures, &names)
	r.Flaky = named(r.Flaky, &names)
	r.Slowest = named(r.Slowest, &names)
	for i, text := range r.Broken {
		if names -= len(text); names < 0 {
			r.Broken = append(slices.Clone(r.Broken[:i]), "and more")
			break
		}
	}
	texts, short := fsm.MaxReportTexts, 0
	for _, list := range [][]fsm.TestCase{r.Failures, r.Flaky} {
		for i := range list {
			c := &list[i]
			if len(c.Text) > texts {
				c.Text = cut(c.Text, max(texts, len(more)))
				short++
			}
			texts -= len(c.Text)
		}
	}
	if short > 0 {
		r.Broken = append(slices.Clip(r.Broken), fmt.Sprintf("what %d of the tests say is cut short: a report keeps %d KiB of it", short, fsm.MaxReportTexts>>10))
	}
	return r
}

// named are the first tests, in a list of their own, as far as there is room for
// their names.
func named(tests []fsm.TestCase, room *int) []fsm.TestCase {
	for i := range tests {
		size := tests[i].Size() - len(tests[i].Text)
		if *room < size {
			*room = 0 // for what is behind it
			return slices.Clone(tests[:i])
		}
		*room -= size
	}
	return slices.Clone(tests)
}
