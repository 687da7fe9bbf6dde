package bundle

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// ErrNotBundle is returned when a file is not a git bundle.
var ErrNotBundle = errors.New("not a git bundle")

// Header is what stands before a bundle's pack.
type Header struct {
	Hash  string            // sha1 or sha256
	Needs []string          // commits that the receiver must have
	Refs  map[string]string // the SHA of each ref
}

const (
	maxHeaderLine  = 4 << 10
	maxHeaderLines = 10_000
)

var oidPattern = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)

// ReadHeader reads a bundle of version 2 or 3 up to its pack, which the second
// result goes on with. Bundles that leave objects out by a filter are refused.
func ReadHeader(r io.Reader) (Header, io.Reader, error) {
	in := bufio.NewReaderSize(r, maxHeaderLine)
	h := Header{Hash: "sha1", Refs: map[string]string{}}
	first, err := headerLine(in)
	if err != nil || first != "# v2 git bundle" && first != "# v3 git bundle" {
		return Header{}, nil, ErrNotBundle
	}
	for range maxHeaderLines {
		line, err := headerLine(in)
		if err != nil {
			return Header{}, nil, err
		}
		if line == "" {
			return h, in, startsPack(in)
		}
		if err := h.read(line); err != nil {
			return Header{}, nil, err
		}
	}
	return Header{}, nil, fmt.Errorf("%w: its header has no end", ErrNotBundle)
}

func headerLine(in *bufio.Reader) (string, error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return "", fmt.Errorf("%w: its header breaks off", ErrNotBundle)
	}
	return string(line[:len(line)-1]), nil
}

func startsPack(in *bufio.Reader) error {
	if magic, err := in.Peek(4); err != nil || string(magic) != "PACK" {
		return fmt.Errorf("%w: it holds no pack", ErrNotBundle)
	}
	return nil
}

func (h *Header) read(line string) error {
	switch {
	case line[0] == '@' && len(h.Refs)+len(h.Needs) > 0:
		return fmt.Errorf("%w: %q comes too late in its header", ErrNotBundle, line)
	case line == "@object-format=sha1":
		return nil
	case line == "@object-format=sha256":
		h.Hash = "sha256"
		return nil
	case line[0] == '@':
		return fmt.Errorf("%w that can be used here: %q", ErrNotBundle, line)
	}
	needed := line[0] == '-'
	oid, name, _ := strings.Cut(strings.TrimPrefix(line, "-"), " ")
	switch {
	case !oidPattern.MatchString(oid) || (len(oid) == 64) != (h.Hash == "sha256"):
		return fmt.Errorf("%w: bad line in its header", ErrNotBundle)
	case needed:
		h.Needs = append(h.Needs, oid)
	case name == "":
		return fmt.Errorf("%w: a ref without a name", ErrNotBundle)
	default:
		h.Refs[name] = oid
	}
	return nil
}
