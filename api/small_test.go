package api_test

import (
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
	r := httptest.NewRequest("GET", path, nil)
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec.Result()
}
