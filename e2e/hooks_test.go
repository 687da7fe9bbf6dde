package e2e

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

const secret = "a secret of the forge and narwhal"

// forge is a git server by HTTP, which sends webhooks as GitHub does.
type forge struct {
	url  string // of the server
	host string
	root string // the repositories
}

func newForge(t *testing.T) *forge {
	t.Helper()
	return newForgeBehind(t, func(next http.Handler) http.Handler { return next })
}

// newForgeBehind is newForge with something before it.
func newForgeBehind(t *testing.T, door func(next http.Handler) http.Handler) *forge {
	t.Helper()
	path, err := exec.Command("git", "--exec-path").Output()
	must(t, err)
	f := &forge{root: t.TempDir()}
	server := httptest.NewServer(door(&cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + f.root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1"},
	}))
	t.Cleanup(server.Close)
	f.url, f.host = server.URL, strings.TrimPrefix(server.URL, "http://")
	return f
}

// repository makes one that the forge serves.
func (f *forge) repository(t *testing.T, name string) *lab.Repository {
	t.Helper()
	r, err := lab.NewRepository(filepath.Join(f.root, name+".git"), name)
	must(t, err)
	return r
}

// push is the body of the webhook that tells of a push to main.
func (f *forge) push(t *testing.T, r *lab.Repository, sha string) []byte {
	return pushOf(t, r.Name, f.url+"/"+r.Name+".git", "main", sha)
}

// pushOf is the body of the webhook that tells of a push to a branch.
func pushOf(t *testing.T, repo, clone, branch, sha string) []byte {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"ref": "refs/heads/" + branch, "after": sha,
		"head_commit": map[string]any{"id": sha, "message": "a commit", "author": map[string]string{"name": "Otter"}},
		"repository":  map[string]string{"full_name": repo, "clone_url": clone},
	})
	must(t, err)
	return body
}

// deletionOf is the body of the webhook that tells that a branch, whose head was
// sha, was deleted.
func deletionOf(t *testing.T, repo, clone, branch, sha string) []byte {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"ref": "refs/heads/" + branch, "before": sha, "after": strings.Repeat("0", 40), "deleted": true, "head_commit": nil,
		"repository": map[string]string{"full_name": repo, "clone_url": clone},
	})
	must(t, err)
	return body
}

// scheduled are the branches of which narwhal schedules lists something.
func scheduled(t *testing.T, n *lab.Node, repo string) string {
	t.Helper()
	cmd := exec.CommandContext(deadline(t, patience), binary, "schedules", "--json", "--repo", repo)
	cmd.Env = append(os.Environ(), "NARWHAL_ADDR="+n.API, "NARWHAL_DATA_DIR="+n.Dir)
	text, err := cmd.Output()
	must(t, err)
	var list struct{ Schedules []api.Schedule }
	must(t, json.Unmarshal(text, &list))
	var branches []string
	for _, s := range list.Schedules {
		branches = append(branches, s.Branch)
	}
	return strings.Join(branches, " ")
}

// answer is what a node says to a webhook.
type answer struct {
	code   int
	Build  fsm.BuildID
	Known  bool
	Detail string
}

// send posts a webhook to a node. Empty values leave their header out.
func send(ctx context.Context, n *lab.Node, path string, body []byte, header map[string]string) (answer, error) {
	var a answer
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.API+path, bytes.NewReader(body))
	if err != nil {
		return a, err
	}
	req.Header.Set("Content-Type", "application/json")
	for key, value := range header {
		req.Header.Set(key, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return a, err
	}
	defer func() { _ = resp.Body.Close() }()
	a.code = resp.StatusCode
	return a, json.NewDecoder(resp.Body).Decode(&a)
}

// delivery are the headers of a GitHub webhook, signed with key.
func delivery(id, key string, body []byte) map[string]string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write(body)
	return map[string]string{
		"X-GitHub-Event": "push", "X-GitHub-Delivery": id, "X-Hub-Signature-256": "sha256=" + hex.EncodeToString(mac.Sum(nil)),
	}
}

func TestHooks(t *testing.T) {
	t.Parallel()
	f := newForge(t)
	file := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(file, []byte(secret+"\n"), 0o600))
	l := cluster(t, lab.Options{Protocol: "file,http", Args: []string{"--webhook-secret-file", file, "--github-host", f.host}})
	t.Run("GitHub", func(t *testing.T) { gitHub(t, l, f) })
	t.Run("a deleted branch", func(t *testing.T) { deletedBranch(t, l, f) })
	t.Run("commit", func(t *testing.T) { commitHook(t, l) })
	t.Run("no token", func(t *testing.T) { noToken(t, l) })
}

