package sketch

import (
	"io/fs"
	"regexp"
	"strings"
)

// dir is the root of a repository.
type dir struct{ fs.FS }

// has says whether there is a file or folder of this name.
func (d dir) has(name string) bool {
	_, err := fs.Stat(d, name)
	return err == nil
}

// first gives the first of some files that is there, or nothing.
func (d dir) first(names ...string) string {
	for _, name := range names {
		if d.has(name) {
			return name
		}
	}
	return ""
}

// some says whether a glob fits anything.
func (d dir) some(globs ...string) bool {
	for _, glob := range globs {
		if found, err := fs.Glob(d, glob); err == nil && len(found) > 0 {
			return true
		}
	}
	return false
}

// text gives a file as far as it is of interest, or nothing.
func (d dir) text(name string) string {
	const most = 256 << 10
	data, err := fs.ReadFile(d, name)
	if err != nil {
		return ""
	}
	return string(data[:min(most, len(data))])
}

// find gives what the first group of a regular expression fits in a file, or the
// fallback.
func (d dir) find(name, expression, fallback string) string {
	m := regexp.MustCompile(expression).FindStringSubmatch(d.text(name))
	if m == nil {
		return fallback
	}
	return strings.TrimSpace(m[1])
}
