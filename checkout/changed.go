package checkout

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/codepr/narwhal/fsm"
)

// maxChanged bounds the paths that Changed answers with; a commit that changes
// more is as good as one that changes everything.
const maxChanged = 20_000

// Changed lists the paths that differ between c.Before and the commit, both sides
// of a rename among them. What a pull request changes is counted from where it left
// its base. known is false where that can't be told, such as for a branch's first
// push, or one that was forced over a commit that is gone.
func (s *Mirrors) Changed(ctx context.Context, c fsm.Commit) (paths []string, known bool, err error) {
	if c.Before == "" {
		return nil, false, nil
	}
	if err := checkSHA(c.Before); err != nil {
		return nil, false, fmt.Errorf("list changed files: %w", err)
	}
	m, err := s.of(c)
	if err != nil {
		return nil, false, err
	}
	ok, err := m.has(ctx, c.Before)
	if err != nil {
		return nil, false, fmt.Errorf("list changed files: %w", err)
	}
	if !ok { // the base of a pull request may be newer than all that was fetched
		before := c
		before.SHA = c.Before
		if m.ensure(ctx, before) != nil {
			return nil, false, nil //nolint:nilerr // the server doesn't have it any more
		}
	}
	span := c.Before + ".." + c.SHA
	if c.Event == fsm.EventPullRequest {
		span = c.Before + "..." + c.SHA
	}
	var out bytes.Buffer
	err = m.git.run(ctx, call{gitDir: m.dir, stdout: &out}, "diff", "--name-only", "--no-renames", "--no-ext-diff", "-z", "--end-of-options", span, "--")
	if err != nil {
		return nil, false, fmt.Errorf("list changed files: %w", locally(err))
	}
	paths = strings.Split(strings.TrimSuffix(out.String(), "\x00"), "\x00")
	if len(paths) > maxChanged {
		return nil, false, nil
	}
	if len(paths) == 1 && paths[0] == "" {
		paths = nil
	}
	return paths, true, nil
}