// gitHub sends a push to a follower, forged and then signed; and sends it again in
// all ways that happen.
func gitHub(t *testing.T, l *lab.Lab, f *forge) {
	ctx := deadline(t, patience)
	n, ran := follower(t, l), newLedger(t)
	r := f.repository(t, "acme/api")
	sha := commit(t, r, ran.file(small+"steps: [{command: echo $NARWHAL_EVENT $NARWHAL_BRANCH >> LEDGER}]\n"))
	body := f.push(t, r, sha)

	other := f.push(t, r, strings.Repeat("ab", 20))
	for _, tt := range []struct {
		name   string
		header map[string]string
		code   int
	}{
		{"another secret", delivery("d1", "a guess", body), http.StatusForbidden},
		{"another body's signature", delivery("d1", secret, other), http.StatusForbidden},
		{"no signature", map[string]string{"X-GitHub-Event": "push", "X-GitHub-Delivery": "d1"}, http.StatusUnauthorized},
		{"a token instead of it", map[string]string{"X-GitHub-Event": "push", "Authorization": "Bearer " + n.Token}, http.StatusUnauthorized},
	} {
		if a, err := send(ctx, n, "/hooks/github", body, tt.header); err != nil || a.code != tt.code {
			t.Errorf("a webhook with %s is answered %+v, %v; want %d", tt.name, a, err, tt.code)
		}
	}
	if builds := allBuilds(t, anyNode(t, l)); len(builds) != 0 {
		t.Fatalf("forged webhooks made the builds %v", builds)
	}

	first, err := send(ctx, n, "/hooks/github", body, delivery("d1", secret, body))
	must(t, err)
	if first.code != http.StatusAccepted || first.Build == 0 || first.Known {
		t.Fatalf("a signed webhook is answered %+v", first)
	}
	// Replayed while it may run, by the same delivery and others, at all nodes.
	var again errgroup.Group
	for i := range 9 {
		again.Go(func() error {
			a, err := send(ctx, l.Nodes[i%3], "/hooks/github", body, delivery(fmt.Sprintf("d%d", i/3+1), secret, body))
			if err == nil && (a.code != http.StatusAccepted || a.Build != first.Build || !a.Known) {
				err = fmt.Errorf("a replay is answered %+v, the first was %+v", a, first)
			}
			return err
		})
	}
	must(t, again.Wait())
	b := ended(t, anyNode(t, l), first.Build)
	wantStatus(t, b, fsm.Passed)
	if b.Repo != r.Name || b.SHA != sha || b.Event != fsm.EventPush || b.Author != "Otter" {
		t.Errorf("the build is of %s at %s by %s, event %s", b.Repo, b.SHA, b.Author, b.Event)
	}
	late, err := send(ctx, n, "/hooks/github", body, delivery("d99", secret, body)) // redelivered after its end
	must(t, err)
	if builds := allBuilds(t, anyNode(t, l)); late.Build != first.Build || len(builds) != 1 {
		t.Errorf("a redelivery is answered %+v; the builds are %v", late, builds)
	}
	if got := ran.lines(t); len(got) != 1 || got[0] != "push main" {
		t.Errorf("the step has written %q", got)
	}
}

// deletedBranch deletes a branch that has a schedule, and replays that once it has
// been pushed anew.
func deletedBranch(t *testing.T, l *lab.Lab, f *forge) {
	ctx := deadline(t, patience)
	n, r := follower(t, l), f.repository(t, "acme/nightly")
	clone := f.url + "/" + r.Name + ".git"
	const file = small + "schedule: [{cron: 0 3 1 1 *, branch: nightly}, {cron: 0 4 1 1 *, branch: main}]\nsteps: [{command: echo %s}]\n"
	push := func(branch, text string) (sha string) {
		t.Helper()
		sha = commit(t, r, fmt.Sprintf(file, text))
		_, err := r.Git("branch", "-f", "nightly")
		must(t, err)
		body := pushOf(t, r.Name, clone, branch, sha)
		a, err := send(ctx, n, "/hooks/github", body, delivery("push-"+sha, secret, body))
		if err != nil || a.code != http.StatusAccepted {
			t.Fatalf("a push to %s is answered %+v, %v", branch, a, err)
		}
		wantStatus(t, ended(t, anyNode(t, l), a.Build), fsm.Passed)
		return sha
	}
	push("main", "main")
	head := push("nightly", "one")
	if got := scheduled(t, leader(t, l), r.Name); got != "main nightly" {
		t.Fatalf("schedules of %q", got)
	}
	body := deletionOf(t, r.Name, clone, "nightly", head)
	for _, header := range []map[string]string{delivery("gone", "a guess", body), {"X-GitHub-Event": "push"}} {
		if a, err := send(ctx, n, "/hooks/github", body, header); err != nil || a.code/100 != 4 {
			t.Errorf("a forged deletion is answered %+v, %v", a, err)
		}
	}
	if got := scheduled(t, leader(t, l), r.Name); got != "main nightly" {
		t.Fatalf("a forged deletion has left schedules of %q", got)
	}
	gone := func() {
		t.Helper()
		a, err := send(ctx, n, "/hooks/github", body, delivery("gone", secret, body))
		if err != nil || a.code != http.StatusAccepted {
			t.Fatalf("a deletion is answered %+v, %v", a, err)
		}
	}
	gone()
	if got := scheduled(t, leader(t, l), r.Name); got != "main" {
		t.Errorf("a deletion has left schedules of %q", got)
	}
	wantDropped(t, l, r.Name, "nightly")
	push("nightly", "two")
	gone()
	if got := scheduled(t, leader(t, l), r.Name); got != "main nightly" {
		t.Errorf("an old deletion has left schedules of %q", got)
	}
}

