// Package client is the Go client of a cluster's REST API. It owns how nodes are
// found and found again: addresses tried in turn, writes followed to the leader,
// broken streams resumed. What travels is in package api.
//
// Invariant: the token goes to the addresses that the caller gave, and to the hosts
// that one of them named as the leader or, for a stream, as the other nodes, and nowhere
// else.
//
// Start reading at Client.send.
package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/codepr/narwhal/api"
)

// ErrUnreachable is returned when none of the addresses takes connections.
var ErrUnreachable = errors.New("no node answers")

// errLeaderAway says that a node named a leader which does not answer: it may have
// died, and the others have not elected another yet.
var errLeaderAway = errors.New("the leader does not answer")

const (
	maxRedirects   = 3
	maxAnswer      = 64 << 20 // bytes of JSON
	maxProblem     = 64 << 10
	defaultPatient = 15 * time.Second
	pause          = 500 * time.Millisecond
)

// Config is how a cluster is reached.
type Config struct {
	// Addrs are base URLs of nodes, such as "http://127.0.0.1:9797". One is enough.
	Addrs []string
	// Token is the API token, nwa_….
	Token string
	// Patience is how long requests that may be sent again are, while the cluster
	// has no leader; default 15s.
	Patience time.Duration
	// Transport is for tests; default http.DefaultTransport's like.
	Transport http.RoundTripper
}

// Client talks to one cluster. Its methods may be called from any goroutine.
type Client struct {
	addrs    []*url.URL
	token    string
	patience time.Duration
	http     *http.Client
	seen     atomic.Uint64              // the newest index of an answer: reads wait for it
	wrote    atomic.Bool                // something was changed
	others   atomic.Pointer[[]*url.URL] // nodes that were learned of; nil for none
}

// New makes a client. It connects to nothing.
func New(config Config) (*Client, error) {
	c := &Client{token: config.Token, patience: config.Patience}
	if c.patience == 0 {
		c.patience = defaultPatient
	}
	for _, addr := range config.Addrs {
		if !strings.Contains(addr, "://") {
			addr = "http://" + addr
		}
		u, err := url.Parse(strings.TrimRight(addr, "/"))
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" {
			return nil, fmt.Errorf("address %q: want one such as http://127.0.0.1:9797", addr)
		}
		c.addrs = append(c.addrs, u)
	}
	if len(c.addrs) == 0 {
		return nil, errors.New("no address of a node is given")
	}
	transport := config.Transport
	if transport == nil {
		transport = http.DefaultTransport.(*http.Transport).Clone()
	}
	c.http = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// NewKey makes an Idempotency-Key.
func NewKey() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails: it ends the process instead
	return hex.EncodeToString(b)
}

// request is one that may be sent several times.
type request struct {
	method string
	path   string
	query  url.Values
	key    string // Idempotency-Key
	header http.Header
	kind   string                        // Content-Type
	body   func() (io.ReadCloser, error) // nil for none
	size   int64
}

// again reports whether sending it twice does no harm.
func (r *request) again() bool { return r.method == http.MethodGet || r.key != "" }

// call sends a request until it is answered, and decodes the answer. The error is an
// *api.Problem where a node refused it.
func (c *Client) call(ctx context.Context, r *request, out any) error {
	deadline := time.Now().Add(c.patience)
	for try := 0; ; try++ {
		resp, err := c.send(ctx, r, try) //nolint:bodyclose // decode closes it
		if err == nil {
			if r.method != http.MethodGet {
				c.wrote.Store(true)
			}
			return decode(resp, out)
		}
		var p *api.Problem
		temporary := errors.As(err, &p) && p.Status == http.StatusServiceUnavailable && r.again() ||
			errors.Is(err, errLeaderAway) && (r.again() || refused(err))
		if !temporary || time.Now().After(deadline) {
			return err
		}
		if !wait(ctx, pause) {
			return ctx.Err()
		}
	}
}

