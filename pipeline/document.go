package pipeline

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// readDocument gives the root of the one YAML document in data, and what each of
// its anchors measures. It is safe to walk: no alias leads back into itself, and written out in full it
// stays within maxNodes, maxExpanded and maxDepth.
//
// yaml.v3 keeps aliases as pointers in a Node tree, so decoding itself costs no
// more than the file's own size allows (about 130 MB at worst for 1 MiB, freed
// at once). Decoding into Go values would multiply; nothing here does.
func readDocument(name string, data []byte) (*yaml.Node, map[*yaml.Node]measure, Errors) {
	if e := checkBytes(data); e != nil {
		e.File = name
		return nil, nil, Errors{*e}
	}
	root, e := decodeOne(data)
	var anchors map[*yaml.Node]measure
	if e == nil {
		anchors, e = measureAll(root)
	}
	if e != nil {
		e.File = name
		return nil, nil, Errors{*e}
	}
	return root, anchors, nil
}

// checkBytes tells what the YAML reader would refuse without saying where.
func checkBytes(data []byte) *Error {
	if len(data) > MaxSize {
		return &Error{Line: 1, Column: 1, Message: fmt.Sprintf(
			"the file has %d bytes: at most %d (1 MiB) are read", len(data), MaxSize)}
	}
	line, column := 1, 1
	for i := 0; i < len(data); {
		c, size := utf8.DecodeRune(data[i:])
		message := ""
		switch {
		case c == utf8.RuneError && size == 1:
			message = "the file is not UTF-8 text"
		case c == 0:
			message = "the file has a NUL byte: it is not text"
		case c < ' ' && c != '\t' && c != '\n' && c != '\r', c == 0x7f, c > 0x7f && c < 0xa0 && c != 0x85,
			c == 0xfeff && i > 0, c == 0xfffe, c == 0xffff:
			message = fmt.Sprintf("control character %U is not allowed", c)
		}
		if message != "" {
			return &Error{Line: line, Column: column, Message: message}
		}
		column++
		if c == '\n' {
			line, column = line+1, 1
		}
		i += size
	}
	return nil
}

func decodeOne(data []byte) (*yaml.Node, *Error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	err := decode(dec, &doc)
	switch {
	case errors.Is(err, io.EOF):
		return nil, &Error{Line: 1, Column: 1, Message: `the file is empty: it needs "steps" or "jobs"`}
	case err != nil:
		return nil, syntaxError(data, err)
	}
	var second yaml.Node
	err = decode(dec, &second)
	switch {
	case err == nil:
		return nil, &Error{Line: second.Line, Column: second.Column,
			Message: "a second YAML document begins here: a file holds one"}
	case !errors.Is(err, io.EOF):
		return nil, syntaxError(data, err)
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == nullTag {
		return nil, &Error{Line: root.Line, Column: root.Column,
			Message: `the file is empty: it needs "steps" or "jobs"`}
	}
	return root, nil
}

// decode turns a panic of the YAML parser, which has had some on hostile input,
// into an error: a file must never take a node down.
func decode(dec *yaml.Decoder, n *yaml.Node) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("yaml: %v", p)
		}
	}()
	return dec.Decode(n)
}

// syntaxError says where and in plainer words. The parser knows the line at
// best, and for some errors not even that.
func syntaxError(data []byte, err error) *Error {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if rest, ok := strings.CutPrefix(message, "line "); ok {
		if number, after, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				line, message = n, after
				if parserMessages[message] {
					line++
				}
			}
		}
	}
	if rest, ok := strings.CutPrefix(message, "unknown anchor '"); ok {
		anchor := strings.TrimSuffix(rest, "' referenced")
		at := max(bytes.Index(data, []byte("*"+anchor)), 0)
		before := data[:at]
		start := bytes.LastIndexByte(before, '\n') + 1
		return &Error{Line: bytes.Count(before, []byte("\n")) + 1, Column: utf8.RuneCount(before[start:]) + 1,
			Message: fmt.Sprintf("*%s has no anchor &%s before it", anchor, anchor)}
	}
	if hint := syntaxHints[message]; hint != "" {
		message += ": " + hint
	}
	return &Error{Line: line, Column: firstColumn(data, line), Message: "not YAML: " + message}
}

