package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
)

const maxEvent = 8 << 20 // bytes

// event is a server-sent event.
type event struct {
	name, id string
	data     []byte
}

// follow reads a stream until its event "end", and goes on where it broke off, at
// whichever address answers. It gives up when none has for the client's patience.
func (c *Client) follow(ctx context.Context, path string, query url.Values, take func(event) error) error {
	c.learn(ctx)
	last := ""
	deadline := time.Now().Add(c.patience)
	for try := 0; ; try++ {
		r := &request{method: http.MethodGet, path: path, query: query, header: http.Header{}}
		if last != "" {
			r.header.Set("Last-Event-ID", last)
		}
		ended := false
		resp, err := c.send(ctx, r, try) //nolint:bodyclose // readEvents closes it
		if err == nil {
			err = readEvents(resp, func(e event) error {
				if e.id != "" {
					last = e.id
				}
				ended = e.name == "end"
				return take(e)
			})
			deadline = time.Now().Add(c.patience) // it is counted from when it broke off
		}
		var p *api.Problem
		var stop stopped
		switch {
		case ended && err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &stop):
			return stop.error
		case errors.As(err, &p) && p.Status != http.StatusServiceUnavailable:
			return err
		case time.Now().After(deadline):
			return fmt.Errorf("follow %s: the stream broke off: %w", path, err)
		}
		if !wait(ctx, pause) {
			return ctx.Err()
		}
	}
}

// learn finds out where else the cluster can be reached, before the node that is asked
// dies. A proxy's address stays the only one: behind it the way is another, and may be
// open to all.
func (c *Client) learn(ctx context.Context) {
	if c.addrs[0].Scheme != "http" || c.addrs[0].Path != "" || c.others.Load() != nil {
		return
	}
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return // the stream says what is wrong
	}
	var others []*url.URL
	for _, n := range nodes {
		known := slices.ContainsFunc(c.addrs, func(u *url.URL) bool { return u.Host == n.APIAddr })
		host, _, err := net.SplitHostPort(n.APIAddr)
		elsewhere := net.ParseIP(host).IsLoopback() && !net.ParseIP(c.addrs[0].Hostname()).IsLoopback() // it is this host's own loopback here
		if n.Alive && err == nil && !known && !elsewhere {
			others = append(others, &url.URL{Scheme: "http", Host: n.APIAddr})
		}
	}
	c.others.Store(&others)
}

// stopped is the consumer's own error: it is no reason to connect again.
type stopped struct{ error }

func readEvents(resp *http.Response, take func(event) error) error {
	defer func() { _ = resp.Body.Close() }()
	scan := bufio.NewScanner(resp.Body)
	scan.Buffer(nil, maxEvent)
	var e event
	for scan.Scan() {
		field, value, _ := strings.Cut(scan.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case scan.Text() == "":
			if e.data != nil {
				if err := take(e); err != nil {
					return stopped{err}
				}
				if e.name == "end" {
					return nil
				}
			}
			e = event{}
		case field == "id":
			e.id = value
		case field == "event":
			e.name = value
		case field == "data":
			e.data = append(e.data, value...)
		}
	}
	if scan.Err() != nil {
		return scan.Err()
	}
	return io.ErrUnexpectedEOF
}

// LogEvent is one of what a log's stream brings.
type LogEvent struct {
	Line    *api.LogLine
	Status  *api.LogStatus // how the job or attempt stands now
	Problem *api.Problem   // part of the log can't be had now
	End     *api.LogStatus // the last event: the outcome
}

// FollowLog hands on a job's log as it is written, until the job has ended; with an
// attempt, until that has. Lines come once and in order, also when the stream breaks.
func (c *Client) FollowLog(ctx context.Context, job fsm.JobID, attempt int, take func(LogEvent) error) error {
	q := url.Values{}
	if attempt > 0 {
		q.Set("attempt", strconv.Itoa(attempt))
	}
	return c.follow(ctx, prefix+"/jobs/"+job.String()+"/logs/stream", q, func(e event) error {
		var out LogEvent
		var into any
		switch e.name {
		case "line":
			out.Line = &api.LogLine{}
			into = out.Line
		case "status":
			out.Status = &api.LogStatus{}
			into = out.Status
		case "problem":
			out.Problem = &api.Problem{}
			into = out.Problem
		case "end":
			out.End = &api.LogStatus{}
			into = out.End
		default:
			return nil // of a later version
		}
		if err := json.Unmarshal(e.data, into); err != nil {
			return fmt.Errorf("read event %s: %w", e.name, err)
		}
		return take(out)
	})
}

// FollowBuild hands on a build with its jobs as it stands, each time that it stands
// differently, until it has ended.
func (c *Client) FollowBuild(ctx context.Context, id fsm.BuildID, take func(api.Build) error) error {
	return c.follow(ctx, prefix+"/builds/"+number(id)+"/events", nil, func(e event) error {
		if e.name != "build" && e.name != "end" {
			return nil // of a later version
		}
		var b api.Build
		if err := json.Unmarshal(e.data, &b); err != nil {
			return fmt.Errorf("read event %s: %w", e.name, err)
		}
		return take(b)
	})
}
