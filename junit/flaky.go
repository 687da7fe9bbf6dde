package junit

import (
	"slices"

	"github.com/codepr/narwhal/fsm"
)

// Flaky are the tests that failed in one of two runs of the same job at the same
// commit and passed in the other, in a's order and then b's, each once; with those
// that either run has found to be so by itself.
//
// A report names only its failures, so that a test passed in a run which has told
// all of its failures, has run as many tests as the other, skipped no more than it
// and doesn't name that one. Where that isn't known, nothing is called flaky.
func Flaky(a, b fsm.TestReport) []fsm.TestCase {
	var out []fsm.TestCase
	for _, c := range slices.Concat(a.Flaky, b.Flaky, onlyIn(a, b), onlyIn(b, a)) {
		if !listed(out, c) {
			out = append(out, c)
		}
	}
	return out
}

// onlyIn are the failures of a that passed in b.
func onlyIn(a, b fsm.TestReport) (out []fsm.TestCase) {
	whole := len(b.Broken) == 0 && len(b.Failures) == b.Failed
	if !whole || total(b) < total(a) || b.Skipped > a.Skipped {
		return nil
	}
	for _, c := range a.Failures {
		if !listed(b.Failures, c) {
			out = append(out, c)
		}
	}
	return out
}

func total(r fsm.TestReport) int { return r.Passed + r.Failed + r.Skipped }

func listed(list []fsm.TestCase, c fsm.TestCase) bool {
	return slices.ContainsFunc(list, func(l fsm.TestCase) bool { return l.Suite == c.Suite && l.Name == c.Name })
}
