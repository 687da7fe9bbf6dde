package agent

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/codepr/narwhal/fsm"
)

const (
	acmeSecret  = "acme's secret"
	otherSecret = "other's secret"
	pushedSHA   = "5f0c1d2e3b4a59687786a5b4c3d2e1f001122334"
	headSHA     = "aaaabbbbccccddddeeeeffff0000111122223333"
)

func testConfig() Config {
	return Config{
		Secrets:   map[string]string{"acme/*": acmeSecret, "other/*": otherSecret},
		Authorize: func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer token" },
	}
}

// recorder is a queue that keeps what it is given.
type recorder struct {
	commits []fsm.Commit
	deleted []Deletion
	err     error
}

func (q *recorder) Publish(_ context.Context, c fsm.Commit, _ string) (Receipt, error) {
	if q.err != nil {
		return Receipt{}, q.err
	}
	q.commits = append(q.commits, c)
	return Receipt{Build: fsm.BuildID(len(q.commits))}, nil
}

func (q *recorder) Forget(_ context.Context, d Deletion, _ string) error {
	if q.err == nil {
		q.deleted = append(q.deleted, d)
	}
	return q.err
}

func testdata(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func sign(newHash func() hash.Hash, name, secret, body string) string {
	mac := hmac.New(newHash, []byte(secret))
	mac.Write([]byte(body))
	return name + "=" + hex.EncodeToString(mac.Sum(nil))
}

// delivery is a request as GitHub sends it.
func delivery(event, body, secret string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/hooks/github", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-GitHub-Event", event)
	r.Header.Set("X-GitHub-Delivery", "3c2b1a00-1111-2222-3333-444455556666")
	r.Header.Set("X-Hub-Signature-256", sign(sha256.New, "sha256", secret, body))
	return r
}

