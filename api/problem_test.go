package api_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/codepr/narwhal/api"
)

// TestProblems holds every kind of refusal to RFC 9457: its type, its members, and
// the status in both places.
func TestProblems(t *testing.T) {
	w := newWorld(t, nil, "a")
	n := w.nodes["a"]
	for _, tt := range []struct {
		method, path, body string
		status             int
		code, detail       string
	}{
		{"GET", "/api/v1/builds/9", "", 404, api.CodeNotFound, "no build 9"},
		{"GET", "/api/v1/nothing", "", 404, api.CodeNotFound, "openapi.json"},
		{"DELETE", "/api/v1/builds/1", "", 404, api.CodeNotFound, "DELETE"},
		{"GET", "/api/v1/builds?limit=999", "", 422, api.CodeInvalid, ""},
		{"GET", "/api/v1/builds?consistent=perhaps", "", 422, api.CodeInvalid, "true or false"},
		{"GET", "/api/v1/builds?index=-1", "", 422, api.CodeInvalid, api.HeaderIndex},
		{"GET", "/api/v1/builds?index=99", "", 503, api.CodeIndexTimeout, "99"},
		{"POST", "/api/v1/builds", "{", 400, api.CodeInvalid, ""},
		{"GET", "/api/v1/jobs/x/logs", "", 422, api.CodeInvalid, ""},
		{"GET", "/api/v1/builds/x/events", "", 422, api.CodeInvalid, "number"},
		{"GET", "/api/v1/builds/9/events", "", 404, api.CodeNotFound, "no build 9"},
	} {
		a := n.call(tt.method, tt.path, tt.body).wantProblem(tt.status, tt.code)
		var fields map[string]any
		if err := json.Unmarshal([]byte(a.body), &fields); err != nil {
			t.Fatal(err)
		}
		if fields["title"] == "" || !strings.Contains(fields["detail"].(string), tt.detail) {
			t.Errorf("%s %s: %s", tt.method, tt.path, a.body)
		}
		if again := a.header.Get("Retry-After") != ""; again != (tt.status == 503) {
			t.Errorf("%s %s: Retry-After %q with status %d", tt.method, tt.path, a.header.Get("Retry-After"), tt.status)
		}
	}
	a := n.call("POST", "/api/v1/builds", `{"repo":7}`).want(422)
	var p api.Problem
	a.into(&p)
	where := map[string]bool{}
	for _, e := range p.Errors {
		where[e.Location] = true
	}
	if !where["body.repo"] || !where["body"] && !where["body.sha"] {
		t.Errorf("it does not say which fields are wrong: %s", a.body)
	}
	if got := n.bare("GET", "/api/v1/builds", "").wantProblem(401, api.CodeUnauthorized).header.Get("WWW-Authenticate"); !strings.HasPrefix(got, "Bearer") {
		t.Errorf("WWW-Authenticate %q", got)
	}
}
