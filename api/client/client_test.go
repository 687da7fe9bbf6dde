package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
)

const token = "nwa_secret"

// fake is a node that answers what a test wants.
func fake(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func newClient(t *testing.T, addrs ...string) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Addrs: addrs, Token: token, Patience: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(api.Problem{Title: "t", Status: status, Code: code, Detail: "said so"})
}

func TestAddresses(t *testing.T) {
	for _, good := range []string{"127.0.0.1:9797", "http://host", "https://host:1/under/"} {
		if _, err := client.New(client.Config{Addrs: []string{good}}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "ftp://host", "http://", "http://u:p@host", "http://host/?q=1", "http://%zz"} {
		if _, err := client.New(client.Config{Addrs: []string{bad}}); err == nil {
			t.Errorf("%q is taken for an address", bad)
		}
	}
	if _, err := client.New(client.Config{}); err == nil {
		t.Error("no address is enough")
	}
}

func TestTokenGoesToTheLeader(t *testing.T) {
	var got http.Header
	var body string
	leader := fake(t, func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		got, body = r.Header, string(text)
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"id":7}`)
	})
	host := strings.TrimPrefix(leader, "http://")
	follower := fake(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(api.HeaderLeader, host)
		w.Header().Set("Location", leader+r.URL.Path)
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	b, err := newClient(t, follower).CreateBuild(t.Context(), api.NewBuild{Repo: "acme/api"}, "key")
	if err != nil || b.ID != 7 {
		t.Fatalf("build %+v, %v", b, err)
	}
	if got.Get("Authorization") != "Bearer "+token || got.Get("Idempotency-Key") != "key" || !strings.Contains(body, "acme/api") {
		t.Errorf("the leader was sent %v %s", got, body)
	}
}

// TestTokenGoesNowhereElse answers with redirects that no leader's name stands behind.
func TestTokenGoesNowhereElse(t *testing.T) {
	var asked atomic.Int32
	thief := fake(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	for name, header := range map[string]map[string]string{
		"no leader named":    {},
		"another one named":  {api.HeaderLeader: "127.0.0.1:1"},
		"a user in the host": {api.HeaderLeader: "host", "Location": strings.Replace(thief, "http://", "http://host@", 1)},
	} {
		t.Run(name, func(t *testing.T) {
			node := fake(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", thief)
				for key, value := range header {
					w.Header().Set(key, value)
				}
				w.WriteHeader(http.StatusTemporaryRedirect)
			})
			if _, err := newClient(t, node).Status(t.Context()); err == nil {
				t.Error("followed")
			}
		})
	}
	for _, status := range []int{301, 302, 303, 308} {
		node := fake(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, thief, status) })
		if _, err := newClient(t, node).Status(t.Context()); err == nil {
			t.Errorf("%d is followed", status)
		}
	}
	if asked.Load() != 0 {
		t.Errorf("another host was asked %d times", asked.Load())
	}
}

func TestNextAddress(t *testing.T) {
	node := fake(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"node":"b"}`) })
	gone := httptest.NewServer(nil)
	gone.Close()
	s, err := newClient(t, gone.URL, node).Status(t.Context())
	if err != nil || s.Node != "b" {
		t.Errorf("status %+v, %v", s, err)
	}
	if _, err := newClient(t, gone.URL).Status(t.Context()); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("none that answers: %v", err)
	}
	// A connection that breaks may have carried the request: leaving twice would take
	// two nodes out.
	var asked atomic.Int32
	breaks := fake(t, func(http.ResponseWriter, *http.Request) {
		asked.Add(1)
		panic(http.ErrAbortHandler)
	})
	other := fake(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		fmt.Fprint(w, `{"left":true}`)
	})
	if _, err := newClient(t, breaks, other).Leave(t.Context()); err == nil || asked.Load() != 1 {
		t.Errorf("asked %d nodes to leave: %v", asked.Load(), err)
	}
	asked.Store(0)
	if _, err := newClient(t, gone.URL, other).Leave(t.Context()); err != nil || asked.Load() != 1 {
		t.Errorf("one that was never reached counts: %v", err)
	}
	asked.Store(0)
	if _, err := newClient(t, breaks, other).RetryBuild(t.Context(), 1, "key"); err != nil || asked.Load() != 2 {
		t.Errorf("a request with a key is not sent again: %v", err)
	}
	cutOff := fake(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `{"status":503,"code":"no_leader","detail":"no leader"}`)
	})
	if s, err := newClient(t, cutOff, node).Status(t.Context()); err != nil || s.Node != "b" {
		t.Errorf("a node that is cut off hides the others: %+v, %v", s, err)
	}
}