// send tries the addresses in turn. Each try begins with another one: a node that is
// cut off from the majority answers, but can't help. An answer that is not 2xx is an
// error, and its body closed.
func (c *Client) send(ctx context.Context, r *request, try int) (*http.Response, error) {
	var failed []error
	addrs := c.addrs
	if more := c.others.Load(); more != nil {
		addrs = slices.Concat(addrs, *more)
	}
	for i := range addrs {
		addr := addrs[(try+i)%len(addrs)]
		resp, err := c.sendTo(ctx, addr, r)
		if err == nil {
			c.note(resp)
			return check(resp)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		failed = append(failed, err)
		if !r.again() && !refused(err) {
			break // it may have arrived
		}
	}
	return nil, fmt.Errorf("%w: %w", ErrUnreachable, errors.Join(failed...))
}

// sendTo sends to one node, and on to the leader that it names.
func (c *Client) sendTo(ctx context.Context, addr *url.URL, r *request) (*http.Response, error) {
	target := *addr.JoinPath(r.path)
	target.RawQuery = c.withIndex(r).Encode()
	for hop := range maxRedirects {
		req, err := c.build(ctx, &target, r)
		if err != nil {
			return nil, err
		}
		resp, err := c.do(req, r)
		if err != nil && hop > 0 {
			return nil, fmt.Errorf("%w: %w", errLeaderAway, err)
		}
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusTemporaryRedirect {
			return resp, nil
		}
		_ = resp.Body.Close()
		next, err := resp.Location()
		if err != nil || next.Host != resp.Header.Get(api.HeaderLeader) {
			return nil, fmt.Errorf("node %s sends elsewhere, and not to a leader", target.Host)
		}
		target = *next
	}
	return nil, fmt.Errorf("%w: the nodes send from one to another", errLeaderAway)
}

// withIndex has a read wait until the node that is asked knows all that this client
// has been told: a node that follows the log is a moment behind the leader, and
// would not know the build that was just made there.
func (c *Client) withIndex(r *request) url.Values {
	seen := c.seen.Load()
	if r.method != http.MethodGet || seen == 0 {
		return r.query
	}
	q := url.Values{"index": {strconv.FormatUint(seen, 10)}}
	for key, values := range r.query {
		q[key] = values
	}
	return q
}

// Settle waits until the node that this client asks first knows all that the client
// has written: what another client reads there next has it. It is no error where that
// node can't be asked.
func (c *Client) Settle(ctx context.Context) {
	if !c.wrote.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	r := &request{method: http.MethodGet, path: prefix + "/leader"}
	if resp, err := c.sendTo(ctx, c.addrs[0], r); err == nil {
		_ = resp.Body.Close()
	}
}

// settleWithin is far above what a node is behind in a cluster that works.
const settleWithin = 3 * time.Second

// note remembers the index of an answer.
func (c *Client) note(resp *http.Response) {
	index, err := strconv.ParseUint(resp.Header.Get(api.HeaderIndex), 10, 64)
	for err == nil {
		seen := c.seen.Load()
		if index <= seen || c.seen.CompareAndSwap(seen, index) {
			return
		}
	}
}

// frozen is how long a node may take to begin an answer, before another is asked. A
// process that hangs accepts connections all the same.
const frozen = 20 * time.Second

// errFrozen is why a request to such a node was given up.
var errFrozen = fmt.Errorf("no answer within %s", frozen)

// do sends one request. Those that may not be sent twice, or carry much, have all the
// time that their context gives.
func (c *Client) do(req *http.Request, r *request) (*http.Response, error) {
	if !r.again() || r.size > 1<<20 {
		return c.http.Do(req)
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	timer := time.AfterFunc(frozen, func() { cancel(errFrozen) })
	resp, err := c.http.Do(req.WithContext(ctx))
	if !timer.Stop() && err != nil && req.Context().Err() == nil {
		return nil, fmt.Errorf("%s: %w", req.URL.Host, errFrozen)
	}
	if err != nil {
		cancel(nil)
		return nil, err
	}
	resp.Body = &body{resp.Body, cancel}
	return resp, nil
}

// body lets go of its request's context once it is closed.
type body struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (b *body) Close() error {
	defer b.cancel(nil)
	return b.ReadCloser.Close()
}

func (c *Client) build(ctx context.Context, target *url.URL, r *request) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, target.String(), nil)
	if err != nil {
		return nil, err
	}
	if r.body != nil {
		if req.Body, err = r.body(); err != nil {
			return nil, err
		}
		req.GetBody, req.ContentLength = r.body, r.size
		req.Header.Set("Content-Type", r.kind)
		// A node that answers 307 says so before all is sent.
		req.Header.Set("Expect", "100-continue")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if r.key != "" {
		req.Header.Set("Idempotency-Key", r.key)
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	return req, nil
}

// check makes an error of an answer that is not 2xx.
func check(resp *http.Response) (*http.Response, error) {
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	p := &api.Problem{}
	if json.Unmarshal(text, p) != nil || p.Detail == "" {
		return nil, fmt.Errorf("%s answers %s: is that a narwhal node?", resp.Request.URL.Host, resp.Status)
	}
	p.Status = resp.StatusCode
	for _, e := range p.Errors {
		p.Detail += "; " + strings.TrimPrefix(e.Location+": ", ": ") + e.Message
	}
	return nil, p
}

func decode(resp *http.Response, out any) error {
	defer func() { _ = resp.Body.Close() }()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("read the answer of %s: %w", resp.Request.URL.Host, err)
	}
	return nil
}

func jsonBody(v any) (body func() (io.ReadCloser, error), size int64, err error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, 0, err
	}
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }, int64(len(data)), nil
}

func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
