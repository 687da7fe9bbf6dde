package pipeline

import (
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// setParsed reads a scalar by parse into to.
func setParsed[T any](r *reader, to *T, e entry, what, expected string, parse func(string) (T, error)) {
	s, ok := r.scalar(e.value, what, expected)
	if !ok {
		return
	}
	v, err := parse(s)
	if err != nil {
		r.errorf(e.value, "%s: %s: %v", what, quote(s), err)
		return
	}
	*to = v
}

func (r *reader) image(n *yaml.Node) (string, bool) {
	s, ok := r.line(n, "image", maxImageLen)
	if ok && (strings.ContainsAny(s, " \t") || s[0] == '-') {
		r.errorf(n, "image: %s is no image reference", quote(s))
		return "", false
	}
	return s, ok
}

func (r *reader) labels(n *yaml.Node) map[string]string {
	if isNull(n) {
		return nil
	}
	all, ok := r.entries(n, "labels")
	if !ok || len(all) == 0 {
		return nil
	}
	m := make(map[string]string, len(all))
	for _, e := range all {
		if !isLabelKey(e.key) {
			r.errorf(e.at, "labels: name %s: use letters, digits and _ . / -, at most 63, the first a letter or digit",
				quote(e.key))
			continue
		}
		if s, ok := r.line(e.value, "labels."+e.key, maxNameLen); ok {
			m[e.key] = s
		}
	}
	return m
}

func (r *reader) resources(to *Resources, n *yaml.Node) {
	all, _ := r.fields(n, "resources", inResources)
	for _, e := range all {
		switch e.key {
		case "cpu":
			setParsed(r, &to.CPU, e, "resources.cpu", "a number", ParseCPU)
		case "memory":
			setParsed(r, &to.Memory, e, "resources.memory", "a size", parseMemory)
		case "disk":
			setParsed(r, &to.Disk, e, "resources.disk", "a size", ParseSize)
		}
	}
}

func (r *reader) clone(to *Clone, n *yaml.Node) {
	all, _ := r.fields(n, "clone", inClone)
	for _, e := range all {
		switch e.key {
		case "depth":
			r.number(&to.Depth, e.value, "clone.depth", 0, maxCloneDepth)
		case "submodules":
			r.boolean(&to.Submodules, e.value, "clone.submodules")
		case "lfs":
			r.boolean(&to.LFS, e.value, "clone.lfs")
		case "skip":
			r.boolean(&to.Skip, e.value, "clone.skip")
		}
	}
}

// number reads a whole number. It answers false where to is left as it was.
func (r *reader) number(to *int, n *yaml.Node, what string, least, most int) bool {
	s, ok := r.scalar(n, what, "a whole number")
	if !ok {
		return false
	}
	v, err := strconv.Atoi(s)
	if err != nil || v < least || v > most {
		r.errorf(n, "%s: expected a whole number from %d to %d, found %s", what, least, most, quote(s))
		return false
	}
	*to = v
	return true
}

// boolean takes no yes or on: what these are depends on whom one asks. A ${…}
// that comes to nothing is false.
func (r *reader) boolean(to *bool, n *yaml.Node, what string) {
	s, ok := r.scalar(n, what, "true or false")
	if !ok {
		return
	}
	if s == "" && hasRefs(n.Value) {
		s = "false" // a value that only some combinations of a matrix have
	}
	if s != "true" && s != "false" {
		r.errorf(n, "%s: expected true or false, found %s", what, quote(s))
		return
	}
	*to = s == "true"
}