func post(t testing.TB, config Config, q Queue, r *http.Request) (int, string, http.Header) {
	t.Helper()
	h, err := NewHooks(config, q, Record{}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String(), w.Result().Header
}

// TestForksAreNotBuilt holds by default: a fork's narwhal.yml is a stranger's.
func TestForksAreNotBuilt(t *testing.T) {
	for _, file := range []string{"pull_request_fork_synchronize", "pull_request_fork_deleted_reopened"} {
		var q recorder
		status, body, _ := post(t, testConfig(), &q, delivery("pull_request", testdata(t, file), acmeSecret))
		if status != http.StatusOK || !strings.Contains(body, "--build-forks") || len(q.commits) > 0 {
			t.Errorf("%s: answered %d %s, queued %v", file, status, body, q.commits)
		}
	}
}

func TestGitHubEvents(t *testing.T) {
	pushed := fsm.Commit{
		Repo: "acme/api", CloneURL: "https://github.com/acme/api.git", SHA: pushedSHA, Ref: "refs/heads/main",
		Event: fsm.EventPush, Message: "cache: forget entries by age", Author: "otter", Forge: "github",
		Before: "0a1b2c3d4e5f60718293a4b5c6d7e8f900112233",
	}
	tagged := pushed
	tagged.Ref, tagged.Event, tagged.Before = "refs/tags/v1.2.0", fsm.EventTag, "" // the tag was not there before
	asked := fsm.Commit{
		Repo: "acme/api", CloneURL: "https://github.com/acme/api.git", SHA: headSHA, Ref: "refs/pull/17/head",
		Event: fsm.EventPullRequest, Message: "Make it quick", Author: "heron", Forge: "github", PullRequest: 17, Base: "main",
		Before: "0a1b2c3d4e5f60718293a4b5c6d7e8f900112233", // the head of main
	}
	forked := asked
	forked.Fork = true
	tests := []struct {
		file, event string
		want        *fsm.Commit
		ignored     string
	}{
		{"push_branch", "push", &pushed, ""},
		{"push_tag_annotated", "push", &tagged, ""},
		{"push_notes", "push", nil, "neither a branch nor a tag"},
		{"pull_request_opened", "pull_request", &asked, ""},
		{"pull_request_fork_synchronize", "pull_request", &forked, ""},
		{"pull_request_fork_deleted_reopened", "pull_request", &forked, ""},
		{"pull_request_closed", "pull_request", nil, "closed"},
		{"create", "create", nil, "push event tells"},
		{"ping", "ping", nil, "works"},
		{"ping_organization", "ping", nil, "works"},
		{"issues", "issues", nil, "issues"},
		{"issues", "an_event_of_next_year", nil, "an_event_of_next_year"},
	}
	for _, tt := range tests {
		t.Run(tt.file+"_"+tt.event, func(t *testing.T) {
			var q recorder
			config := testConfig()
			config.Forks = true
			status, body, _ := post(t, config, &q, delivery(tt.event, testdata(t, tt.file), acmeSecret))
			if tt.want == nil {
				if status != http.StatusOK || !strings.Contains(body, `"ignored"`) || !strings.Contains(body, tt.ignored) || len(q.commits) > 0 {
					t.Errorf("answered %d %s, queued %v; want it ignored because of %q", status, body, q.commits, tt.ignored)
				}
				return
			}
			if status != http.StatusAccepted || len(q.commits) != 1 {
				t.Fatalf("answered %d %s, queued %d commits", status, body, len(q.commits))
			}
			if got, want := fmt.Sprintf("%+v", q.commits[0]), fmt.Sprintf("%+v", *tt.want); got != want {
				t.Errorf("queued\n%s, want\n%s", got, want)
			}
			var a answer
			if err := json.Unmarshal([]byte(body), &a); err != nil || a.Key != tt.want.Key() || a.Status != "accepted" || a.Build != 1 {
				t.Errorf("answered %s", body)
			}
		})
	}
}

func TestSignatures(t *testing.T) {
	body := testdata(t, "push_branch")
	tests := []struct {
		name   string
		change func(*http.Request)
		config func(*Config)
		want   int
		detail string
	}{
		{"missing", func(r *http.Request) { r.Header.Del("X-Hub-Signature-256") }, nil, 401, "not signed"},
		{"forged", func(r *http.Request) {
			r.Header.Set("X-Hub-Signature-256", sign(sha256.New, "sha256", "a guess at it", body))
		}, nil, 403, "does not fit"},
		{"of another body", func(r *http.Request) {
			r.Header.Set("X-Hub-Signature-256", sign(sha256.New, "sha256", acmeSecret, body+" "))
		}, nil, 403, "does not fit"},
		{"of another repository's owner", func(r *http.Request) {
			r.Header.Set("X-Hub-Signature-256", sign(sha256.New, "sha256", otherSecret, body))
		}, nil, 403, "does not fit"},
		{"by SHA-1 in SHA-1's header", func(r *http.Request) {
			r.Header.Del("X-Hub-Signature-256")
			r.Header.Set("X-Hub-Signature", sign(sha1.New, "sha1", acmeSecret, body))
		}, nil, 401, "SHA-1 only"},
		{"by SHA-1 in SHA-256's header", func(r *http.Request) {
			r.Header.Set("X-Hub-Signature-256", sign(sha1.New, "sha1", acmeSecret, body))
		}, nil, 401, "sha256="},
		{"no hexadecimal", func(r *http.Request) { r.Header.Set("X-Hub-Signature-256", "sha256=xyz") }, nil, 403, "does not fit"},
		{"cut short", func(r *http.Request) {
			r.Header.Set("X-Hub-Signature-256", sign(sha256.New, "sha256", acmeSecret, body)[:20])
		}, nil, 403, "does not fit"},
		{"empty", func(r *http.Request) { r.Header.Set("X-Hub-Signature-256", "sha256=") }, nil, 403, "does not fit"},
		{"no secret for it", nil, func(c *Config) { delete(c.Secrets, "acme/*") }, 403, "no webhook secret is configured"},
		{"no secret, signed with the empty one", func(r *http.Request) {
			r.Header.Set("X-Hub-Signature-256", sign(sha256.New, "sha256", "", body))
		}, func(c *Config) { c.Secrets = nil }, 403, "no webhook secret is configured"},
		{"a token instead", func(r *http.Request) {
			r.Header.Del("X-Hub-Signature-256")
			r.Header.Set("Authorization", "Bearer token")
		}, nil, 401, "not signed"},
		{"the longest pattern counts", nil, func(c *Config) { c.Secrets["*/*"] = otherSecret; c.Secret = otherSecret }, 202, ""},
		{"the default", nil, func(c *Config) { c.Secrets, c.Secret = nil, acmeSecret }, 202, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			config := testConfig()
			r := delivery("push", body, acmeSecret)
			if tt.change != nil {
				tt.change(r)
			}
			if tt.config != nil {
				tt.config(&config)
			}
			var q recorder
			status, answer, header := post(t, config, &q, r)
			if status != tt.want || !strings.Contains(answer, tt.detail) {
				t.Errorf("answered %d %s, want %d with %q", status, answer, tt.want, tt.detail)
			}
			if (status == 202) != (len(q.commits) == 1) {
				t.Errorf("queued %d commits", len(q.commits))
			}
			if status != 202 && header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("content type %q", header.Get("Content-Type"))
			}
		})
	}
}

