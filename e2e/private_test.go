package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// TestPrivateRepository builds from a server that wants a token, which changes meanwhile,
// and finds there what was pushed while the node was down.
func TestPrivateRepository(t *testing.T) {
	t.Parallel()
	var token atomic.Pointer[string]
	change := func(to string) { token.Store(&to) }
	change("first-hunter2")
	f := newForgeBehind(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if user, given, ok := r.BasicAuth(); !ok || user != "narwhal" || given != *token.Load() {
				w.Header().Set("WWW-Authenticate", `Basic realm="forge"`)
				http.Error(w, "not you, "+given, http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	dir := t.TempDir()
	signs, credentials := filepath.Join(dir, "secret"), filepath.Join(dir, "git")
	must(t, os.WriteFile(signs, []byte(secret+"\n"), 0o600))
	write := func(token string) {
		t.Helper()
		must(t, os.WriteFile(credentials, []byte("# of the forge\nhttp://narwhal:"+token+"@"+f.host+"\n"), 0o600))
	}
	write(*token.Load())
	l := cluster(t, lab.Options{Nodes: 1, Protocol: "file,http", Args: []string{
		"--webhook-secret-file", signs, "--github-host", f.host, "--git-credentials-file", credentials,
	}})
	n, r := l.Nodes[0], f.repository(t, "acme/api")
	file := small + "steps: [{command: env}]\n"
	build := func(text string) fsm.BuildID {
		t.Helper()
		body := f.push(t, r, commit(t, r, file+text))
		a, err := send(deadline(t, patience), n, "/hooks/github", body, delivery("d", secret, body))
		must(t, err)
		return a.Build
	}
	b := ended(t, anyNode(t, l), build(""))
	wantStatus(t, b, fsm.Passed)
	if text := logText(t, anyNode(t, l), b.Jobs[1].ID); strings.Contains(text, "hunter2") || !strings.Contains(text, "NARWHAL_COMMIT") {
		t.Errorf("the step sees\n%s", text)
	}

	change("second-hunter2")
	refused := ended(t, anyNode(t, l), build("# refused\n"))
	wantStatus(t, refused, fsm.Errored)
	if strings.Contains(outline(refused), "hunter2") || !strings.Contains(outline(refused), "access denied") {
		t.Errorf("with an old token: %s", outline(refused))
	}
	write(*token.Load())
	wantStatus(t, ended(t, anyNode(t, l), build("# with the new one\n")), fsm.Passed)

	must(t, n.Kill())
	missed := commit(t, r, file+"# missed\n")
	before := strings.Count(n.Log(), remotesAsked)
	must(t, n.Start(deadline(t, patience)))
	logged(t, l, remotesAsked, before+1)
	ids := allBuilds(t, anyNode(t, l))
	last := ended(t, anyNode(t, l), ids[len(ids)-1])
	wantStatus(t, last, fsm.Passed)
	if last.SHA != missed || len(ids) != 4 {
		t.Errorf("the builds are %v, the last is of %s", ids, last.SHA)
	}
	if strings.Contains(n.Log(), "hunter2") {
		t.Error("the node's log has a token")
	}
}
