package pipeline

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

const (
	nullTag  = "!!null"
	mergeTag = "!!merge"
)

// plainTags are the types that YAML gives to what people write without a tag.
var plainTags = map[yaml.Kind][]string{
	yaml.ScalarNode:   {"!!str", "!!int", "!!float", "!!bool", "!!timestamp", nullTag, mergeTag},
	yaml.MappingNode:  {"!!map"},
	yaml.SequenceNode: {"!!seq"},
}

// reader walks a measured document and collects what is wrong with it. Its
// methods answer false, with the error noted, where a value is not usable.
type reader struct {
	file   string
	found  Errors
	known  map[Error]bool // what is in found
	warned Errors
	// anchors are the sizes of what has an anchor, wherever in the file it stands.
	anchors map[*yaml.Node]measure
	// scope is what ${…} may name where the reader is; nil where nothing is
	// replaced.
	scope   *scope
	budget  int        // bytes that may still be written in the place of references
	spent   *yaml.Node // where they were used up, which has been told
	globbed int        // work of comparing globs so far
	deep    int        // variables that are being worked out, each for the one before
	paths   bool       // some when asks for changed paths
}

// in reads in a scope.
func (r *reader) in(sc *scope, read func()) {
	before := r.scope
	r.scope = sc
	read()
	r.scope = before
}

func (r *reader) errorf(n *yaml.Node, format string, args ...any) {
	if r.full() {
		return
	}
	e := Error{File: r.file, Line: n.Line, Column: n.Column, Message: fmt.Sprintf(format, args...)}
	if r.known[e] {
		return // what stands at the top is read for every job
	}
	if r.known == nil {
		r.known = make(map[Error]bool)
	}
	r.known[e] = true
	r.found = append(r.found, e)
}

// aside reads something whose errors don't count.
func (r *reader) aside(read func()) {
	found, known := r.found, r.known
	r.found, r.known = nil, nil
	read()
	r.found, r.known = found, known
}

func (r *reader) warnf(n *yaml.Node, format string, args ...any) {
	e := Error{File: r.file, Line: n.Line, Column: n.Column, Message: fmt.Sprintf(format, args...)}
	if len(r.warned) < maxErrors && !slices.Contains(r.warned, e) {
		r.warned = append(r.warned, e)
	}
}

func (r *reader) full() bool { return len(r.found) >= maxFound }

func (r *reader) report() Errors { return sorted(r.found) }

// entry is a key of a map with its value, which is no alias.
type entry struct {
	key   string
	at    *yaml.Node // the key's place
	value *yaml.Node
}

// resolve follows an alias. An alias never leads to another.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// kind names what was found, for people.
func kind(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a map"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == nullTag:
		return "nothing"
	case n.Tag == "!!bool":
		return "a boolean"
	case n.Tag == "!!int" || n.Tag == "!!float":
		return "a number"
	}
	return "a string"
}

// usable refuses tags such as !!binary, which would change what a value means.
func (r *reader) usable(n *yaml.Node, what string) bool {
	if n.Style&yaml.TaggedStyle != 0 && !slices.Contains(plainTags[n.Kind], n.ShortTag()) {
		r.errorf(n, "%s: tag %s is not read: remove it", what, quote(n.Tag))
		return false
	}
	return true
}

// entries gives a map's keys in the order of the file, with merge keys (<<)
// written out in their place and x- keys left out.
func (r *reader) entries(n *yaml.Node, what string) ([]entry, bool) {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		r.errorf(n, "%s: expected a map, found %s", what, kind(n))
		return nil, false
	}
	if !r.usable(n, what) {
		return nil, false
	}
	all := r.merged(n, what)
	return slices.DeleteFunc(all, func(e entry) bool { return strings.HasPrefix(e.key, "x-") }), true
}

// fields gives a map's entries as far as they are keys of a place. What else
// there is is noted as an error.
func (r *reader) fields(n *yaml.Node, what string, in *place) ([]entry, bool) {
	all, ok := r.entries(n, what)
	known := all[:0]
	for _, e := range all {
		if in.has(e.key) {
			known = append(known, e)
		} else {
			r.unknown(e, in)
		}
	}
	return known, ok
}