func TestDeletions(t *testing.T) {
	body := testdata(t, "push_branch_deleted")
	const head = "0a1b2c3d4e5f60718293a4b5c6d7e8f900112233"
	tests := []struct {
		name, old, new string
		secret         string
		status         int
		want           *Deletion
	}{
		{"a branch", "", "", acmeSecret, 202, &Deletion{"acme/api", "old", head}},
		{"a branch with parts", "heads/old", "heads/team/old", acmeSecret, 202, &Deletion{"acme/api", "team/old", head}},
		{"known by its zeros", `"deleted": true`, `"deleted": false`, acmeSecret, 202, &Deletion{"acme/api", "old", head}},
		{"nothing is known of its head", head, strings.Repeat("0", 40), acmeSecret, 202, &Deletion{Repo: "acme/api", Branch: "old"}},
		{"a tag", "refs/heads/old", "refs/tags/old", acmeSecret, 200, nil},
		{"another's secret", "", "", otherSecret, 403, nil},
		{"another repository beside it", "{", `{"Repository": {"full_name": "other/api"},`, otherSecret, 403, nil},
		{"an option", "heads/old", "heads/--all", acmeSecret, 422, nil},
		{"a line break", "heads/old", `heads/a\nb`, acmeSecret, 422, nil},
		{"no name", "heads/old", "heads/", acmeSecret, 422, nil},
		{"a head that is none", head, "HEAD", acmeSecret, 422, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var q recorder
			body := strings.Replace(body, tt.old, tt.new, 1)
			status, said, _ := post(t, testConfig(), &q, delivery("push", body, tt.secret))
			if status != tt.status || len(q.commits) > 0 || (tt.want != nil) != (len(q.deleted) == 1) || tt.want != nil && q.deleted[0] != *tt.want {
				t.Errorf("answered %d %s, queued %+v and %+v; want %d, %+v", status, said, q.deleted, q.commits, tt.status, tt.want)
			}
		})
	}
	q := recorder{err: fmt.Errorf("%w: dial amqp.internal: refused", ErrUnavailable)}
	status, said, header := post(t, testConfig(), &q, delivery("push", body, acmeSecret))
	if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" || strings.Contains(said, "amqp.internal") {
		t.Errorf("a deletion that can't be queued is answered %d %s", status, said)
	}
}

// TestOneSecretSignsForItsRepositoryOnly sends a body that names two
// repositories: one to choose the secret by, one to build.
func TestOneSecretSignsForItsRepositoryOnly(t *testing.T) {
	body := testdata(t, "push_branch")
	twice := strings.Replace(body, "{", `{"repository": {"full_name": "other/api", "clone_url": "https://github.com/other/api.git"},`, 1)
	twiceCased := strings.Replace(body, "{", `{"Repository": {"full_name": "other/api"},`, 1)
	after := strings.TrimSuffix(strings.TrimSpace(body), "}") + `, "REPOSITORY": {"full_name": "other/api"}}`
	for _, body := range []string{twice, twiceCased, after} {
		var q recorder
		_, _, _ = post(t, testConfig(), &q, delivery("push", body, otherSecret))
		for _, c := range q.commits {
			if !strings.HasPrefix(c.Repo, "other/") || !strings.HasPrefix(c.CloneURL, "https://github.com/other/") {
				t.Errorf("other's secret started a build of %s from %s", c.Repo, c.CloneURL)
			}
		}
	}
}

