// Package pipeline owns the meaning of a narwhal.yml: which keys there are,
// what each of them defaults to, what is wrong with a bad file, and which jobs
// a commit gets of a good one.
//
// It doesn't own what becomes of them: package fsm keeps jobs, the scheduler
// places them and the runner runs their steps. What is known on a node alone,
// such as the checksums in a cache's key, is left in place.
//
// Invariant: Read and Plan are functions of their arguments alone. The same
// bytes and facts give the same Pipeline or the same Errors on every node and
// in every process, no input makes them panic, and their work is bounded by
// MaxSize and the limits in limits.go, whatever the file's anchors, matrices
// and ${…} multiply to.
//
// A file is walked twice by the same code. Read walks it without facts: a value
// that holds a ${…} is checked for the names in it and otherwise left alone.
// Plan walks it again, for each job that a matrix makes, with all of them known.
// Read does so too, for an example of a commit, and only to see how large it gets.
//
// Start reading at Read, then plan.go; table.go has every key there is, job.go
// and step.go read them, scope.go replaces ${…}, node.go is what the file is
// walked with, document.go is what guards all of it from hostile bytes.
package pipeline

// Options are the operator's, not the file's.
type Options struct {
	// DefaultImage is for files that name none; empty means ubuntu.
	DefaultImage string
}

// Read reads a file of this name, which only serves to locate errors, and
// checks all that can be checked without a commit. The error is nil or an
// Errors with all that is wrong with the file; the File is nil then.
func Read(name string, data []byte, opts Options) (*File, error) {
	if name == "" {
		name = "narwhal.yml"
	}
	root, anchors, errs := readDocument(name, data)
	if len(errs) > 0 {
		return nil, errs
	}
	r := reader{file: name, anchors: anchors, budget: maxExpanded}
	f := r.outline(root, opts)
	if !r.full() {
		r.check(f)
	}
	if len(r.found) == 0 {
		r.rehearse(f)
	}
	if errs := r.report(); len(errs) > 0 {
		return nil, errs
	}
	f.Warnings = sorted(r.warned)
	return f, nil
}
