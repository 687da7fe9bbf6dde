package api_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/codepr/narwhal/api"
)

// document is what is looked at of the OpenAPI document.
type document struct {
	OpenAPI string                          `json:"openapi"`
	Paths   map[string]map[string]operation `json:"paths"`
	whole   map[string]any
}

type operation struct {
	OperationID string                `json:"operationId"`
	Summary     string                `json:"summary"`
	Security    []map[string][]string `json:"security"`
	Parameters  []struct {
		Name string `json:"name"`
		In   string `json:"in"`
	} `json:"parameters"`
}

func (o operation) has(param, in string) bool {
	for _, p := range o.Parameters {
		if p.Name == param && p.In == in {
			return true
		}
	}
	return false
}

func readDocument(t *testing.T, n *node) document {
	t.Helper()
	a := n.call("GET", "/api/v1/openapi.json", "").want(200)
	var d document
	a.into(&d)
	a.into(&d.whole)
	return d
}

// fill puts something into the path's parameters.
func fill(path string) string {
	r := strings.NewReplacer("/builds/{id}", "/builds/1", "/jobs/{id}", "/jobs/1.0", "/nodes/{id}", "/nodes/a", "/hooks/{id}", "/hooks/0123456789ABCDEF")
	return r.Replace(path)
}

func TestEveryRouteIsClosed(t *testing.T) {
	w := newWorld(t, nil, "a")
	w.build("test")
	n := w.nodes["a"]
	open := map[string]bool{"/healthz": true, "/api/v1/health": true, "/hooks/github": true, "/commit": true, "/narwhal.schema.json": true}
	routes := [][2]string{
		{"GET", "/"}, {"GET", "/builds/1"}, {"GET", "/jobs/1.0/log"}, {"GET", "/nodes"}, {"POST", "/logout"},
		{"GET", "/jobs/1.0/log/heads"}, {"POST", "/builds/1/cancel"}, {"POST", "/builds/1/retry"}, {"POST", "/jobs/1.1/approve"}, {"POST", "/jobs/1.1/reject"},
		{"GET", "/api/v1/openapi.json"}, {"GET", "/api/v1/openapi.yaml"}, {"GET", "/nothing/here"}, {"GET", "/node/v1/bundles/x"},
		{"GET", "//healthz"}, {"GET", "/healthz/"}, {"GET", "/login/../metrics"}, {"GET", "/HEALTHZ"}, {"GET", "/docs"},
	}
	seen := 0
	for path, ops := range readDocument(t, n).Paths {
		for method, op := range ops {
			seen++
			if open[path] {
				n.bare(strings.ToUpper(method), path, "").want(200)
				if len(op.Security) != 1 || len(op.Security[0]) != 0 {
					t.Errorf("%s says that it needs a token", path)
				}
				continue
			}
			routes = append(routes, [2]string{strings.ToUpper(method), fill(path)})
		}
	}
	if seen < 20 {
		t.Fatalf("the document has %d operations only", seen)
	}
	other, err := api.NewAuth([]byte("another secret of another cluster"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	credentials := map[string][]string{
		"none":                    nil,
		"empty":                   {"Authorization", "Bearer "},
		"another cluster's":       {"Authorization", "Bearer " + other.Token()},
		"cut":                     {"Authorization", "Bearer " + n.auth.Token()[:20]},
		"longer":                  {"Authorization", "Bearer " + n.auth.Token() + "x"},
		"another scheme":          {"Authorization", "Basic " + n.auth.Token()},
		"no scheme":               {"Authorization", n.auth.Token()},
		"a made-up session":       {"Cookie", "narwhal_session=9999999999-x.AAAA"},
		"the token for a session": {"Cookie", "narwhal_session=" + n.auth.Token()},
	}
	for _, r := range routes {
		for name, headers := range credentials {
			for _, port := range []string{n.public.URL, n.private.URL} {
				if port == n.private.URL && strings.HasPrefix(r[1], "/node/v1/") {
					continue // what nodes hand each other needs the cluster's certificate
				}
				req, err := http.NewRequestWithContext(t.Context(), r[0], port+r[1], nil)
				if err != nil {
					t.Fatal(err)
				}
				for i := 0; i < len(headers); i += 2 {
					req.Header.Set(headers[i], headers[i+1])
				}
				resp, err := plainClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusUnauthorized {
					t.Errorf("%s %s with token %s: status %d", r[0], r[1], name, resp.StatusCode)
				}
			}
		}
	}
	if n.left {
		t.Error("a stranger made the node leave")
	}
}

// TestSignInByToken is for whom the link has expired.
func TestSignInByToken(t *testing.T) {
	w := newWorld(t, nil, "a")
	n := w.nodes["a"]
	form := func(token string, headers ...string) *answer {
		return n.bare("POST", "/login", url.Values{"token": {token}}.Encode(),
			append([]string{"Content-Type", "application/x-www-form-urlencoded"}, headers...)...)
	}
	for _, wrong := range []string{"", "nwa_", n.auth.Token() + "x", strings.Repeat("x", 8<<10)} {
		if a := form(wrong).want(403); a.header.Get("Set-Cookie") != "" {
			t.Errorf("token of %d bytes signed in", len(wrong))
		}
	}
	if a := form(n.auth.Token(), "Sec-Fetch-Site", "cross-site").want(403); a.header.Get("Set-Cookie") != "" {
		t.Error("another site signed in")
	}
	cookie, _, _ := strings.Cut(form(n.auth.Token(), "Sec-Fetch-Site", "same-origin").want(303).header.Get("Set-Cookie"), ";")
	n.bare("GET", "/", "", "Cookie", cookie).want(200)
}

func TestSignIn(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	n := w.nodes["a"]
	link, err := url.Parse(n.server.LoginURL())
	if err != nil {
		t.Fatal(err)
	}
	w.nodes["b"].bare("GET", link.RequestURI(), "").want(403) // codes are one node's
	first := n.bare("GET", link.RequestURI(), "").want(303)
	n.bare("GET", link.RequestURI(), "").want(403) // once only
	raw := first.header.Get("Set-Cookie")
	for _, word := range []string{"HttpOnly", "SameSite=Strict", "Path=/"} {
		if !strings.Contains(raw, word) {
			t.Errorf("cookie %q is not %s", raw, word)
		}
	}
	cookie, _, _ := strings.Cut(raw, ";")
	for _, id := range []string{"a", "b"} { // sessions are all nodes'
		if body := w.nodes[fsmID(id)].bare("GET", "/", "", "Cookie", cookie).want(200).body; !strings.Contains(body, "narwhal push") {
			t.Errorf("node %s: %s", id, body)
		}
	}
	w.nodes["b"].bare("GET", "/nodes", "", "Cookie", cookie).want(200)
	for i := range cookie[len("narwhal_session="):] { // no byte of it can be changed
		at := len("narwhal_session=") + i
		c := byte('A')
		if cookie[at] == c {
			c = 'Q'
		}
		forged := cookie[:at] + string(c) + cookie[at+1:]
		if a := n.bare("GET", "/", "", "Cookie", forged); a.status == 200 {
			// the last character of base64 has bits that mean nothing
			if at != len(cookie)-1 {
				t.Fatalf("session forged at byte %d is taken", i)
			}
		}
	}
}

func TestSessionAndCodeExpire(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	w := newWorld(t, nil, "a")
	auth, err := api.NewAuth(apiSecret, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	n := w.nodes["a"]
	server, err := api.New(api.Config{URL: "http://x", Check: func(c2 fsmCommit) error { return nil }}, api.Deps{
		State: n, Proposer: n, Cluster: n, Transport: n, Logs: n.logs, Explainer: n, Bundles: n.bundles, Blobs: blobs{n}, Sealed: sealed{blobs{n}}, Giver: giver{n}, Copies: http.NotFoundHandler(), Commits: http.NotFoundHandler(), Deliveries: deliveries{n.inbox, n}, Sealer: box(n.w.t), Auth: auth,
	}, discard())
	if err != nil {
		t.Fatal(err)
	}
	get := func(path, cookie string) *http.Response { return serve(server.Handler(), path, cookie) }
	old := strings.TrimPrefix(server.LoginURL(), "http://x")
	now = now.Add(10 * time.Minute)
	if resp := get(old, ""); resp.StatusCode != 403 {
		t.Errorf("a code of ten minutes ago: status %d", resp.StatusCode)
	}
	resp := get(strings.TrimPrefix(server.LoginURL(), "http://x"), "")
	cookie, _, _ := strings.Cut(resp.Header.Get("Set-Cookie"), ";")
	now = now.Add(7*24*time.Hour - time.Second)
	if resp := get("/", cookie); resp.StatusCode != 200 {
		t.Errorf("a session before its end: status %d", resp.StatusCode)
	}
	now = now.Add(time.Second)
	if resp := get("/", cookie); resp.StatusCode != 401 {
		t.Errorf("a session after its end: status %d", resp.StatusCode)
	}
}

func TestCrossSiteWrites(t *testing.T) {
	for _, leader := range []string{"a", "b"} {
		w := newWorld(t, nil, "a", "b")
		w.elect(fsmID(leader))
		id := w.build("test")
		n := w.nodes["a"]
		link := strings.TrimPrefix(n.server.LoginURL(), "http://a")
		cookie, _, _ := strings.Cut(n.bare("GET", link, "").want(303).header.Get("Set-Cookie"), ";")
		path := "/api/v1/builds/" + itoa(id) + "/cancel"
		for _, headers := range [][]string{
			{}, {"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"},
			{"Origin", "null"}, {"Sec-Fetch-Site", "cross-site", "Origin", n.public.URL},
		} {
			n.bare("POST", path, "", append(headers, "Cookie", cookie)...).wantProblem(403, api.CodeCrossOrigin)
		}
		// From our own page it works, at a follower too, where a redirect would lose the cookie.
		n.bare("POST", path, "", "Cookie", cookie, "Sec-Fetch-Site", "same-origin", "Origin", n.public.URL).want(200)
	}
}

func TestSecurityHeaders(t *testing.T) {
	w := newWorld(t, nil, "a", "b")
	w.elect("b")
	for _, path := range []string{"/healthz", "/login", "/assets/x/style.css", "/nothing", "/api/v1/leader", "/api/v1/jobs/1.1/why"} {
		a := w.nodes["a"].call("GET", path, "")
		for _, name := range []string{"X-Content-Type-Options", "Content-Security-Policy", "X-Frame-Options", "Referrer-Policy"} {
			if len(a.header[name]) != 1 {
				t.Errorf("%s: %s is %q", path, name, a.header[name])
			}
		}
		if csp := a.header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'; script-src 'self'; style-src 'self';") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: %s", path, csp)
		}
	}
}
