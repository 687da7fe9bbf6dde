package pipeline

import (
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// name is a word of the file and where it stands.
type name struct {
	text string
	at   *yaml.Node
}

// names reads a list of one-line strings.
func (r *reader) names(n *yaml.Node, what string) []name {
	items, ok := r.items(n, what)
	if !ok {
		return nil
	}
	return r.lines(items, what, maxPackage)
}

// some reads one string or a list of at least one, and at most so many.
func (r *reader) some(n *yaml.Node, what string, length, most int) []name {
	if n.Kind != yaml.SequenceNode {
		if s, ok := r.scalar(n, what, "a string or a list of strings"); ok && r.oneLine(n, what, s, length) {
			return []name{{s, n}}
		}
		return nil
	}
	items, ok := r.items(n, what)
	switch {
	case !ok:
		return nil
	case len(items) == 0:
		r.errorf(n, "%s: is empty", what)
	case len(items) > most:
		r.errorf(items[most], "%s: more than %d", what, most)
		return nil
	}
	return r.lines(items, what, length)
}

func (r *reader) lines(items []*yaml.Node, what string, length int) []name {
	var all []name
	for _, item := range items {
		if s, ok := r.line(item, what, length); ok {
			all = append(all, name{s, item})
		}
	}
	return all
}

// texts are the words alone.
func textsOf(all []name) []string {
	var words []string
	for _, n := range all {
		words = append(words, n.text)
	}
	return words
}

// word reads one of some words.
func (r *reader) word(n *yaml.Node, what string, words []string, more ...string) (string, bool) {
	expected := oneOf(append(slices.Clone(words), more...))
	s, ok := r.scalar(n, what, expected)
	if !ok {
		return "", false
	}
	if !slices.Contains(words, s) {
		r.errorf(n, "%s: %s", what, notOne(s, words, more...))
		return "", false
	}
	return s, true
}

// notOne says which words were expected, and which was probably meant.
func notOne(s string, words []string, more ...string) string {
	message := fmt.Sprintf("expected %s, found %s", oneOf(append(slices.Clone(words), more...)), quote(s))
	if meant := suggest(s, words); meant != "" {
		message += fmt.Sprintf(": did you mean %q?", meant)
	}
	return message
}

func oneOf(words []string) string {
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
