package checkout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	maxHeadsBytes = 4 << 20 // of what a server lists
	headsWithin   = 30 * time.Second
)

// Head is what a branch or tag of a remote points at.
type Head struct {
	Ref string `json:"ref"` // such as "refs/heads/main"
	SHA string `json:"sha"` // a commit's, also for an annotated tag
}

// Heads asks a remote for its branches and tags, as a fetch would reach it, and brings
// nothing. They come in the order of their names, branches first. What git allows in no
// ref is left out. It works where there is no mirror of it.
func (s *Mirrors) Heads(ctx context.Context, url string) ([]Head, error) {
	r, err := parseRemote(url, s.cfg.Protocols)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, headsWithin)
	defer cancel()
	out := &bounded{limit: maxHeadsBytes}
	// Its own empty HOME is no repository: nothing of one is read.
	err = s.git.run(ctx, call{gitDir: s.git.home, remote: &r, stdout: out}, "ls-remote", "--quiet", "--heads", "--tags", "--end-of-options", r.url)
	switch {
	case out.full:
		return nil, fmt.Errorf("list the heads of %s: more than %d MiB of them: %w", scrub(url), maxHeadsBytes>>20, ErrInvalid)
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("list the heads of %s: no answer within %s: %w", scrub(url), headsWithin, ErrTransport)
	case err != nil:
		return nil, fmt.Errorf("list the heads of %s: %w", scrub(url), err)
	}
	return parseHeads(out.kept.String()), nil
}

// parseHeads reads what git ls-remote lists: "<oid>\t<ref>", and for an annotated tag
// the commit that it names in the line behind, as "<oid>\t<ref>^{}".
func parseHeads(text string) []Head {
	var heads []Head
	for line := range strings.Lines(text) {
		sha, ref, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !ok || checkSHA(sha) != nil {
			continue
		}
		if tag, peeled := strings.CutSuffix(ref, "^{}"); peeled {
			if n := len(heads); n > 0 && heads[n-1].Ref == tag {
				heads[n-1].SHA = sha
			}
			continue
		}
		if checkRef(ref) == nil && (strings.HasPrefix(ref, "refs/heads/") || strings.HasPrefix(ref, "refs/tags/")) {
			heads = append(heads, Head{Ref: ref, SHA: sha})
		}
	}
	return heads
}

// bounded keeps what is written up to a limit, and refuses more. Its buffer is not
// embedded for excerpt's reason.
type bounded struct {
	kept  bytes.Buffer
	limit int
	full  bool
}

var errFull = errors.New("that is too much")

func (b *bounded) Write(p []byte) (int, error) {
	if b.kept.Len()+len(p) > b.limit {
		b.full = true
		return 0, errFull
	}
	return b.kept.Write(p)
}
