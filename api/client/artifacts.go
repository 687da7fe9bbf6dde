package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
)

// Tests is what a build's JUnit reports say.
func (c *Client) Tests(ctx context.Context, id fsm.BuildID) (api.BuildTests, error) {
	return get[api.BuildTests](ctx, c, "/builds/"+number(id)+"/tests", nil)
}

// Artifacts lists the files that a job left; attempt 0 is the newest that left
// something.
func (c *Client) Artifacts(ctx context.Context, job fsm.JobID, attempt int) (api.ArtifactList, error) {
	return get[api.ArtifactList](ctx, c, "/jobs/"+job.String()+"/artifacts", ofAttempt(attempt))
}

// Archive opens all that a job left, as tar under zstd. The caller closes it.
func (c *Client) Archive(ctx context.Context, job fsm.JobID, attempt int) (io.ReadCloser, error) {
	return c.open(ctx, "/jobs/"+job.String()+"/artifacts/archive", ofAttempt(attempt))
}

// Artifact opens one file that a job left, by its path in the list. The caller
// closes it.
func (c *Client) Artifact(ctx context.Context, job fsm.JobID, attempt int, path string) (io.ReadCloser, error) {
	q := ofAttempt(attempt)
	q.Set("path", path)
	return c.open(ctx, "/jobs/"+job.String()+"/artifacts/file", q)
}

func ofAttempt(n int) url.Values {
	q := url.Values{}
	if n > 0 {
		q.Set("attempt", strconv.Itoa(n))
	}
	return q
}

// open sends a request whose answer is bytes. One that ends early is an error, since
// its length is known.
func (c *Client) open(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	resp, err := c.send(ctx, &request{method: http.MethodGet, path: prefix + path, query: query}, 0)
	if err != nil {
		return nil, fmt.Errorf("download: %w", err)
	}
	return resp.Body, nil
}
