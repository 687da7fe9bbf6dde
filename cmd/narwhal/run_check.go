package main

import (
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/codepr/narwhal/pipeline"
)

// check reads the file as it lies here, before anything is started: what is wrong
// with it is said at once, and so are inputs that it doesn't ask for. Where there is
// none in the folder, such as in one below the checkout's root, the plan finds out.
func (o *runOptions) check(inputs map[string]string, p *printer) error {
	for _, name := range fileNames {
		data, err := readSome(filepath.Join(o.dir, name), pipeline.MaxSize+1)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		file, err := pipeline.Read(name, data, pipeline.Options{DefaultImage: o.image})
		if all, ok := errors.AsType[pipeline.Errors](err); ok {
			for _, e := range all {
				p.say("%s", p.err.paint(red, plain(e.Error())))
			}
			return exitError{code: exitFailed}
		}
		if err != nil {
			return err
		}
		for _, w := range file.Warnings {
			p.say("%s:%d:%d: warning: %s", w.File, w.Line, w.Column, plain(w.Message))
		}
		return checkInputNames(file.Inputs, inputs)
	}
	return nil
}

func checkInputNames(asked []pipeline.Input, given map[string]string) error {
	var names []string
	for _, in := range asked {
		names = append(names, in.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		switch {
		case slices.Contains(names, name):
		case len(names) == 0:
			return usage("--input %s: the file asks for no inputs", name)
		default:
			return usage("--input %s: the file doesn't ask for it, but for %s", name, strings.Join(names, ", "))
		}
	}
	return nil
}

// noJob is a JOB that the plan doesn't have.
type noJob struct {
	name string
	have []string
}

func (e *noJob) Error() string {
	return "there is no job \"" + e.name + "\": there are " + strings.Join(e.have, ", ")
}
