package pipeline

import (
	"strings"

	"gopkg.in/yaml.v3"
)

// variables finds the env among the keys of a place.
func (r *reader) variables(all []entry) []*variable {
	for _, e := range all {
		if e.key == "env" {
			return r.env(e.value)
		}
	}
	return nil
}

// env reads variables as they are written. One without a value is empty, as in
// the original format.
func (r *reader) env(n *yaml.Node) []*variable {
	if isNull(n) {
		return nil
	}
	all, _ := r.entries(n, "env")
	var vs []*variable
	for _, e := range all {
		v := &variable{name: e.key, at: e.value}
		if !isEnvName(e.key) {
			r.errorf(e.at, "env: name %s: use letters, digits and _, the first no digit", quote(e.key))
			continue
		}
		if reserved(e.key) {
			r.errorf(e.at, "env: %s: %s", short(e.key), reservedHint)
			continue
		}
		if len(e.value.Value) > maxEnvValue {
			r.errorf(e.value, "env: %s is longer than %d bytes", e.key, maxEnvValue)
			continue
		}
		if !isNull(e.value) {
			var ok bool
			if v.text, ok = r.written(e.value, "env."+e.key, "a string"); !ok {
				continue
			}
		}
		if ours(e.key) {
			r.warnf(e.at, "env: %s is set by narwhal itself: this value has no effect", e.key)
		}
		vs = append(vs, v)
	}
	return vs
}

// ours says whether narwhal sets a variable of this name itself.
func ours(name string) bool {
	return name == "CI" || name == "NARWHAL" || strings.HasPrefix(name, "NARWHAL_")
}

// reserved says whether a variable of this name could be mistaken for what a
// ${matrix.x} or ${inputs.x} of a command reaches the shell as.
func reserved(name string) bool {
	return strings.HasPrefix(name, matrixPrefix) || strings.HasPrefix(name, inputPrefix)
}

const reservedHint = "names that begin with MATRIX_ or INPUT_ are kept for the values of the matrix and the inputs: choose another"

// secrets reads names of secrets, each once.
func (r *reader) secrets(n *yaml.Node) []string {
	items, ok := r.items(n, "secrets")
	if ok && len(items) > maxSecrets {
		r.errorf(items[maxSecrets], "secrets: more than %d", maxSecrets)
		return nil
	}
	var all []string
	for _, s := range r.lines(items, "secrets", maxNameLen) {
		switch {
		case !isEnvName(s.text):
			r.errorf(s.at, "secrets: name %s: use letters, digits and _, the first no digit", quote(s.text))
		case ours(s.text):
			r.errorf(s.at, "secrets: %s is set by narwhal itself", s.text)
		case reserved(s.text):
			r.errorf(s.at, "secrets: %s: %s", s.text, reservedHint)
		default:
			all = append(all, s.text)
		}
	}
	return union(nil, all)
}

// union gives the words of both, each once, in their order.
func union(below, above []string) []string {
	var all []string
	seen := make(map[string]bool, len(below)+len(above))
	for _, list := range [][]string{below, above} {
		for _, s := range list {
			if !seen[s] {
				seen[s] = true
				all = append(all, s)
			}
		}
	}
	return all
}