// merged gives a map's entries. Its own keys win over merged ones, and the
// first of several merged maps over the later ones.
func (r *reader) merged(n *yaml.Node, what string) []entry {
	own := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := resolve(n.Content[i])
		if key.Kind != yaml.ScalarNode || key.Tag == nullTag {
			r.errorf(n.Content[i], "%s: a key must be a string, found %s", what, kind(key))
			continue
		}
		if line, twice := own[key.Value]; twice {
			r.errorf(n.Content[i], "%s: duplicate key %s: it is also at line %d", what, quote(key.Value), line)
			continue
		}
		own[key.Value] = n.Content[i].Line
	}
	var all []entry
	seen := make(map[string]bool, len(own))
	for i := 0; i+1 < len(n.Content); i += 2 {
		at, value := n.Content[i], resolve(n.Content[i+1])
		key := resolve(at)
		if key.Kind != yaml.ScalarNode || key.Tag == nullTag {
			continue
		}
		if key.Tag == mergeTag {
			for _, e := range r.mergeValue(value, what) {
				if _, mine := own[e.key]; !mine && !seen[e.key] {
					seen[e.key] = true
					all = append(all, e)
				}
			}
			continue
		}
		if !seen[key.Value] {
			seen[key.Value] = true
			all = append(all, entry{key.Value, at, value})
		}
	}
	return all
}

// mergeValue gives the entries of what stands at <<: a map or a list of maps.
// It ends because the document is no deeper than maxDepth with aliases followed.
func (r *reader) mergeValue(n *yaml.Node, what string) []entry {
	sources := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		sources = n.Content
	}
	var all []entry
	for _, source := range sources {
		source = resolve(source)
		if source.Kind != yaml.MappingNode {
			r.errorf(source, "%s: << expected a map or a list of maps, found %s", what, kind(source))
			continue
		}
		all = append(all, r.merged(source, what)...)
	}
	return all
}

// items gives a list's values.
func (r *reader) items(n *yaml.Node, what string) ([]*yaml.Node, bool) {
	n = resolve(n)
	if n.Kind != yaml.SequenceNode {
		r.errorf(n, "%s: expected a list, found %s", what, kind(n))
		return nil, false
	}
	if !r.usable(n, what) {
		return nil, false
	}
	items := make([]*yaml.Node, len(n.Content))
	for i, item := range n.Content {
		items[i] = resolve(item)
	}
	return items, true
}

// scalar gives a value as it is written, 1.10 stays 1.10 and yes stays yes, but
// for its references, which are replaced. It answers false without an error where
// a reference's value isn't known yet.
func (r *reader) scalar(n *yaml.Node, what, expected string) (string, bool) {
	s, ok := r.written(n, what, expected)
	if !ok {
		return "", false
	}
	return r.expand(resolve(n), what, s)
}

// written gives a value as it is written.
func (r *reader) written(n *yaml.Node, what, expected string) (string, bool) {
	n = resolve(n)
	if n.Kind != yaml.ScalarNode || n.Tag == nullTag {
		r.errorf(n, "%s: expected %s, found %s", what, expected, kind(n))
		return "", false
	}
	if !r.usable(n, what) {
		return "", false
	}
	if strings.ContainsRune(n.Value, 0) {
		r.errorf(n, "%s: a NUL character is not allowed", what)
		return "", false
	}
	return n.Value, true
}

// line gives a string of one line with something in it.
func (r *reader) line(n *yaml.Node, what string, most int) (string, bool) {
	s, ok := r.scalar(n, what, "a string")
	return s, ok && r.oneLine(n, what, s, most)
}

// oneLine sees that s, which stands at n, is a line with something in it.
func (r *reader) oneLine(n *yaml.Node, what, s string, most int) bool {
	n = resolve(n)
	switch {
	case strings.TrimSpace(s) == "":
		r.errorf(n, "%s: is empty", what)
	case len(s) > most:
		r.errorf(n, "%s: is longer than %d bytes", what, most)
	case strings.ContainsFunc(s, isControl):
		r.errorf(n, "%s: %s holds a line break or a control character", what, quote(s))
	default:
		return true
	}
	return false
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == nullTag }