// parserMessages come with a line that yaml.v3 counts from 0; the others', which
// are its scanner's, count from 1.
var parserMessages = map[string]bool{
	"did not find expected key":              true,
	"did not find expected '-' indicator":    true,
	"did not find expected ',' or ']'":       true,
	"did not find expected ',' or '}'":       true,
	"did not find expected node content":     true,
	"did not find expected <document start>": true,
}

var syntaxHints = map[string]string{
	"found character that cannot start any token": "indent with spaces, not tabs, and quote what begins with @, ` or %",
	"did not find expected key":                   "look for a wrong indentation or a missing quote here or below",
	"did not find expected '-' indicator":         "look for a wrong indentation here or below",
	"did not find expected node content":          "look for a stray or missing bracket or comma",
	"mapping values are not allowed in this context": "a value that holds \": \" needs quotes, " +
		"and a key its line",
	"found unexpected end of stream": "a quote is not closed",
}

// firstColumn is where the text of a line begins.
func firstColumn(data []byte, line int) int {
	for range line - 1 {
		_, data, _ = bytes.Cut(data, []byte("\n"))
	}
	text, _, _ := bytes.Cut(data, []byte("\n"))
	return len(text) - len(bytes.TrimLeft(text, " ")) + 1
}

// measure is a node's size with all aliases below it written out.
type measure struct{ nodes, bytes, depth int }

// measurer measures each anchor once, so its work is linear in the file.
type measurer struct {
	done map[*yaml.Node]measure // of what has an anchor
	open map[*yaml.Node]bool    // anchored nodes that are being measured
	err  *Error                 // the first limit broken; all stops then
}

func measureAll(root *yaml.Node) (map[*yaml.Node]measure, *Error) {
	m := measurer{done: map[*yaml.Node]measure{}, open: map[*yaml.Node]bool{}}
	m.node(root, 1)
	return m.done, m.err
}

func (m *measurer) node(n *yaml.Node, level int) measure {
	if n.Kind == yaml.AliasNode {
		if m.open[n.Alias] {
			m.fail(n, fmt.Sprintf("*%s is inside the very value that &%s names", n.Value, n.Value))
		}
		return m.done[n.Alias] // an anchor always stands before its aliases
	}
	if level > maxDepth {
		m.fail(n, fmt.Sprintf("nested more than %d deep", maxDepth))
		return measure{}
	}
	if n.Anchor != "" {
		m.open[n] = true
	}
	sum := measure{nodes: 1, bytes: len(n.Value), depth: 1}
	for _, child := range n.Content {
		c := m.node(child, level+1)
		sum.nodes += c.nodes
		sum.bytes += c.bytes
		sum.depth = max(sum.depth, c.depth+1)
		switch {
		case sum.nodes > maxNodes:
			m.fail(child, fmt.Sprintf("with its aliases written out the file has more than %d values", maxNodes))
		case sum.bytes > maxExpanded:
			m.fail(child, fmt.Sprintf("with its aliases written out the file is larger than %d MiB", maxExpanded>>20))
		case sum.depth > maxDepth:
			m.fail(child, fmt.Sprintf("nested more than %d deep", maxDepth))
		}
		if m.err != nil {
			return sum
		}
	}
	if n.Anchor != "" {
		delete(m.open, n)
		m.done[n] = sum
	}
	return sum
}

func (m *measurer) fail(n *yaml.Node, message string) {
	if m.err == nil {
		m.err = &Error{Line: n.Line, Column: n.Column, Message: message}
	}
}
