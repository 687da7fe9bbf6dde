package api_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
)

// TestRunEnds stops a server that streams to a client: the stream ends, the request
// that is under way is answered, and Run returns.
func TestRunEnds(t *testing.T) {
	w := newWorld(t, nil, "a")
	w.build()
	n := w.nodes["a"]
	slow, release := make(chan struct{}), make(chan struct{})
	server, err := api.New(api.Config{URL: "http://x", Check: func(fsm.Commit) error { return nil }}, api.Deps{
		State: n, Proposer: n, Cluster: n, Transport: n, Logs: n.logs, Explainer: n, Bundles: n.bundles, Blobs: blobs{n}, Sealed: sealed{blobs{n}}, Giver: giver{n}, Copies: http.NotFoundHandler(), Commits: http.NotFoundHandler(), Deliveries: deliveries{n.inbox, n}, Sealer: box(n.w.t), Auth: n.auth,
		Hooks: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(slow)
			<-release
			w.WriteHeader(http.StatusAccepted)
		}),
	}, discard())
	if err != nil {
		t.Fatal(err)
	}
	var listeners [2]net.Listener
	for i := range listeners {
		if listeners[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var work sync.WaitGroup
	var ended error
	work.Go(func() { ended = server.Run(ctx, listeners[0], listeners[1]) })
	base := "http://" + listeners[0].Addr().String()
	get, err := http.NewRequestWithContext(t.Context(), "GET", base+"/api/v1/builds/1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	get.Header.Set("Authorization", "Bearer "+n.auth.Token())
	stream, err := plainClient.Do(get)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Body.Close() }()
	status := 0
	work.Go(func() {
		post, err := http.NewRequestWithContext(context.WithoutCancel(ctx), "POST", base+"/commit", strings.NewReader("x"))
		if err != nil {
			t.Error(err)
			return
		}
		resp, err := plainClient.Do(post)
		if err != nil {
			t.Error(err)
			return
		}
		_ = resp.Body.Close()
		status = resp.StatusCode
	})
	<-slow
	start := time.Now()
	cancel()
	if err := drain(stream); err != nil {
		t.Errorf("the stream breaks instead of ending: %v", err)
	}
	close(release)
	work.Wait()
	if took := time.Since(start); ended != nil || status != http.StatusAccepted || took >= 5*time.Second {
		t.Errorf("Run: %v after %s, the request under way was answered %d", ended, took, status)
	}
	if _, err := net.DialTimeout("tcp", listeners[1].Addr().String(), time.Second); err == nil {
		t.Error("the nodes' port still takes connections")
	}
}

// TestPanic is one of a request's, and none of the node's.
func TestPanic(t *testing.T) {
	n := newWorld(t, nil, "a").nodes["a"]
	server, err := api.New(api.Config{URL: "http://x", Check: func(fsm.Commit) error { return nil }}, api.Deps{
		State: n, Proposer: n, Cluster: n, Transport: n, Logs: n.logs, Explainer: n, Bundles: n.bundles, Blobs: blobs{n}, Sealed: sealed{blobs{n}}, Giver: giver{n}, Copies: http.NotFoundHandler(), Commits: http.NotFoundHandler(), Deliveries: deliveries{n.inbox, n}, Sealer: box(n.w.t), Auth: n.auth,
		Hooks: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("hunter2") }),
	}, discard())
	if err != nil {
		t.Fatal(err)
	}
	resp := serveMethod(server.Handler(), "POST", "/commit", "")
	body := make([]byte, 1000)
	length, _ := resp.Body.Read(body)
	if text := string(body[:length]); resp.StatusCode != 500 || !strings.Contains(text, api.CodeInternal) || strings.Contains(text, "hunter2") {
		t.Errorf("answered %d %s", resp.StatusCode, text)
	}
}

func TestConfigIsChecked(t *testing.T) {
	n := newWorld(t, nil, "a").nodes["a"]
	good := api.Config{URL: "http://x:1", Check: func(fsm.Commit) error { return nil }}
	deps := api.Deps{State: n, Proposer: n, Cluster: n, Transport: n, Logs: n.logs, Explainer: n, Bundles: n.bundles, Blobs: blobs{n}, Sealed: sealed{blobs{n}}, Giver: giver{n}, Copies: http.NotFoundHandler(), Commits: http.NotFoundHandler(), Deliveries: deliveries{n.inbox, n}, Sealer: box(n.w.t), Auth: n.auth}
	if _, err := api.New(good, deps, discard()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*api.Config, *api.Deps){
		"no URL":                     func(c *api.Config, _ *api.Deps) { c.URL = "" },
		"a URL without scheme":       func(c *api.Config, _ *api.Deps) { c.URL = "host:9797" },
		"no check":                   func(c *api.Config, _ *api.Deps) { c.Check = nil },
		"a negative limit":           func(c *api.Config, _ *api.Deps) { c.BundleLimit = -1 },
		"nobody who knows the token": func(_ *api.Config, d *api.Deps) { d.Auth = nil },
	} {
		c, d := good, deps
		change(&c, &d)
		if _, err := api.New(c, d, discard()); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := api.NewAuth([]byte("short"), time.Now); err == nil {
		t.Error("a short secret is taken")
	}
}
