package checkout

import (
	"context"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/codepr/narwhal/fsm"
)

// What Describe answers with at most, in bytes.
const (
	maxSubject = 200
	maxAuthor  = 100
)

// Describe reads who wrote a commit, which Ensure has brought, and its message's first
// line. Both are made fit to be shown: without what a terminal or a page would obey.
func (s *Mirrors) Describe(ctx context.Context, c fsm.Commit) (message, author string, err error) {
	m, err := s.of(c)
	if err != nil {
		return "", "", err
	}
	kind, data, err := m.contents(ctx, c.SHA)
	if err != nil {
		return "", "", fmt.Errorf("read commit %s: %w", short(c.SHA), err)
	}
	if kind != "commit" {
		return "", "", fmt.Errorf("read commit %s: it is a %s: %w", short(c.SHA), kind, ErrInvalid)
	}
	message, author = describe(string(data))
	return message, author, nil
}

// describe reads a commit object: headers, an empty line, the message.
func describe(object string) (message, author string) {
	headers, text, _ := strings.Cut(object, "\n\n")
	for line := range strings.SplitSeq(headers, "\n") {
		if who, ok := strings.CutPrefix(line, "author "); ok {
			name, _, _ := strings.Cut(who, "<")
			author = tame(name, maxAuthor)
			break
		}
	}
	subject, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return tame(subject, maxSubject), author
}

// tame makes a line of what a stranger wrote.
func tame(text string, limit int) string {
	text = text[:min(len(text), 4*limit)] // the rest could not be in the result
	text = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "")))
	if len(text) <= limit {
		return text
	}
	const more = "…"
	cut := limit - len(more)
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + more
}
