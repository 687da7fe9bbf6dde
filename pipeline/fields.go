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

// env reads variables. One without a value is empty, as in the original format.
func (r *reader) env(n *yaml.Node) map[string]string {
	return r.stringMap(n, "env", func(e entry) bool {
		if !isEnvName(e.key) {
			r.errorf(e.at, "env: name %s: use letters, digits and _, the first no digit", quote(e.key))
			return false
		}
		if len(e.value.Value) > maxEnvValue {
			r.errorf(e.value, "env: %s is longer than %d bytes", e.key, maxEnvValue)
			return false
		}
		return true
	})
}

func (r *reader) labels(n *yaml.Node) map[string]string {
	return r.stringMap(n, "labels", func(e entry) bool {
		if !isLabelKey(e.key) {
			r.errorf(e.at, "labels: name %s: use letters, digits and _ . / -, at most 63, the first a letter or digit",
				quote(e.key))
			return false
		}
		_, ok := r.line(e.value, "labels."+e.key, maxNameLen)
		return ok
	})
}

// stringMap reads what passes check, which notes its own errors. Nothing at all
// is an empty map.
func (r *reader) stringMap(n *yaml.Node, what string, check func(entry) bool) map[string]string {
	if n.Kind == yaml.ScalarNode && n.Tag == nullTag {
		return nil
	}
	all, ok := r.entries(n, what)
	if !ok || len(all) == 0 {
		return nil
	}
	m := make(map[string]string, len(all))
	for _, e := range all {
		if !check(e) {
			continue
		}
		if e.value.Kind == yaml.ScalarNode && e.value.Tag == nullTag {
			m[e.key] = ""
			continue
		}
		if s, ok := r.scalar(e.value, what+"."+e.key, "a string"); ok {
			m[e.key] = s
		}
	}
	return m
}

func (r *reader) resources(to *Resources, n *yaml.Node) {
	all, _ := r.entries(n, "resources")
	for _, e := range all {
		switch e.key {
		case "cpu":
			setParsed(r, &to.CPU, e, "resources.cpu", "a number", ParseCPU)
		case "memory":
			setParsed(r, &to.Memory, e, "resources.memory", "a size", parseMemory)
		case "disk":
			setParsed(r, &to.Disk, e, "resources.disk", "a size", ParseSize)
		default:
			r.unknown(e, inResources)
		}
	}
}

func (r *reader) clone(to *Clone, n *yaml.Node) {
	all, _ := r.entries(n, "clone")
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
		default:
			r.unknown(e, inClone)
		}
	}
}

func (r *reader) number(to *int, n *yaml.Node, what string, least, most int) {
	s, ok := r.scalar(n, what, "a whole number")
	if !ok {
		return
	}
	v, err := strconv.Atoi(s)
	if err != nil || v < least || v > most {
		r.errorf(n, "%s: expected a whole number from %d to %d, found %s", what, least, most, quote(s))
		return
	}
	*to = v
}

// boolean takes no yes or on: what these are depends on whom one asks.
func (r *reader) boolean(to *bool, n *yaml.Node, what string) {
	s, ok := r.scalar(n, what, "true or false")
	if !ok {
		return
	}
	if s != "true" && s != "false" {
		r.errorf(n, "%s: expected true or false, found %s", what, quote(s))
		return
	}
	*to = s == "true"
}

func (r *reader) nodeLoss(to *NodeLoss, n *yaml.Node) {
	s, ok := r.scalar(n, "on_node_loss", "rerun or fail")
	if !ok {
		return
	}
	switch v := NodeLoss(s); v {
	case NodeLossRerun, NodeLossFail:
		*to = v
	default:
		r.errorf(n, "on_node_loss: expected rerun or fail, found %s", quote(s))
	}
}
