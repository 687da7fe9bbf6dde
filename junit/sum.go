package junit

import (
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog/mask"
)

const (
	maxName   = 256 // bytes of a test's or suite's name
	maxBroken = 20  // reports that are named
	maxReason = 300 // bytes of why one could not be read
)

// Reports sums up the reports of one attempt. Its zero value has none.
type Reports struct {
	// Secrets are hidden in all that the sum says; nil hides nothing.
	Secrets *mask.Set

	sum    fsm.TestReport
	failed map[[2]string]bool // those that failed; true once one of that name passed
	passed []uint32           // hashes of those that passed
	broken int
	tests  int
	any    bool
}

var errTooMany = fmt.Errorf("there are more than %d tests", MaxTests)

// Add reads a report; name is what people know it by. It doesn't fail: one that
// can't be read to its end is noted, and counts with the tests that it has told
// until then.
func (r *Reports) Add(name string, in io.Reader) {
	r.any = true
	tests := r.tests
	err := parse(in, r.Secrets, r.found)
	syntax, isSyntax := errors.AsType[*xml.SyntaxError](err)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) || isSyntax && syntax.Msg == "unexpected EOF":
		r.Broken(name, fmt.Errorf("it breaks off after %d tests", r.tests-tests))
	case err != nil && r.tests > tests:
		r.Broken(name, fmt.Errorf("after %d tests: %w", r.tests-tests, err))
	case err != nil:
		r.Broken(name, err)
	}
}

// Broken notes a report that could not even be opened.
func (r *Reports) Broken(name string, reason error) {
	r.any = true
	if r.broken++; r.broken <= maxBroken {
		r.sum.Broken = append(r.sum.Broken, cut(oneLine(hide(r.Secrets, name)), maxName)+": "+cut(oneLine(hide(r.Secrets, reason.Error())), maxReason))
	}
}

// Report is the sum; nil where no report was added.
func (r *Reports) Report() *fsm.TestReport {
	if !r.any {
		return nil
	}
	sum := r.sum
	if n := r.broken - len(sum.Broken); n > 0 {
		sum.Broken = append(slices.Clone(sum.Broken), fmt.Sprintf("and %d more", n))
	}
	sum = r.bounded(sum)
	return &sum
}

// Parse reads one report; its error is that of a report that can't be read to its
// end, with what it has told until then.
func Parse(in io.Reader) (fsm.TestReport, error) {
	var r Reports
	err := parse(in, nil, r.found)
	return r.bounded(r.sum), err
}

func (r *Reports) found(c testCase) error {
	if r.tests++; r.tests > MaxTests {
		return errTooMany
	}
	suite, name := oneLine(c.Suite), oneLine(c.Name)
	c.Suite, c.Name = cut(suite, maxName), cut(name, maxName)
	c.known = c.Suite == suite && c.Name == name && name != ""
	if c.Name == "" {
		c.Name = "(without a name)"
	}
	c.Text = cut(c.Text, fsm.MaxFailureText)
	r.sum.Time += c.Time
	switch c.result {
	case skipped:
		r.sum.Skipped++
		return nil
	case failed:
		r.fail(c)
	case passed:
		r.pass(c)
	}
	if c.Time > 0 {
		c.Text = ""
		r.sum.Slowest = insert(r.sum.Slowest, c.TestCase)
	}
	return nil
}

func (r *Reports) fail(c testCase) {
	r.sum.Failed++
	if len(r.sum.Failures) < fsm.MaxFailures {
		r.sum.Failures = append(r.sum.Failures, c.TestCase)
	}
	if r.failed == nil {
		r.failed = make(map[[2]string]bool)
	}
	if key := [2]string{c.Suite, c.Name}; !r.failed[key] {
		r.failed[key] = false
	}
}

// pass also sees a test that failed before and was run again, of which tools make
// a second one of the same name. Its failure stays: two tests may have one name.
func (r *Reports) pass(c testCase) {
	r.sum.Passed++
	if c.known {
		r.passed = append(r.passed, hash(c.Suite, c.Name))
	}
	key := [2]string{c.Suite, c.Name}
	if again, before := r.failed[key]; before && !again && c.known {
		r.failed[key] = true
		c.flaky, c.Text = true, ""
	}
	if c.flaky && len(r.sum.Flaky) < fsm.MaxFlaky {
		r.sum.Flaky = append(r.sum.Flaky, c.TestCase)
	}
}

// insert keeps the slowest, the slowest first; of two that are as slow the one that
// was there.
func insert(slowest []fsm.TestCase, c fsm.TestCase) []fsm.TestCase {
	i, _ := slices.BinarySearchFunc(slowest, c, func(a, b fsm.TestCase) int {
		return cmp.Or(cmp.Compare(b.Time, a.Time), -1)
	})
	if i == fsm.MaxSlowest {
		return slowest
	}
	slowest = slices.Insert(slowest, i, c)
	return slowest[:min(len(slowest), fsm.MaxSlowest)]
}

// more stands at the end of what was cut.
const more = "…"

// cut shortens a text to n bytes without breaking a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n -= len(more); n > 0 && !utf8.RuneStart(s[n]); n-- {
	}
	return s[:n] + more
}

func oneLine(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s))
}
