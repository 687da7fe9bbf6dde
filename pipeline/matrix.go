package pipeline

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// axis is a list of a matrix.
type axis struct {
	key    string
	values []string
}

// combination is a value for each of some keys.
type combination map[string]string

// matrix reads a matrix and gives the jobs that it makes, in their order. Of one
// that has errors it gives one job, so that the job's own errors are found too.
func (r *reader) matrix(job string, n *yaml.Node) []instance {
	before := len(r.found)
	all, ok := r.entries(n, "matrix")
	if !ok {
		return []instance{{name: job}}
	}
	var axes []axis
	var include, exclude []combination
	var added, left []string // keys of include and of exclude
	for _, e := range all {
		switch e.key {
		case "include":
			include, added = r.combinations(e.value, "matrix.include")
		case "exclude":
			exclude, left = r.combinations(e.value, "matrix.exclude")
		default:
			axes = append(axes, r.axis(e))
		}
	}
	keys := r.matrixKeys(n, axes, added, left)
	if len(r.found) == before {
		combinations := expandMatrix(axes, include, exclude)
		switch {
		case len(combinations) == 0:
			r.errorf(n, "matrix: no combination is left")
		case len(combinations) > maxJobs:
			r.errorf(n, "matrix: %d combinations: at most %d are allowed", len(combinations), maxJobs)
		default:
			return r.instances(job, n, keys, combinations)
		}
	}
	one := instance{name: job, values: make(map[string]string, len(keys))}
	for _, k := range keys {
		one.values[k] = ""
	}
	return []instance{one}
}

func (r *reader) axis(e entry) axis {
	a := axis{key: e.key}
	items, ok := r.items(e.value, "matrix."+short(e.key))
	if ok && len(items) == 0 {
		r.errorf(e.value, "matrix.%s: is empty", short(e.key))
	}
	if len(items) > maxJobs {
		r.errorf(e.value, "matrix.%s: %d values: at most %d are allowed", short(e.key), len(items), maxJobs)
		return a
	}
	for _, item := range items {
		s, ok := r.matrixValue(item, "matrix."+short(e.key))
		if ok && slices.Contains(a.values, s) {
			r.errorf(item, "matrix.%s: %s is there twice", short(e.key), quote(s))
		}
		a.values = append(a.values, s)
	}
	return a
}

// matrixValue reads a value: it is in a job's name, so it is short and one line.
func (r *reader) matrixValue(n *yaml.Node, what string) (string, bool) {
	s, ok := r.scalar(n, what, "a string, a number or a boolean")
	if !ok || s == "" {
		return s, ok
	}
	return s, r.oneLine(n, what, s, maxNameLen)
}

// combinations reads include or exclude, and gives the keys in them too.
func (r *reader) combinations(n *yaml.Node, what string) (all []combination, keys []string) {
	items, _ := r.items(n, what)
	if len(items) > maxMatrixItems {
		r.errorf(items[maxMatrixItems], "%s: more than %d", what, maxMatrixItems)
		return nil, nil
	}
	seen := make(map[string]bool)
	for _, item := range items {
		entries, ok := r.entries(item, what)
		if ok && len(entries) == 0 {
			r.errorf(item, "%s: is empty", what)
		}
		c := combination{}
		for _, e := range entries {
			if !seen[e.key] {
				seen[e.key] = true
				keys = append(keys, e.key)
			}
			if s, ok := r.matrixValue(e.value, what+"."+short(e.key)); ok {
				c[e.key] = s
			}
		}
		all = append(all, c)
	}
	return all, keys
}

