package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/codepr/narwhal/internal/lab"
)

// tab is a browser with one page open.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	problems []string // what scripts have thrown, and what the page's policy has stopped
}

// newTab starts Chromium. For it the name narwhal.test is this machine's: a browser trusts
// loopback as it trusts TLS, and a cluster is reached by other names.
func newTab(t *testing.T) *tab {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v: run scripts/deps.sh chromium", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true), chromedp.Flag("host-resolver-rules", "MAP narwhal.test 127.0.0.1"),
		chromedp.WSURLReadTimeout(patience),
	)
	allocator, stop := chromedp.NewExecAllocator(t.Context(), options...)
	ctx, closeTab := chromedp.NewContext(allocator)
	b := &tab{t: t, ctx: ctx}
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("end the browser: %v", err)
		}
		closeTab()
		stop()
	})
	chromedp.ListenTarget(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			b.problem("a script threw: " + e.ExceptionDetails.Error())
		case *log.EventEntryAdded:
			if e.Entry.Source == log.SourceSecurity || e.Entry.Source == log.SourceJavascript { // of what was stopped; connections are cut here
				b.problem(fmt.Sprintf("%s: %s", e.Entry.Source, e.Entry.Text))
			}
		}
	})
	b.do(chromedp.EmulateViewport(1280, 800))
	return b
}

func (b *tab) problem(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, text)
}

// wantNoProblems fails the test where the browser has complained of anything.
func (b *tab) wantNoProblems() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.problems {
		b.t.Errorf("the browser complains: %s", p)
	}
}

// with has a part of a test use the tab.
func (b *tab) with(part func(*testing.T)) func(*testing.T) {
	return func(t *testing.T) {
		whole := b.t
		b.t = t
		defer func() { b.t = whole }()
		part(t)
		if t.Failed() {
			b.tell()
		}
	}
}

// tell shows where a test that has failed stands.
func (b *tab) tell() {
	var at, text string
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Run(ctx, chromedp.Location(&at), chromedp.Evaluate(`document.body.innerText`, &text)); err != nil {
		b.t.Logf("look at the page: %v", err)
	}
	b.t.Logf("the browser is at %s:\n%s", at, text[:min(len(text), 4000)])
}

func (b *tab) do(actions ...chromedp.Action) {
	b.t.Helper()
	// The first use starts the browser, which lives as long as that context.
	if chromedp.FromContext(b.ctx).Browser == nil {
		if err := chromedp.Run(b.ctx); err != nil {
			b.t.Fatalf("start the browser: %v", err)
		}
	}
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// until waits for a JavaScript expression to be true, on whatever page the tab goes to.
func (b *tab) until(what, expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	for {
		err := chromedp.Run(ctx, chromedp.Poll(expression, nil, chromedp.WithPollingTimeout(patience)))
		var gone *cdproto.Error // the page that was asked has made place for another
		switch {
		case err == nil:
			return
		case ctx.Err() != nil || !errors.As(err, &gone):
			b.t.Fatalf("wait for %s: %v", what, err)
		}
	}
}

// eval is what a JavaScript expression comes to.
func eval[T any](b *tab, expression string) (v T) {
	b.t.Helper()
	b.do(chromedp.Evaluate(expression, &v))
	return v
}

// signIn opens a node's pages at an address, with its token.
func (b *tab) signIn(at string, n *lab.Node) {
	b.t.Helper()
	b.do(chromedp.Navigate(at), chromedp.SendKeys("#token", n.Token+"\r"), chromedp.WaitVisible(`.top nav`))
}

// road is a way to a node that can be cut.
type road struct {
	ln   net.Listener
	to   string
	wait sync.WaitGroup

	mu    sync.Mutex
	open  map[net.Conn]bool
	ended bool
}

// newRoad gives a way to a node, and its URL for a browser.
func newRoad(t *testing.T, n *lab.Node) (*road, string) {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	u, err := url.Parse(n.API)
	must(t, err)
	r := &road{ln: ln, to: u.Host, open: map[net.Conn]bool{}}
	r.wait.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return // it is closed
			}
			r.wait.Go(func() { r.carry(c) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		r.cut(true)
		r.wait.Wait()
	})
	_, port, err := net.SplitHostPort(ln.Addr().String())
	must(t, err)
	return r, "http://narwhal.test:" + port
}

func (r *road) carry(c net.Conn) {
	defer c.Close()
	up, err := (&net.Dialer{}).Dial("tcp", r.to)
	if err != nil {
		return // the node is down, as the browser will see
	}
	defer up.Close()
	r.mu.Lock()
	r.open[c], r.open[up] = true, true
	over := r.ended
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.open, c)
		delete(r.open, up)
	}()
	if over {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(c, up) // it ends with the connection
		_ = c.Close()
	})
	_, _ = io.Copy(up, c)
	_ = up.Close()
	back.Wait()
}

// cut breaks the connections that are open, and with over those to come. It returns how
// many there were.
func (r *road) cut(over bool) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = over
	for c := range r.open {
		_ = c.Close()
	}
	return len(r.open)
}

// press presses a key as a person does: what a page does about it may keep it from being
// typed.
func (b *tab) press(key string) {
	b.t.Helper()
	b.do(input.DispatchKeyEvent(input.KeyDown).WithKey(key).WithText(key), input.DispatchKeyEvent(input.KeyUp).WithKey(key))
}

// text is what elements show, trimmed.
func (b *tab) text(selector string) (out []string) {
	b.t.Helper()
	for _, s := range eval[[]string](b, fmt.Sprintf(`[...document.querySelectorAll(%q)].map((e) => e.textContent)`, selector)) {
		out = append(out, strings.TrimSpace(s))
	}
	return out
}