// TestFrozenNode has a node that accepts connections and says nothing.
func TestFrozenNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "frozen" {
				<-req.Context().Done()
				return nil, context.Cause(req.Context())
			}
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(`{"node":"b"}`)), Request: req}, nil
		}
		c, err := client.New(client.Config{Addrs: []string{"frozen", "other"}, Transport: roundTrip(answers)})
		if err != nil {
			t.Fatal(err)
		}
		if s, err := c.Status(t.Context()); err != nil || s.Node != "b" {
			t.Errorf("status %+v, %v", s, err)
		}
		// A leave may take as long as the node's jobs, and must not take out another.
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := c.Leave(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("leave: %v", err)
		}
	})
}

func TestProblemsAndStrangers(t *testing.T) {
	node := fake(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnprocessableEntity)
		fmt.Fprint(w, `{"status":422,"code":"invalid","detail":"it is wrong","errors":[{"location":"body.sha","message":"too short"}]}`)
	})
	_, err := newClient(t, node).Build(t.Context(), 1)
	var p *api.Problem
	if !errors.As(err, &p) || p.Code != api.CodeInvalid || p.Status != 422 || p.Error() != "it is wrong; body.sha: too short" {
		t.Errorf("%v", err)
	}
	for name, h := range map[string]http.HandlerFunc{
		"another server's page": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>nginx", http.StatusBadGateway) },
		"no JSON":               func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
	} {
		if _, err := newClient(t, fake(t, h)).Build(t.Context(), 1); err == nil || errors.As(err, &p) && p.Status == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// roundTrip is a network in virtual time.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func recorded(r *http.Request, h http.HandlerFunc) *http.Response {
	w := httptest.NewRecorder()
	h(w, r)
	resp := w.Result()
	resp.Request = r
	return resp
}

// TestPatience has a cluster without a leader for five seconds, and for ever.
func TestPatience(t *testing.T) {
	for _, tt := range []struct {
		name    string
		without time.Duration
		call    func(context.Context, *client.Client) error
		want    time.Duration
		fails   bool
	}{
		{"a read", 5 * time.Second, func(ctx context.Context, c *client.Client) error { _, err := c.Status(ctx); return err }, 5 * time.Second, false},
		{"a write with a key", 5 * time.Second, func(ctx context.Context, c *client.Client) error { _, err := c.CancelBuild(ctx, 1); return err }, 5 * time.Second, false},
		{"for ever", time.Hour, func(ctx context.Context, c *client.Client) error { _, err := c.Status(ctx); return err }, 15500 * time.Millisecond, true},
		{"a write without one", time.Hour, func(ctx context.Context, c *client.Client) error { _, err := c.Leave(ctx); return err }, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				c, err := client.New(client.Config{Addrs: []string{"http://a"}, Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
					return recorded(r, func(w http.ResponseWriter, _ *http.Request) {
						if time.Since(start) < tt.without {
							refuse(w, http.StatusServiceUnavailable, api.CodeNoLeader)
						} else {
							fmt.Fprint(w, `{}`)
						}
					}), nil
				})})
				if err != nil {
					t.Fatal(err)
				}
				err = tt.call(t.Context(), c)
				if took := time.Since(start); (err != nil) != tt.fails || took != tt.want {
					t.Errorf("%v after %s, want an answer after %s", err, took, tt.want)
				}
			})
		})
	}
}