func TestReplayBuildsOnce(t *testing.T) {
	log := newFakeLog()
	q := LogQueue{log, log.overtaken}
	var answers [3]answer
	// A replay of somebody who listened, and the forge's own redelivery under a new
	// ID: neither needs a new signature.
	for i, id := range []string{"first", "first", "second"} {
		r := delivery("push", testdata(t, "push_branch"), acmeSecret)
		r.Header.Set("X-GitHub-Delivery", id)
		status, body, _ := post(t, testConfig(), q, r)
		if err := json.Unmarshal([]byte(body), &answers[i]); err != nil || status != http.StatusAccepted {
			t.Fatalf("answered %d %s", status, body)
		}
	}
	if log.builds() != 1 {
		t.Errorf("made %d builds, want 1", log.builds())
	}
	if answers[0].Known || !answers[1].Known || !answers[2].Known || answers[1].Build != answers[0].Build || answers[2].Build != answers[0].Build {
		t.Errorf("answers %+v", answers)
	}
	// The same commit elsewhere, or as something else, is another event: it builds.
	for event, body := range map[string]string{
		"push":         strings.Replace(testdata(t, "push_branch"), "refs/heads/main", "refs/heads/release", 1),
		"pull_request": strings.ReplaceAll(testdata(t, "pull_request_opened"), headSHA, pushedSHA),
	} {
		before := log.builds()
		if status, answer, _ := post(t, testConfig(), q, delivery(event, body, acmeSecret)); status != http.StatusAccepted || log.builds() != before+1 {
			t.Errorf("%s of the same commit answered %d %s", event, status, answer)
		}
	}
}

func TestForms(t *testing.T) {
	text := testdata(t, "push_branch")
	form := url.Values{"payload": {text}}.Encode()
	tests := []struct {
		name, kind, body string
		want             int
	}{
		{"form", "application/x-www-form-urlencoded", form, 202},
		{"json with charset", "application/json; charset=utf-8", text, 202},
		{"no type", "", text, 415},
		{"xml", "application/xml", text, 415},
		{"form that is none", "application/x-www-form-urlencoded", "%zz", 400},
		{"not json", "application/json", "{", 403}, // it names no repository, and there is no default secret
		{"too large", "application/json", text + strings.Repeat(" ", defaultMaxBody), 413},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var q recorder
			r := delivery("push", tt.body, acmeSecret)
			r.Header.Set("Content-Type", tt.kind)
			status, body, _ := post(t, testConfig(), &q, r)
			if status != tt.want {
				t.Errorf("answered %d %s, want %d", status, body, tt.want)
			}
		})
	}
	t.Run("signed, and no JSON", func(t *testing.T) {
		for _, body := range []string{"", "{", "null", `"text"`, "[]", `{"ref":`, "\xff\xfe"} {
			for _, path := range []string{"/hooks/github", "/commit"} {
				r := delivery("push", body, acmeSecret)
				r.URL.Path = path
				var q recorder
				if status, answer, _ := post(t, Config{Secret: acmeSecret}, &q, r); status != http.StatusBadRequest && status != http.StatusUnprocessableEntity || len(q.commits) > 0 {
					t.Errorf("%s with %q answered %d %s, want 400 or 422", path, body, status, answer)
				}
			}
		}
	})
	t.Run("deep", func(t *testing.T) {
		deep := strings.Repeat("[", 100_000)
		status, body, _ := post(t, Config{Secret: acmeSecret}, &recorder{}, delivery("push", deep, acmeSecret))
		if status != http.StatusBadRequest {
			t.Errorf("answered %d %s, want 400", status, body)
		}
	})
}

