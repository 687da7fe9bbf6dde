package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/codepr/narwhal/api"
)

// Snapshot opens the replicated state as the leader has it now, and tells the index of
// the last entry in it. The caller closes it; a stream that breaks off is an error.
func (c *Client) Snapshot(ctx context.Context) (index uint64, state io.ReadCloser, err error) {
	q := url.Values{"consistent": {"true"}}
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
