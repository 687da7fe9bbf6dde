// Package mask hides secret values in what passes through it: each, and each of
// the forms in which programs print it, becomes Stars. It owns which forms these
// are (see forms) and how they are found in a stream that comes in pieces. It
// doesn't own which values are secret.
//
// Invariant: what a Stream has given holds none of the forms, however the input
// was cut into pieces; what may still become one is held back.
//
// Start reading at Stream.
package mask

import "strings"

// Stars stand for a secret.
const Stars = "***"

// Shortest is the length in bytes below which a value is not masked: it would
// hide half the log, and be guessed from the other half.
const Shortest = 4

// Set is a set of forms as an Aho-Corasick automaton. It doesn't change. A nil
// Set masks nothing.
type Set struct {
	nodes []node
	roots [256]int32
	// pairs has a bit for each two bytes that a form begins with: a look at it
	// passes over nearly all of a log.
	pairs [1 << 16 / 64]uint64
}

// node is a prefix of a form. Its children are a list, since nearly all have one.
type node struct {
	child, next int32 // 0 is none, as the root is nobody's
	fail        int32 // the longest proper suffix that is a prefix too
	depth       int32
	match       int32 // length of the longest form that ends here; 0 where none does
	by          byte
}

// New makes the set of the values' forms. It is nil where there are none.
func New(values []string) *Set {
	s := &Set{nodes: make([]node, 1, 256)}
	for _, value := range values {
		for _, form := range forms(value) {
			s.add(form)
		}
	}
	if len(s.nodes) == 1 {
		return nil
	}
	s.link()
	return s
}

func (s *Set) add(form string) {
	pair := uint(form[0])<<8 | uint(form[1])
	s.pairs[pair/64] |= 1 << (pair % 64)
	at := int32(0)
	for i := range len(form) {
		to := s.child(at, form[i])
		if to == 0 {
			to = int32(len(s.nodes))
			n := node{by: form[i], depth: int32(i) + 1}
			if at == 0 {
				s.roots[form[i]] = to
			} else {
				n.next, s.nodes[at].child = s.nodes[at].child, to
			}
			s.nodes = append(s.nodes, n)
		}
		at = to
	}
	s.nodes[at].match = s.nodes[at].depth
}

func (s *Set) child(at int32, by byte) int32 {
	if at == 0 {
		return s.roots[by]
	}
	to := s.nodes[at].child
	for to != 0 && s.nodes[to].by != by {
		to = s.nodes[to].next
	}
	return to
}

// link sets where each node fails to, and what ends there too, nodes nearer to
// the root first.
func (s *Set) link() {
	queue := make([]int32, 0, len(s.nodes))
	for _, root := range s.roots {
		if root != 0 {
			queue = append(queue, root)
		}
	}
	for i := 0; i < len(queue); i++ {
		at := queue[i]
		for to := s.nodes[at].child; to != 0; to = s.nodes[to].next {
			fail := s.step(s.nodes[at].fail, s.nodes[to].by)
			s.nodes[to].fail = fail
			s.nodes[to].match = max(s.nodes[to].match, s.nodes[fail].match)
			queue = append(queue, to)
		}
	}
}

func (s *Set) step(at int32, by byte) int32 {
	for {
		if to := s.child(at, by); to != 0 || at == 0 {
			return to
		}
		at = s.nodes[at].fail
	}
}

// String masks a text that is whole.
func (s *Set) String(text string) string {
	if s == nil {
		return text
	}
	in := Stream{set: s}
	return string(in.Close(in.Append(nil, []byte(text))))
}

// Stream masks what comes in pieces. Its methods are called by one at a time.
type Stream struct {
	set  *Set
	at   int32
	held []byte // the end of the input that has not been given
	from int64  // where held begins in the input
	// spans are the parts of held that are secret, in order and apart.
	spans []span
}

type span struct {
	start, end int64
	said       bool // its stars were given: it began before held does
}

// Stream begins a stream; one of a nil Set gives all as it is.
func (s *Set) Stream() *Stream { return &Stream{set: s} }

// Append adds to out what is certain after the next piece of input.
func (t *Stream) Append(out, piece []byte) []byte {
	if t.set == nil {
		return append(out, piece...)
	}
	for len(piece) > 0 {
		if t.at == 0 { // and so nothing is held
			n := t.set.plain(piece)
			out = append(out, piece[:n]...)
			t.from += int64(n)
			if piece = piece[n:]; len(piece) == 0 {
				break
			}
		}
		t.at = t.set.step(t.at, piece[0])
		t.held = append(t.held, piece[0])
		piece = piece[1:]
		if n := t.set.nodes[t.at].match; n > 0 {
			t.cover(t.from+int64(len(t.held)), int64(n))
		}
		if t.at == 0 {
			out = t.give(out, len(t.held))
		}
	}
	return t.give(out, len(t.held)-int(t.set.nodes[t.at].depth))
}

// Close adds what was held back: the input has ended.
func (t *Stream) Close(out []byte) []byte {
	out = t.give(out, len(t.held))
	t.at = 0
	return out
}

// plain is the length of what no form begins in.
func (s *Set) plain(piece []byte) int {
	for i := 1; i < len(piece); i++ {
		pair := uint(piece[i-1])<<8 | uint(piece[i])
		if s.pairs[pair/64]&(1<<(pair%64)) != 0 {
			return i - 1
		}
	}
	if s.roots[piece[len(piece)-1]] != 0 {
		return len(piece) - 1
	}
	return len(piece)
}

// cover marks the n bytes before end. One that overlaps those before joins them.
func (t *Stream) cover(end, n int64) {
	fresh := span{start: end - n, end: end}
	for len(t.spans) > 0 {
		last := t.spans[len(t.spans)-1]
		if last.end <= fresh.start {
			break
		}
		fresh.start, fresh.said = min(fresh.start, last.start), last.said
		t.spans = t.spans[:len(t.spans)-1]
	}
	t.spans = append(t.spans, fresh)
}

// give moves the first n bytes that are held to out, with stars for the spans.
func (t *Stream) give(out []byte, n int) []byte {
	to, at := t.from+int64(n), t.from
	done := 0
	for i := range t.spans {
		s := &t.spans[i]
		if s.start >= to {
			break
		}
		out = append(out, t.held[at-t.from:s.start-t.from]...)
		if !s.said {
			out = append(out, Stars...)
		}
		if at = s.end; at > to {
			s.start, s.said, at = to, true, to
			break
		}
		done++
	}
	out = append(out, t.held[at-t.from:n]...)
	t.held = t.held[:copy(t.held, t.held[n:])]
	t.spans = t.spans[:copy(t.spans, t.spans[done:])]
	t.from = to
	return out
}

func longEnough(form string) bool {
	return len(form) >= Shortest && strings.Trim(form, " \t\r\n") != ""
}
