package api_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"

	"github.com/codepr/narwhal/fsm"
)

type fsmCommit = fsm.Commit

func fsmID(text string) fsm.NodeID { return fsm.NodeID(text) }

func itoa(id fsm.BuildID) string { return strconv.FormatUint(uint64(id), 10) }

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// serve calls a handler without a network.
func serve(h http.Handler, path, cookie string) *http.Response {
	return serveMethod(h, http.MethodGet, path, cookie)
}

func serveMethod(h http.Handler, method, path, cookie string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec.Result()
}

// drain reads the rest of an answer. It is an error where the connection was cut.
func drain(resp *http.Response) error {
	_, err := io.Copy(io.Discard, resp.Body)
	return err
}

// cut breaks the connections of other nodes to this one, and takes no more.
func (n *node) cut() {
	n.w.mu.Lock()
	n.deaf = true
	n.w.mu.Unlock()
	n.private.CloseClientConnections()
}

// replace puts a handler in the place of what other nodes reach.
func (n *node) replace(h http.Handler) { n.private.Config.Handler = h }
