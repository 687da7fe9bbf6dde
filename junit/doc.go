// Package junit owns what JUnit XML reports say: it reads those of the tools that
// write them, each in its own dialect, and sums them up as an fsm.TestReport. It
// is pure: where reports lie and who may read them is not its business.
//
// Reports come from jobs, so nothing in one is trusted: size, depth and number are
// bounded, entities that a report defines are never expanded, and what is kept is
// cut to what the replicated state can bear. A report that breaks off counts with
// what it has said until then, and is named in TestReport.Broken.
//
// What a report says is shown to people and kept by all voters, so that secrets are
// taken out of it as it is read, before anything is cut.
//
// Characters that XML forbids, which tools copy from a test's output all the
// same, are read as U+FFFD, and so are bytes that are no UTF-8; unknown entities are
// left as they are written.
//
// Start reading at Reports; flaky.go compares two runs.
package junit
