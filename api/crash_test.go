package api_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/codepr/narwhal/api"
)

func TestCrash(t *testing.T) {
	w := newWorld(t, nil, "a", "b", "shy")
	for _, tt := range []struct {
		name, path string
		status     int
		code       string
	}{
		{"the node that is asked", "/api/v1/nodes/a/crash", http.StatusAccepted, ""},
		{"another, by its name", "/api/v1/nodes/host-b/crash?down=20s", http.StatusAccepted, ""},
		{"one that takes no part", "/api/v1/nodes/shy/crash", http.StatusForbidden, api.CodeForbidden},
		{"none", "/api/v1/nodes/c/crash", http.StatusNotFound, api.CodeNotFound},
		{"too long", "/api/v1/nodes/a/crash?down=6m", http.StatusUnprocessableEntity, api.CodeInvalid},
		{"no time", "/api/v1/nodes/b/crash?down=soon", http.StatusUnprocessableEntity, api.CodeInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := w.nodes["a"].call(http.MethodPost, tt.path, "")
			if tt.code == "" {
				a.want(tt.status)
			} else {
				a.wantProblem(tt.status, tt.code)
			}
		})
	}
	w.nodes["a"].bare(http.MethodPost, "/api/v1/nodes/a/crash", "").wantProblem(http.StatusUnauthorized, api.CodeUnauthorized)
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, want := range map[string][]time.Duration{"a": {0}, "b": {20 * time.Second}, "shy": nil} {
		if got := w.nodes[fsmID(id)].crashed; !slices.Equal(got, want) {
			t.Errorf("%s was to crash for %v, want %v", id, got, want)
		}
	}
}
