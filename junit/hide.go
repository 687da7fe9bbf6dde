package junit

import (
	"bytes"
	"strings"

	"github.com/codepr/narwhal/joblog/mask"
)

// hide takes the secrets out of a text that is whole. It comes before a text is cut
// or its line ends are changed: what is left of a secret then is none of its forms.
func hide(secrets *mask.Set, text string) string {
	return strings.ToValidUTF8(secrets.String(text), "\ufffd")
}

// hidden gathers the beginning of a text that comes in pieces, without its secrets.
// What may be the beginning of one is not in it where the text goes on beyond most.
type hidden struct {
	stream *mask.Stream
	most   int // bytes; a little more may be there
	out    []byte
	began  bool
	full   bool
}

func (h *hidden) add(piece []byte) {
	if !h.began {
		piece = bytes.TrimLeft(piece, "\r\n")
		h.began = len(piece) > 0
	}
	for len(piece) > 0 && !h.full {
		n := min(len(piece), h.most)
		h.out = h.stream.Append(h.out, piece[:n])
		piece = piece[n:]
		h.full = len(h.out) >= h.most
	}
}

// text ends it.
func (h *hidden) text() string {
	if !h.full {
		h.out = h.stream.Close(h.out)
	}
	return strings.ToValidUTF8(strings.TrimRight(string(h.out), " \t\r\n"), "")
}