// TestFollowResumes breaks a log's stream off in the middle, twice.
func TestFollowResumes(t *testing.T) {
	event := func(n int) string {
		return fmt.Sprintf("id: 1/%d\nevent: line\ndata: {\"attempt\":1,\"text\":\"line %d\",\"offset\":%d}\n\n", n, n, n)
	}
	var resumed []string
	node := fake(t, alone(func(w http.ResponseWriter, r *http.Request) {
		resumed = append(resumed, r.Header.Get("Last-Event-ID"))
		w.Header().Set("Content-Type", "text/event-stream")
		switch len(resumed) {
		case 1: // in the middle of an event
			fmt.Fprint(w, event(1), event(2), event(3)[:20])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case 2: // in order, but not at the end
			fmt.Fprint(w, ": still here\n\n", event(3), "event: of_next_year\ndata: {}\n\n")
		case 3:
			refuse(w, http.StatusServiceUnavailable, api.CodeNodeUnreachable)
		default:
			fmt.Fprint(w, event(4), "event: end\ndata: {\"status\":\"passed\",\"attempt\":1}\n\n", event(5))
		}
	}))
	var lines []string
	var end *api.LogStatus
	err := newClient(t, node).FollowLog(t.Context(), fsm.JobID{Build: 1, Seq: 1}, 0, func(e client.LogEvent) error {
		if e.Line != nil {
			lines = append(lines, e.Line.Text)
		}
		if e.End != nil {
			end = e.End
		}
		return nil
	})
	if want := []string{"line 1", "line 2", "line 3", "line 4"}; err != nil || !slices.Equal(lines, want) || end == nil || end.Status != fsm.Passed {
		t.Errorf("lines %q, end %+v, %v", lines, end, err)
	}
	if want := []string{"", "1/2", "1/3", "1/3"}; !slices.Equal(resumed, want) {
		t.Errorf("resumed at %q, want %q", resumed, want)
	}
}

// alone is a node that knows of no other.
func alone(next http.HandlerFunc) http.HandlerFunc { return among(next) }

// among is a node that knows of others, by their addresses.
func among(next http.HandlerFunc, others ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/nodes" {
			next(w, r)
			return
		}
		var nodes []string
		for _, addr := range others {
			nodes = append(nodes, fmt.Sprintf(`{"id":"x","alive":true,"api_addr":%q}`, addr))
		}
		fmt.Fprintf(w, `{"nodes":[%s]}`, strings.Join(nodes, ","))
	}
}

// TestFollowGoesOnElsewhere has the only node die that the client was told of.
func TestFollowGoesOnElsewhere(t *testing.T) {
	var resumed string
	other := fake(t, func(w http.ResponseWriter, r *http.Request) {
		resumed = r.Header.Get("Last-Event-ID")
		fmt.Fprint(w, "id: 1/2\nevent: line\ndata: {\"attempt\":1,\"text\":\"two\",\"offset\":2}\n\n", "event: end\ndata: {\"status\":\"passed\"}\n\n")
	})
	otherURL, err := url.Parse(other)
	if err != nil {
		t.Fatal(err)
	}
	var first *httptest.Server
	first = httptest.NewServer(among(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "id: 1/1\nevent: line\ndata: {\"attempt\":1,\"text\":\"one\",\"offset\":1}\n\n")
		_ = http.NewResponseController(w).Flush()
		go first.Listener.Close()
		panic(http.ErrAbortHandler)
	}, otherURL.Host, "192.0.2.1:x"))
	defer first.Close()
	var lines []string
	err = newClient(t, first.URL).FollowLog(t.Context(), fsm.JobID{Build: 1, Seq: 1}, 0, func(e client.LogEvent) error {
		if e.Line != nil {
			lines = append(lines, e.Line.Text)
		}
		return nil
	})
	if err != nil || !slices.Equal(lines, []string{"one", "two"}) || resumed != "1/1" {
		t.Errorf("lines %q, resumed at %q: %v", lines, resumed, err)
	}
}

func TestFollowEnds(t *testing.T) {
	asked := 0
	node := fake(t, alone(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		fmt.Fprint(w, "event: build\ndata: {\"id\":1,\"status\":\"running\"}\n\n")
	}))
	enough := errors.New("enough")
	if err := newClient(t, node).FollowBuild(t.Context(), 1, func(api.Build) error { return enough }); !errors.Is(err, enough) || asked != 1 {
		t.Errorf("the consumer's own error: %v after %d connections", err, asked)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := newClient(t, node).FollowBuild(ctx, 1, func(api.Build) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	none := fake(t, func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusNotFound, api.CodeNotFound) })
	var p *api.Problem
	if err := newClient(t, none).FollowBuild(t.Context(), 1, func(api.Build) error { return nil }); !errors.As(err, &p) || p.Code != api.CodeNotFound {
		t.Errorf("no such build: %v", err)
	}
}

// TestReadLogCut has the connection break in the middle: half a log is an error.
func TestReadLogCut(t *testing.T) {
	node := fake(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "one\n")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	var out bytes.Buffer
	if err := newClient(t, node).ReadLog(t.Context(), fsm.JobID{Build: 1, Seq: 1}, 0, &out); err == nil {
		t.Errorf("%q passes for the whole log", out.String())
	}
}
