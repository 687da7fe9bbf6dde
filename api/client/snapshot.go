package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/codepr/narwhal/api"
)

// Copy is a node's own copy of the replicated state.
type Copy struct {
	Index uint64 // of the last entry in it
	Hash  string // SHA-256, equal wherever the index is
}

// Copy reads the state of the node that is asked, and gives its hash. A node that does
// not follow the log answers with its leader's.
func (c *Client) Copy(ctx context.Context) (Copy, error) {
	index, state, err := c.snapshot(ctx, nil)
	if err != nil {
		return Copy{}, err
	}
	defer func() { _ = state.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, state); err != nil {
		return Copy{}, fmt.Errorf("read snapshot: %w", err)
	}
	return Copy{Index: index, Hash: hex.EncodeToString(h.Sum(nil))}, nil
}

// Snapshot opens the replicated state as the leader has it now, and tells the index of
// the last entry in it. The caller closes it; a stream that breaks off is an error.
func (c *Client) Snapshot(ctx context.Context) (index uint64, state io.ReadCloser, err error) {
	return c.snapshot(ctx, url.Values{"consistent": {"true"}})
}

func (c *Client) snapshot(ctx context.Context, q url.Values) (index uint64, state io.ReadCloser, err error) {
	resp, err := c.send(ctx, &request{method: http.MethodGet, path: prefix + "/snapshot", query: q}, 0)
	if err != nil {
		return 0, nil, fmt.Errorf("read snapshot: %w", err)
	}
	text := resp.Header.Get(api.HeaderIndex)
	if index, err = strconv.ParseUint(text, 10, 64); err != nil {
		_ = resp.Body.Close()
		return 0, nil, fmt.Errorf("read snapshot: the node answered without an index (%s: %q)", api.HeaderIndex, text)
	}
	return index, resp.Body, nil
}
