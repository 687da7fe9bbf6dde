package junit

import (
	"slices"

	"github.com/codepr/narwhal/fsm"
)

// Flaky are the tests that failed in one of two runs of the same job at the same
// commit and passed in the other, in a's order and then b's, each once; with those
// that either run has found to be so by itself.
//
// A test counts only where a report names it as failed, and the other knows that it
// passed: one that was skipped there, or not run, is not flaky. Both know a bounded
// number of tests, so that some that are may be missed.
func Flaky(a, b fsm.TestReport) []fsm.TestCase {
	var out []fsm.TestCase
	for _, c := range slices.Concat(a.Flaky, b.Flaky, onlyIn(&a, &b), onlyIn(&b, &a)) {
		if !listed(out, c) {
			out = append(out, c)
		}
	}
	return out
}

// onlyIn are the failures of a that passed in b.
func onlyIn(a, b *fsm.TestReport) (out []fsm.TestCase) {
	for i := range a.Failures {
		if passedIn(b, &a.Failures[i]) {
			out = append(out, a.Failures[i])
		}
	}
	return out
}

func listed(list []fsm.TestCase, c fsm.TestCase) bool {
	return slices.ContainsFunc(list, func(l fsm.TestCase) bool { return l.Suite == c.Suite && l.Name == c.Name })
}
