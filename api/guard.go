package api

import (
	"context"
	"errors"
	"net/http"
	"runtime/debug"
	"strings"
)

// open are the paths that are answered without a token, beside the assets. The webhooks
// are signed instead, and their handler looks at that.
var open = map[string]bool{
	"/healthz":       true,
	"/api/v1/health": true,
	"/login":         true,
	"/hooks/github":  true,
	SchemaPath:       true,
	"/commit":        true,
}

type contextKey int

const (
	bySession contextKey = iota // a bool: the request was let in by its cookie
	stateRead                   // a *fsm.State: what a read goes by
)

// guard stands before all routes, of both ports.
func (s *Server) guard(next http.Handler) http.Handler {
	csrf := http.NewCrossOriginProtection()
	deny := func(w http.ResponseWriter, _ *http.Request) {
		problem(http.StatusForbidden, CodeCrossOrigin,
			"a session is good for narwhal's own pages only, and this request is not shown to come from one: use the API token instead").write(w)
	}
	csrf.SetDenyHandler(http.HandlerFunc(deny))
	bySite := csrf.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.recoverPanic(w, r)
		secure(w.Header())
		switch {
		case open[r.URL.Path], strings.HasPrefix(r.URL.Path, assetPrefix):
			next.ServeHTTP(w, r)
		case s.deps.Auth.Authorized(r):
			next.ServeHTTP(w, r)
		case s.deps.Auth.signedIn(r):
			// Go's protection lets requests pass that no browser made; a session is a
			// browser's, so here the headers that browsers send have to be there.
			if !safe(r.Method) && r.Header.Get("Origin") == "" && r.Header.Get("Sec-Fetch-Site") == "" {
				deny(w, r)
				return
			}
			bySite.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), bySession, true)))
		default:
			s.turnAway(w, r)
		}
	})
}

func safe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// turnAway answers who has no token: programs with a problem, people with the page
// that says how to sign in.
func (s *Server) turnAway(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && !strings.HasPrefix(r.URL.Path, "/api/") && strings.Contains(r.Header.Get("Accept"), "text/html") {
		s.signInPage(w, http.StatusUnauthorized, "")
		return
	}
	detail := "this needs the API token, as `Authorization: Bearer nwa_…`: `narwhal node` keeps it in the file api-token in its data directory"
	if given, ok := bearer(r); ok {
		detail = "the API token is not this cluster's: it is in the file api-token in a node's data directory"
		if !strings.HasPrefix(given, tokenPrefix) {
			detail = "that is not an API token, which begins with " + tokenPrefix + ": it is in the file api-token in a node's data directory"
		}
	}
	problem(http.StatusUnauthorized, CodeUnauthorized, "%s", detail).write(w)
}

// pagePolicy lets pages load what is narwhal's own, and nothing that is written in them.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func secure(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	// Stricter than this, and browsers would keep the origin of narwhal's own forms to
	// themselves, by which they are told from other sites' where there is no TLS.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Cache-Control", "no-store")
}

func (s *Server) recoverPanic(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p) // net/http's own word for "cut the connection"
	}
	s.log.Error("answer request", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
	problem(http.StatusInternalServerError, CodeInternal, "an error inside narwhal: its log has it").write(w)
}
