package fsm

import "time"

// TestReport sums up an attempt's JUnit reports.
type TestReport struct {
	Passed  int           `json:"passed"`
	Failed  int           `json:"failed"` // failures and errors
	Skipped int           `json:"skipped"`
	Time    time.Duration `json:"time"`
	// Failures are those that failed, the first MaxFailures of them.
	Failures []TestCase `json:"failures,omitempty"`
	// Slowest are the slowest ones, the first MaxSlowest of them.
	Slowest []TestCase `json:"slowest,omitempty"`
	// Flaky are those that failed and then passed in the same attempt, the first
	// MaxFlaky of them.
	Flaky []TestCase `json:"flaky,omitempty"`
	// Passes tell which tests passed, and did not fail as well: the first MaxPasses of
	// the hashes of their names, each of four bytes, ascending. They are package junit's,
	// which compares runs by them, and nothing to show.
	Passes []byte `json:"-" cbor:"passes,omitempty"`
	// Broken says what is not in it, and why: reports that could not be read, and
	// what was left out.
	Broken []string `json:"broken,omitempty"`
}

// Counts is the report without a word from the tests, for the reason why.
func (r *TestReport) Counts(why string) *TestReport {
	return &TestReport{Passed: r.Passed, Failed: r.Failed, Skipped: r.Skipped, Time: r.Time, Broken: []string{why}}
}

// TestCase is a test as a report names it.
type TestCase struct {
	Suite string        `json:"suite,omitempty"`
	Name  string        `json:"name"`
	Time  time.Duration `json:"time"`
	Text  string        `json:"text,omitempty"` // of the failure, at most MaxFailureText bytes
}

// What a TestReport holds at most, since it is replicated: all voters have all
// builds that are kept in memory.
const (
	MaxFailures    = 50
	MaxSlowest     = 10
	MaxFlaky       = 20
	MaxPasses      = 4096
	MaxFailureText = 2 << 10

	MaxReportTexts = 16 << 10 // bytes of all its texts
	MaxReportNames = 12 << 10 // of what Size counts beside them
	MaxReport      = 32 << 10 // of Size
	// MaxBuildReports is what the reports of all attempts of a build may have together,
	// in bytes of Size. Of more the counts alone are kept.
	MaxBuildReports = 128 << 10
)

// testCost is what a test takes beside its names and text, in bytes.
const testCost = 48

// Size is about what a test takes in the state, in bytes.
func (c *TestCase) Size() int { return testCost + len(c.Suite) + len(c.Name) + len(c.Text) }

// Size is about what the report takes in the state, in bytes.
func (r *TestReport) Size() int {
	n := sizeOf(r.Failures) + sizeOf(r.Slowest) + sizeOf(r.Flaky) + len(r.Passes)
	for _, text := range r.Broken {
		n += len(text)
	}
	return n
}

func sizeOf(tests []TestCase) int {
	n := 0
	for i := range tests {
		n += tests[i].Size()
	}
	return n
}
