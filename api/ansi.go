package api

import (
	"html"
	"strconv"
	"strings"
	"unicode/utf8"

	terminal "github.com/buildkite/terminal-to-html/v3"
)

// colours make HTML of a log's lines, one after the other: a colour goes on over the
// lines after it until it is ended, as it does in a terminal. What has been begun
// before the first line that it is given is not known to it.
//
// Of the escapes of a terminal, colours and "erase the line" are followed. All others
// are left out: among them are links and images, with which a log could send its
// reader elsewhere, and movements that write over other lines.
type colours struct {
	open string // the escapes of the style that the last line ended in
}

// maxStyle bounds, in bytes, what is remembered of a style that is only ever added to.
const maxStyle = 256

// line is a line as HTML: text, and spans with the classes of terminal-to-html.
func (c *colours) line(text string) string {
	plain := !strings.ContainsFunc(text, func(r rune) bool { return r != '\t' && (r < ' ' || r >= 0x7f && r < 0xa0) })
	if plain && c.open == "" {
		return html.EscapeString(text)
	}
	begin := c.open
	kept := c.keep(text)
	screen, err := terminal.NewScreen()
	if err != nil {
		return html.EscapeString(kept) // its only options, which we don't give, can be wrong
	}
	_, _ = screen.Write([]byte(begin + kept)) // it never fails
	out := strings.TrimSuffix(screen.AsHTML(), "\n")
	if out == "&nbsp;" {
		return ""
	}
	return out
}

// keep leaves the escapes out that are not followed, and remembers the style.
func (c *colours) keep(text string) string {
	var out strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == 0x1b:
			n := escape(text[i:])
			if seq := text[i : i+n]; followed(seq) {
				seq = ours(seq)
				out.WriteString(seq)
				c.remember(seq)
			}
			i += n
			continue
		case r == '\t', r == '\r', r == '\b', r >= ' ' && r < 0x7f, r >= 0xa0:
			out.WriteString(text[i : i+size])
		}
		i += size
	}
	return out.String()
}

// escape is how long the escape is that a text begins with (ECMA-48, section 5).
func escape(text string) int {
	if len(text) < 2 {
		return len(text)
	}
	i := 2
	switch text[1] {
	case '[': // a control sequence: parameters, then one byte that says what it is
		for i < len(text) && text[i] >= 0x20 && text[i] < 0x40 {
			i++
		}
		return min(i+1, len(text))
	case ']', 'P', 'X', '^', '_': // a string, up to BEL or ESC \
		for ; i < len(text); i++ {
			if text[i] == 0x07 {
				return i + 1
			}
			if text[i] == 0x1b {
				return min(i+2, len(text))
			}
		}
		return len(text)
	}
	for i = 1; i < len(text) && text[i] >= 0x20 && text[i] < 0x30; {
		i++
	}
	if i == len(text) || text[i] >= utf8.RuneSelf {
		return i
	}
	return i + 1
}

// followed reports whether an escape is a colour, or erases (part of) the line.
func followed(seq string) bool {
	if len(seq) < 3 || seq[1] != '[' {
		return false
	}
	args, last := seq[2:len(seq)-1], seq[len(seq)-1]
	return (last == 'm' || last == 'K') && strings.Trim(args, "0123456789;") == ""
}

func (c *colours) remember(seq string) {
	if !strings.HasSuffix(seq, "m") {
		return
	}
	args := seq[2 : len(seq)-1]
	switch {
	case args == "" || strings.Trim(args, "0;") == "":
		c.open = ""
	case strings.HasPrefix(args, "0;"):
		c.open = seq
	case len(c.open)+len(seq) <= maxStyle:
		c.open += seq
	default:
		c.open = seq
	}
}

// ours has the colours of an escape be among the 16 that the style sheet gives a light
// and a dark form, both of which can be read on the page.
func ours(seq string) string {
	if seq[len(seq)-1] != 'm' || !strings.Contains(seq, "8;") {
		return seq
	}
	args := strings.Split(seq[2:len(seq)-1], ";")
	out := args[:0:0]
	for len(args) > 0 {
		code, rest := args[0], args[1:]
		if code == "38" || code == "48" {
			var n int
			n, rest = colour(rest)
			switch {
			case n < 0:
				args = rest
				continue
			case n < 8:
				n += 30
			default:
				n += 90 - 8
			}
			if code == "48" {
				n += 10
			}
			code = strconv.Itoa(n)
		}
		out, args = append(out, code), rest
	}
	if len(out) == 0 {
		return ""
	}
	return "\x1b[" + strings.Join(out, ";") + "m"
}

// colour reads what follows 38 or 48: 5 and one of 256, or 2 and red, green and blue. It
// gives the likest of 16, or -1, and what is left.
func colour(args []string) (int, []string) {
	var v [4]int
	for i := range min(len(args), len(v)) {
		v[i], _ = strconv.Atoi(args[i]) // 0, as terminals take what is left out
	}
	switch {
	case v[0] == 5 && len(args) >= 2:
		n := v[1]
		switch {
		case n < 16:
			return n, args[2:]
		case n < 232: // a cube of 6 by 6 by 6
			n -= 16
			return likest(n/36*51, n/6%6*51, n%6*51), args[2:]
		default:
			grey := (n - 232) * 11
			return likest(grey, grey, grey), args[2:]
		}
	case v[0] == 2 && len(args) >= 4:
		return likest(v[1], v[2], v[3]), args[4:]
	}
	return -1, nil // nobody can tell where it ends
}

// likest is the colour of 16 that has those of red, green and blue which are strong.
func likest(r, g, b int) int {
	top, low := max(r, g, b), min(r, g, b)
	if top-low < 40 { // a grey
		switch {
		case top < 128:
			return 8
		case top < 192:
			return 7
		}
		return 15
	}
	n, middle := 0, (top+low)/2
	for bit, v := range [...]int{r, g, b} {
		if v > middle {
			n |= 1 << bit
		}
	}
	if top > 200 {
		n += 8
	}
	return n
}
