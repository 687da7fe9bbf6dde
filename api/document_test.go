package api_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/pipeline"
)

// operations are all that people and programs may call, pages and the document
// itself left out.
var operations = []string{
	"DELETE /api/v1/registries/{host}", "DELETE /api/v1/schedules", "DELETE /api/v1/secrets/{name}", "GET /api/v1/audit", "GET /api/v1/builds", "GET /api/v1/builds/events", "GET /api/v1/builds/{id}",
	"GET /api/v1/builds/{id}/events", "GET /api/v1/builds/{id}/tests", "GET /api/v1/builds/{id}/timeline", "GET /api/v1/health", "GET /api/v1/hooks", "GET /api/v1/hooks/{id}", "GET /api/v1/jobs",
	"GET /api/v1/jobs/{id}", "GET /api/v1/jobs/{id}/artifacts", "GET /api/v1/jobs/{id}/artifacts/archive",
	"GET /api/v1/jobs/{id}/artifacts/file", "GET /api/v1/jobs/{id}/logs", "GET /api/v1/jobs/{id}/logs/stream",
	"GET /api/v1/jobs/{id}/why", "GET /api/v1/leader", "GET /api/v1/nodes", "GET /api/v1/nodes/{id}", "GET /api/v1/schedules",
	"GET /api/v1/secrets", "GET /api/v1/snapshot",
	"GET /api/v1/status", "GET /healthz", "GET /metrics", "GET /narwhal.schema.json", "POST /api/v1/builds", "POST /api/v1/builds/{id}/cancel",
	"POST /api/v1/builds/{id}/retry", "POST /api/v1/hooks/{id}/replay", "POST /api/v1/jobs/{id}/approve", "POST /api/v1/jobs/{id}/reject", "POST /api/v1/leave",
	"POST /api/v1/nodes/{id}/crash", "POST /api/v1/nodes/{id}/drain", "POST /api/v1/nodes/{id}/resume", "POST /api/v1/push", "POST /commit",
	"POST /hooks/github", "PUT /api/v1/registries/{host}", "PUT /api/v1/secrets/{name}",
}

func TestDocument(t *testing.T) {
	w := newWorld(t, nil, "a")
	w.build("test")
	n := w.nodes["a"]
	d := readDocument(t, n)
	if !strings.HasPrefix(d.OpenAPI, "3.1.") {
		t.Errorf("openapi %q, want 3.1", d.OpenAPI)
	}
	var got []string
	ids := map[string]string{}
	for path, ops := range d.Paths {
		for method, op := range ops {
			name := strings.ToUpper(method) + " " + path
			got = append(got, name)
			if op.OperationID == "" || op.Summary == "" || ids[op.OperationID] != "" {
				t.Errorf("%s has the ID %q (also %q) and the summary %q", name, op.OperationID, ids[op.OperationID], op.Summary)
			}
			ids[op.OperationID] = name
			for _, in := range strings.Split(path, "/") {
				if name, ok := strings.CutPrefix(in, "{"); ok && !op.has(strings.TrimSuffix(name, "}"), "path") {
					t.Errorf("%s does not say what %s is", op.OperationID, in)
				}
			}
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, operations) {
		t.Errorf("the document has\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(operations, "\n"))
	}
	for _, want := range []struct{ method, path, param, in string }{
		{"post", "/api/v1/builds", "Idempotency-Key", "header"}, {"post", "/api/v1/builds/{id}/retry", "Idempotency-Key", "header"},
		{"post", "/api/v1/push", "Idempotency-Key", "header"}, {"get", "/api/v1/builds", "consistent", "query"}, {"get", "/api/v1/builds", "index", "query"},
		{"get", "/api/v1/builds/{id}", "index", "query"}, {"get", "/api/v1/jobs/{id}", "consistent", "query"}, {"get", "/api/v1/status", "index", "query"},
		{"get", "/api/v1/jobs/{id}/logs", "offset", "query"}, {"get", "/api/v1/jobs/{id}/logs/stream", "Last-Event-ID", "header"},
	} {
		if !d.Paths[want.path][want.method].has(want.param, want.in) {
			t.Errorf("%s %s does not say that it takes %s", want.method, want.path, want.param)
		}
	}
	checkReferences(t, d)
}

// TestDocumentedRoutesAreServed asks for each: that something answers which is not
// the one that says that there is nothing.
func TestDocumentedRoutesAreServed(t *testing.T) {
	w := newWorld(t, nil, "a")
	w.build("test")
	n := w.nodes["a"]
	for _, op := range operations {
		method, path, _ := strings.Cut(op, " ")
		if strings.HasSuffix(path, "/stream") || strings.HasSuffix(path, "/events") {
			n.stream(fill(path))
		} else if a := n.call(method, fill(path), ""); strings.Contains(a.body, "there is nothing at") {
			t.Errorf("%s: %s", op, a.body)
		}
	}
}

// checkReferences follows every $ref of the document.
func checkReferences(t *testing.T, d document) {
	t.Helper()
	refs := 0
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				refs++
				at := any(d.whole)
				for _, key := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
					m, _ := at.(map[string]any)
					at = m[key]
				}
				if at == nil {
					t.Errorf("%s leads nowhere", ref)
				}
			}
			for _, key := range slices.Sorted(maps.Keys(v)) {
				walk(v[key])
			}
		case []any:
			for _, x := range v {
				walk(x)
			}
		}
	}
	walk(d.whole)
	if refs < 20 {
		t.Errorf("the document has %d references only", refs)
	}
}

func TestDocumentAsYAML(t *testing.T) {
	n := newWorld(t, nil, "a").nodes["a"]
	var d struct {
		OpenAPI string         `yaml:"openapi"`
		Paths   map[string]any `yaml:"paths"`
	}
	if err := yaml.Unmarshal([]byte(n.call("GET", "/api/v1/openapi.yaml", "").want(200).body), &d); err != nil {
		t.Fatal(err)
	}
	if got, want := len(d.Paths), len(readDocument(t, n).Paths); got != want || fmt.Sprint(d.OpenAPI)[:3] != "3.1" {
		t.Errorf("openapi %s with %d paths, want %d", d.OpenAPI, got, want)
	}
}

// TestSchemaIsServed asks without a token, as editors do.
func TestSchemaIsServed(t *testing.T) {
	w := newWorld(t, nil, "a")
	a := w.nodes["a"].bare(http.MethodGet, api.SchemaPath, "").want(http.StatusOK)
	if a.body != string(pipeline.Schema()) || a.header.Get("Content-Type") != "application/schema+json" {
		t.Errorf("%s: %.100s", a.header.Get("Content-Type"), a.body)
	}
}