// matrixKeys gives the keys that there are, lists first, and sees that they are
// fit to be variables, that exclude names lists, and that the lists stay within
// their limits.
func (r *reader) matrixKeys(n *yaml.Node, axes []axis, added, left []string) []string {
	var keys []string
	lists := make(map[string]bool, len(axes))
	count := 1
	for _, a := range axes {
		lists[a.key] = true
		keys = append(keys, a.key)
		count = min(count*len(a.values), maxMatrixValues+1)
	}
	for _, k := range added {
		if len(keys) <= maxMatrixKeys && !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	for _, k := range left {
		if !lists[k] {
			r.errorf(n, "matrix.exclude: %s is none of its lists", quote(k))
		}
	}
	variables := make(map[string]string)
	for _, k := range keys {
		variable := variableOf(matrixPrefix, k)
		switch {
		case !matrixNames.fit(k, maxJobName):
			r.errorf(n, "matrix: name %s: use letters, digits, _ . and -, at most %d, the first a letter", quote(k), maxJobName)
		case variables[variable] != "":
			r.errorf(n, "matrix: %s and %s would both be %s in a step", quote(variables[variable]), quote(k), variable)
		}
		variables[variable] = k
	}
	switch {
	case len(keys) == 0:
		r.errorf(n, "matrix: is empty: it needs a list of values")
	case len(keys) > maxMatrixKeys:
		r.errorf(n, "matrix: more than %d names", maxMatrixKeys)
	case count > maxMatrixValues:
		r.errorf(n, "matrix: its lists make more than %d combinations", maxMatrixValues)
	}
	return keys
}

// expandMatrix gives the combinations of the lists, the last list turning
// fastest, without those that an exclude fits. Then each include is laid over the
// combinations of the lists that agree with it in every value of a list; one that
// no combination agrees with, or where there is none, is a combination itself.
func expandMatrix(axes []axis, include, exclude []combination) []combination {
	var all []combination
	if len(axes) > 0 {
		all = []combination{{}}
	}
	original := make(map[string]bool, len(axes))
	for _, a := range axes {
		original[a.key] = true
		var longer []combination
		for _, c := range all {
			for _, v := range a.values {
				one := maps.Clone(c)
				one[a.key] = v
				longer = append(longer, one)
			}
		}
		all = longer
	}
	all = slices.DeleteFunc(all, func(c combination) bool {
		return slices.ContainsFunc(exclude, func(ex combination) bool {
			return len(ex) > 0 && agrees(c, ex, nil)
		})
	})
	lists := len(all)
	for _, in := range include {
		placed := false
		for _, c := range all[:lists] {
			if agrees(c, in, original) {
				maps.Copy(c, in)
				placed = true
			}
		}
		if !placed {
			all = append(all, maps.Clone(in))
		}
	}
	return all
}

// agrees says whether c has the values of wish, as far as its keys are of some.
func agrees(c, wish combination, of map[string]bool) bool {
	for k, v := range wish {
		if have, ok := c[k]; (of == nil || of[k]) && (!ok || have != v) {
			return false
		}
	}
	return true
}

// instances names the jobs of combinations by their values, and by their keys too
// where that doesn't tell them apart.
func (r *reader) instances(job string, n *yaml.Node, keys []string, all []combination) []instance {
	for _, withKeys := range []bool{false, true} {
		seen := make(map[string]bool, len(all))
		var made []instance
		for _, c := range all {
			one := instance{name: instanceName(job, keys, c, withKeys), values: make(map[string]string, len(keys)), given: c}
			for _, k := range keys {
				one.values[k] = c[k]
			}
			seen[one.name] = true
			made = append(made, one)
		}
		if len(seen) == len(all) {
			return made
		}
	}
	r.errorf(n, "matrix: include makes a combination that is there already")
	return []instance{{name: job, values: all[0]}}
}

func instanceName(job string, keys []string, c combination, withKeys bool) string {
	var words []string
	for _, k := range keys {
		v, ok := c[k]
		switch {
		case !ok:
			continue
		case v == "":
			v = `""`
		}
		if withKeys {
			v = k + " " + v
		}
		words = append(words, v)
	}
	return fmt.Sprintf("%s (%s)", job, strings.Join(words, ", "))
}
