package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
)

// Secrets lists secrets, without their values: those that the repository's jobs can
// name, or all where it is empty.
func (c *Client) Secrets(ctx context.Context, repo string) ([]api.Secret, error) {
	out, err := get[struct {
		Secrets []api.Secret `json:"secrets"`
	}](ctx, c, "/secrets", ofRepo(repo))
	return out.Secrets, err
}

// SetSecret keeps a secret for a repository, or for all where it is empty.
func (c *Client) SetSecret(ctx context.Context, repo, name, value string) error {
	return c.put(ctx, "/secrets/"+url.PathEscape(name), repo, map[string]string{"value": value})
}

// RemoveSecret forgets a secret.
func (c *Client) RemoveSecret(ctx context.Context, repo, name string) error {
	return c.remove(ctx, "/secrets/"+url.PathEscape(name), ofRepo(repo))
}

// SetRegistry keeps the credentials of an image registry.
func (c *Client) SetRegistry(ctx context.Context, repo, host string, credentials api.Credentials) error {
	return c.put(ctx, "/registries/"+url.PathEscape(host), repo, credentials)
}

// RemoveRegistry forgets the credentials of an image registry.
func (c *Client) RemoveRegistry(ctx context.Context, repo, host string) error {
	return c.remove(ctx, "/registries/"+url.PathEscape(host), ofRepo(repo))
}

// Approve lets a job go on that waits for a person; Reject ends it.
func (c *Client) Approve(ctx context.Context, job fsm.JobID) (api.Job, error) {
	return post[api.Job](ctx, c, "/jobs/"+job.String()+"/approve", "")
}

// Reject ends a job that waits for a person.
func (c *Client) Reject(ctx context.Context, job fsm.JobID) (api.Job, error) {
	return post[api.Job](ctx, c, "/jobs/"+job.String()+"/reject", "")
}

// DecideStep approves or rejects a manual step of a job's attempt. It is refused where
// another attempt is on its way by then.
func (c *Client) DecideStep(ctx context.Context, job fsm.JobID, attempt int, step string, approve bool) (api.Job, error) {
	var out api.Job
	verb := "/reject"
	if approve {
		verb = "/approve"
	}
	err := c.call(ctx, &request{
		method: http.MethodPost, path: prefix + "/jobs/" + job.String() + verb, query: url.Values{"attempt": {strconv.Itoa(attempt)}, "step": {step}},
	}, &out)
	return out, err
}

func ofRepo(repo string) url.Values {
	if repo == "" {
		return nil
	}
	return url.Values{"repo": {repo}}
}

// put and remove may be sent twice: the second time changes nothing.
func (c *Client) put(ctx context.Context, path, repo string, v any) error {
	body, size, err := jsonBody(v)
	if err != nil {
		return err
	}
	return c.call(ctx, &request{
		method: http.MethodPut, path: prefix + path, query: ofRepo(repo), key: NewKey(), kind: "application/json", body: body, size: size,
	}, nil)
}

func (c *Client) remove(ctx context.Context, path string, query url.Values) error {
	return c.call(ctx, &request{method: http.MethodDelete, path: prefix + path, query: query}, nil)
}
