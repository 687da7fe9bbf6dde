// Package pipeline owns the meaning of a narwhal.yml: which keys there are,
// what each of them defaults to, and what is wrong with a bad file.
//
// It doesn't own what becomes of it: package fsm keeps jobs, the scheduler
// places them and the runner runs their steps. Variables such as ${VAR} are
// not expanded here.
//
// Invariant: Parse is a function of its arguments alone. The same bytes give
// the same Pipeline or the same Errors on every node and in every process, no
// input makes it panic, and its work is bounded by MaxSize and the limits in
// limits.go, whatever the file's anchors multiply to.
//
// Start reading at Parse; read.go walks the file key by key, node.go is what it
// walks with, document.go is what guards both from hostile bytes.
package pipeline

// Options are the operator's, not the file's.
type Options struct {
	// DefaultImage is for files that name none; empty means ubuntu.
	DefaultImage string
}

// Parse reads a file of this name, which only serves to locate errors. The
// error is nil or an Errors with all that is wrong with the file; the Pipeline
// is empty then.
func Parse(name string, data []byte, opts Options) (Pipeline, error) {
	if name == "" {
		name = "narwhal.yml"
	}
	root, errs := readDocument(name, data)
	if len(errs) > 0 {
		return Pipeline{}, errs
	}
	r := reader{file: name}
	p := r.pipeline(root, opts)
	if errs := r.report(); len(errs) > 0 {
		return Pipeline{}, errs
	}
	return p, nil
}
