package junit

import (
	"fmt"
	"io"
)

// maxTag is how many bytes a tag with its attributes may have. A decoder takes many
// times that, as it keeps each attribute; a failure's message may be one.
const maxTag = 1 << 20

var errTag = fmt.Errorf("a tag of it is larger than %d bytes", maxTag)

// tags passes on what it reads, until a tag is too large. It doesn't know what is
// a comment or CDATA: a < in one begins a tag for it too, and the next < another.
type tags struct {
	r     io.Reader
	size  int  // of the tag that is open; 0 for none
	quote byte // that is open in the tag
}

func (t *tags) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	for _, b := range p[:n] {
		switch {
		case b == '<':
			t.size, t.quote = 1, 0
		case t.size == 0:
		case t.size == 1 && (b == '!' || b == '?' || b == ' '):
			t.size = 0
		case t.quote != 0:
			if b == t.quote {
				t.quote = 0
			}
			t.size++
		case b == '>':
			t.size = 0
		case b == '"' || b == '\'':
			t.quote = b
			t.size++
		default:
			t.size++
		}
		if t.size > maxTag {
			return 0, errTag
		}
	}
	return n, err
}