func TestHostilePayloads(t *testing.T) {
	tests := []struct{ name, old, new, detail string }{
		{"ref is an option", "refs/heads/main", "refs/heads/--upload-pack=id", "begin with"},
		{"ref without refs", `"refs/heads/main"`, `"--upload-pack=id"`, "ignored"},
		{"ref climbs", "refs/heads/main", "refs/heads/../../x", "git allows no such ref"},
		{"ref has a line break", "refs/heads/main", `refs/heads/a\nb`, "no ref"},
		{"ref has an escape", "refs/heads/main", `refs/heads/a\u001b[2J`, "no ref"},
		{"ref turns text around", "refs/heads/main", `refs/heads/a\u202eb`, "no ref"},
		{"ref is huge", "refs/heads/main", "refs/heads/" + strings.Repeat("x", 300_000), "at most 255"},
		{"sha is an option", pushedSHA, "--upload-pack=id", "hexadecimal"},
		{"sha is short", pushedSHA, "5f0c1d2", "hexadecimal"},
		{"clone url is another host", "https://github.com/acme/api.git", "https://169.254.169.254/acme/api.git", "only the hosts"},
		{"clone url has a look-alike", "https://github.com/acme/api.git", "https://github.com.evil.example/acme/api.git", "only the hosts"},
		{"clone url has a user", "https://github.com/acme/api.git", "https://github.com@evil.example/acme/api.git", "credentials"},
		{"clone url has a port", "https://github.com/acme/api.git", "https://github.com:8080/acme/api.git", "only the hosts"},
		{"clone url is another repository", "https://github.com/acme/api.git", "https://github.com/other/api.git", "not that of"},
		{"clone url runs a command", "https://github.com/acme/api.git", "ext::sh -c id", "want a URL"},
		{"clone url is a file", "https://github.com/acme/api.git", "file:///etc", "protocols"},
		{"clone url is an option", "https://github.com/acme/api.git", "--upload-pack=id", "want a URL"},
		{"clone url is missing", `"clone_url": "https://github.com/acme/api.git",`, "", "missing"},
		{"repo climbs", `"acme/api"`, `"acme/.."`, "want a name"},
		{"repo is an option", `"acme/api"`, `"acme/-api"`, "want a name"},
		{"ref is a number", `"refs/heads/main"`, `7`, "could not be read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := strings.ReplaceAll(testdata(t, "push_branch"), tt.old, tt.new)
			if body == testdata(t, "push_branch") {
				t.Fatal("changed nothing")
			}
			var q recorder
			config := testConfig()
			status, answer, _ := post(t, config, &q, delivery("push", body, acmeSecret))
			if len(q.commits) > 0 || status == 202 || status >= 500 || !strings.Contains(answer, tt.detail) {
				t.Errorf("answered %d %s, queued %d; want a refusal with %q", status, answer, len(q.commits), tt.detail)
			}
		})
	}
	t.Run("message is cleaned", func(t *testing.T) {
		body := strings.ReplaceAll(testdata(t, "push_branch"), "cache: forget", `\u001b]0;x\u0007`+strings.Repeat("ä", 5000))
		var q recorder
		if status, answer, _ := post(t, testConfig(), &q, delivery("push", body, acmeSecret)); status != 202 {
			t.Fatalf("answered %d %s", status, answer)
		}
		if got := q.commits[0].Message; len(got) > maxMessage || strings.ContainsAny(got, "\x1b\x07") || !strings.HasSuffix(got, "ä…") {
			t.Errorf("message %q", got)
		}
	})
}