// wantDropped looks for the webhook in the audit log.
func wantDropped(t *testing.T, l *lab.Lab, repo, branch string) {
	t.Helper()
	await(t, "the webhook in the audit log", func(ctx context.Context) (bool, error) {
		audit, err := anyNode(t, l).Audit(ctx, 0, 100)
		for _, d := range audit.Deeds {
			if d.Did == fsm.DidDropSchedules && d.Repo == repo && d.On == branch && d.By == fsm.ByWebhook {
				return true, nil
			}
		}
		return false, errors.Join(err, fmt.Errorf("nobody dropped those of %s: %+v", branch, audit.Deeds))
	})
}

// commitHook tells of a commit as the original's agent was told, with a token and
// with a signature.
func commitHook(t *testing.T, l *lab.Lab) {
	ctx := deadline(t, patience)
	n, r, ran := follower(t, l), repository(t), newLedger(t)
	sha := commit(t, r, ran.file(small+"steps: [{command: echo run >> LEDGER}]\n"))
	body, err := json.Marshal(map[string]string{"repo": r.Name, "clone_url": r.URL(), "commit": sha, "ref": "main"})
	must(t, err)
	for name, header := range map[string]map[string]string{"nothing": {}, "a wrong token": {"Authorization": "Bearer nwa_wrong"}} {
		if a, err := send(ctx, n, "/commit", body, header); err != nil || a.code != http.StatusUnauthorized {
			t.Errorf("a commit with %s is answered %+v, %v", name, a, err)
		}
	}
	made, err := send(ctx, n, "/commit", body, map[string]string{"Authorization": "Bearer " + n.Token})
	must(t, err)
	if made.code != http.StatusAccepted || made.Build == 0 {
		t.Fatalf("a commit is answered %+v", made)
	}
	signed := delivery("", secret, body)
	delete(signed, "X-GitHub-Event")
	again, err := send(ctx, leader(t, l), "/commit", body, signed)
	must(t, err)
	if again.code != http.StatusAccepted || again.Build != made.Build || !again.Known {
		t.Errorf("the same commit, signed, is answered %+v, the first was %+v", again, made)
	}
	wantStatus(t, ended(t, anyNode(t, l), made.Build), fsm.Passed)
	if n := ran.count(t, "run"); n != 1 {
		t.Errorf("the step has run %d times", n)
	}
}

// noToken asks every node for everything without a token, on loopback.
func noToken(t *testing.T, l *lab.Lab) {
	ask := func(n *lab.Node, method, path, token string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(deadline(t, patience), method, n.API+path, nil)
		must(t, err)
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(req)
		must(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		must(t, err)
		must(t, resp.Body.Close())
		return resp.StatusCode
	}
	leads := leader(t, l)
	for _, n := range l.Nodes {
		for _, path := range []string{
			"GET /", "GET /builds/1", "GET /metrics", "GET /api/v1/builds", "GET /api/v1/builds/1", "GET /api/v1/builds/1/events",
			"GET /api/v1/jobs", "GET /api/v1/jobs/1.1/logs", "GET /api/v1/jobs/1.1/logs/stream", "GET /api/v1/nodes", "GET /api/v1/status",
			"GET /api/v1/hooks", "GET /api/v1/hooks/0123456789ABCDEF", "POST /api/v1/hooks/0123456789ABCDEF/replay",
			"POST /api/v1/builds", "POST /api/v1/builds/1/cancel", "POST /api/v1/builds/1/retry", "POST /api/v1/push",
			"POST /api/v1/nodes/" + string(leads.ID) + "/drain", "POST /api/v1/leave",
		} {
			method, path, _ := strings.Cut(path, " ")
			for _, token := range []string{"", "nwa_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"} {
				if code := ask(n, method, path, token); code != http.StatusUnauthorized {
					t.Errorf("%s: %s %s with token %q is answered %d", n.Name, method, path, token, code)
				}
			}
		}
		if code := ask(n, "GET", "/healthz", ""); code != http.StatusOK {
			t.Errorf("%s: its health is answered %d", n.Name, code)
		}
		if code := ask(n, "GET", "/api/v1/nodes", n.Token); code != http.StatusOK {
			t.Errorf("%s: with the token its nodes are answered %d", n.Name, code)
		}
	}
	settle(t, l)
}
