package junit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// cleaned is a report as UTF-8 in which every character is one that XML allows:
// encoding/xml would give up at the first that isn't.
type cleaned struct {
	in      *bufio.Reader
	latin   bool // the bytes are code points
	pending []byte
}

var encodingPattern = regexp.MustCompile(`^\s*<\?xml[^>]*\sencoding\s*=\s*["']([^"']*)["']`)

// clean looks at the report's first bytes to tell its encoding.
func clean(r io.Reader) (*cleaned, error) {
	c := &cleaned{in: bufio.NewReaderSize(r, 32<<10)}
	head, err := c.in.Peek(1 << 10)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf")):
		_, err = c.in.Discard(3)
		return c, err
	case bytes.HasPrefix(head, []byte("\xff\xfe")) || bytes.HasPrefix(head, []byte("\xfe\xff")) || bytes.HasPrefix(head, []byte("<\x00")) || bytes.HasPrefix(head, []byte("\x00<")):
		return nil, errors.New("its encoding is UTF-16: UTF-8 and ISO-8859-1 can be read")
	}
	declared := encodingPattern.FindSubmatch(head)
	if declared == nil {
		return c, nil
	}
	switch strings.ToLower(string(declared[1])) {
	case "utf-8", "utf8", "us-ascii", "ascii":
	case "iso-8859-1", "latin1", "latin-1", "windows-1252": // the last differs in some quotes and dashes
		c.latin = true
	default:
		return nil, fmt.Errorf("its encoding is %q: UTF-8 and ISO-8859-1 can be read", declared[1])
	}
	return c, nil
}

func (c *cleaned) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(c.pending) == 0 {
			if n > 0 && c.in.Buffered() == 0 {
				return n, nil
			}
			if c.pending, err = c.next(); err != nil {
				return n, err
			}
		}
		k := copy(p[n:], c.pending)
		c.pending = c.pending[k:]
		n += k
	}
	return n, nil
}

// plain are the bytes that need no look at: ASCII without controls and &.
func plain(b byte) bool {
	return b >= 0x20 && b < 0x7f && b != '&' || b == '\n' || b == '\t' || b == '\r'
}

// next gives the next piece: a run of plain bytes, or one character made clean.
// What it gives is good until it is called again.
func (c *cleaned) next() ([]byte, error) {
	if _, err := c.in.Peek(1); err != nil {
		return nil, err
	}
	buf, _ := c.in.Peek(c.in.Buffered())
	n := 0
	for n < len(buf) && plain(buf[n]) {
		n++
	}
	if n > 0 {
		_, err := c.in.Discard(n)
		return buf[:n], err
	}
	if buf[0] == '&' {
		return c.reference()
	}
	if c.latin {
		b, err := c.in.ReadByte()
		return allowed(rune(b)), err
	}
	r, _, err := c.in.ReadRune() // U+FFFD where it is none
	return allowed(r), err
}

// reference gives & itself, but U+FFFD for a number that no character has.
func (c *cleaned) reference() ([]byte, error) {
	const longest = len("&#x0010ffff;")
	buf, _ := c.in.Peek(longest)
	end := bytes.IndexByte(buf, ';')
	if end > 2 && buf[1] == '#' {
		digits, base := string(buf[2:end]), 10
		if hex, ok := strings.CutPrefix(digits, "x"); ok {
			digits, base = hex, 16
		}
		if n, err := strconv.ParseUint(digits, base, 32); err == nil && (n > utf8.MaxRune || !inXML(rune(n))) {
			_, err := c.in.Discard(end + 1)
			return []byte("\ufffd"), err
		}
	}
	_, err := c.in.Discard(1)
	return []byte("&"), err
}

func allowed(r rune) []byte {
	if !inXML(r) {
		r = utf8.RuneError
	}
	return utf8.AppendRune(nil, r)
}

// inXML is the production Char of XML 1.0.
func inXML(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' || r >= 0x20 && r <= 0xd7ff || r >= 0xe000 && r <= 0xfffd || r >= 0x10000 && r <= utf8.MaxRune
}