func TestCommitEndpoint(t *testing.T) {
	want := fsm.Commit{Repo: "acme/api", SHA: pushedSHA, Ref: "refs/heads/main", Event: fsm.EventPush}
	tests := []struct {
		name, body, cloneURL string
		status               int
		detail               string
	}{
		{"own form", testdata(t, "commit"), "https://git.example.com/acme/api.git", 202, ""},
		{"the original's form", testdata(t, "commit_original"), "https://github.com/acme/api.git", 202, ""},
		{"a branch's name", `{"repo":"acme/api","sha":"` + strings.ToUpper(pushedSHA) + `","ref":"main","clone_url":"ssh://git@host:22/acme/api.git"}`, "ssh://git@host:22/acme/api.git", 202, ""},
		{"a typing mistake", `{"repo":"acme/api","comit":"` + pushedSHA + `"}`, "", 400, "comit"},
		{"no commit", `{"repo":"acme/api","ref":"main","clone_url":"https://h/acme/api"}`, "", 422, "commit is missing"},
		{"no ref", `{"repo":"acme/api","commit":"` + pushedSHA + `","clone_url":"https://h/acme/api"}`, "", 422, "ref is missing"},
		{"no url", `{"repo":"acme/api","commit":"` + pushedSHA + `","ref":"main"}`, "", 422, "clone_url is missing"},
		{"a password", `{"repo":"acme/api","commit":"` + pushedSHA + `","ref":"main","clone_url":"https://u:hunter2@h/acme/api"}`, "", 422, "credentials"},
		{"an unknown event", `{"repo":"acme/api","commit":"` + pushedSHA + `","ref":"main","clone_url":"https://h/acme/api","event":"x"}`, "", 422, "event"},
		{"two values", testdata(t, "commit") + "{}", "", 400, "more than one"},
	}
	for _, tt := range tests {
		for _, auth := range []string{"token", "signature", "wrong token", "none"} {
			t.Run(tt.name+" with "+auth, func(t *testing.T) {
				r := httptest.NewRequest(http.MethodPost, "/commit", strings.NewReader(tt.body))
				status := tt.status
				switch auth {
				case "token":
					r.Header.Set("Authorization", "Bearer token")
				case "signature":
					r.Header.Set("X-Hub-Signature-256", sign(sha256.New, "sha256", acmeSecret, tt.body))
				case "wrong token":
					r.Header.Set("Authorization", "Bearer nekot")
					status = 401
				case "none":
					status = 401
				}
				var q recorder
				got, body, _ := post(t, testConfig(), &q, r)
				if got != status || status == tt.status && !strings.Contains(body, tt.detail) || strings.Contains(body, "hunter2") {
					t.Fatalf("answered %d %s, want %d with %q", got, body, status, tt.detail)
				}
				if status != 202 {
					return
				}
				c := q.commits[0]
				if c.CloneURL != tt.cloneURL || c.Key() != want.Key() {
					t.Errorf("queued %+v", c)
				}
			})
		}
	}
	t.Run("a GitHub webhook, as the original took it here", func(t *testing.T) {
		r := delivery("push", testdata(t, "push_branch"), acmeSecret)
		r.URL.Path = "/commit"
		var q recorder
		if status, body, _ := post(t, testConfig(), &q, r); status != 202 || q.commits[0].Key() != want.Key() {
			t.Errorf("answered %d %s", status, body)
		}
	})
}

func TestUnavailableQueue(t *testing.T) {
	q := recorder{err: fmt.Errorf("%w: dial amqp.internal: refused", ErrUnavailable)}
	status, body, header := post(t, testConfig(), &q, delivery("push", testdata(t, "push_branch"), acmeSecret))
	if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" || strings.Contains(body, "internal") {
		t.Errorf("answered %d %s, header %v; want 503 with Retry-After and no host's name", status, body, header)
	}
}

func TestMethods(t *testing.T) {
	for _, path := range []string{"/hooks/github", "/commit"} {
		if status, _, _ := post(t, testConfig(), &recorder{}, httptest.NewRequest(http.MethodGet, path, nil)); status != http.StatusMethodNotAllowed {
			t.Errorf("GET %s answered %d", path, status)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	for _, c := range []Config{
		{Secret: "short"}, {Secrets: map[string]string{"a/[": "long enough"}}, {Secrets: map[string]string{"a/*": ""}},
		{Protocols: []string{"ext"}}, {MaxBody: -1},
	} {
		if err := c.Validate(); err == nil {
			t.Errorf("%+v is valid", c)
		}
	}
}

func TestStandalone(t *testing.T) {
	p, err := NewPublisher(Broker{URL: "amqp://127.0.0.1:1/", PublishTimeout: 1}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	h, err := Standalone(testConfig(), p, quiet())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	defer server.Close()
	resp, err := server.Client().Get(server.URL + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("/healthz answered %d without a broker", resp.StatusCode)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, delivery("push", testdata(t, "push_branch"), acmeSecret))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("a webhook was answered %d without a broker", w.Code)
	}
}
