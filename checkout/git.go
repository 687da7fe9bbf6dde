package checkout

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// hardening is the configuration of every git process. It travels in the
// environment, where it wins over any file and reaches submodules' processes.
var hardening = [][2]string{
	{"core.hooksPath", "/dev/null"},
	{"core.fsmonitor", "false"},
	{"core.attributesFile", "/dev/null"},
	{"core.excludesFile", "/dev/null"},
	{"core.protectHFS", "true"},
	{"core.protectNTFS", "true"},
	{"core.askPass", ""},
	{"core.pager", "cat"},
	{"safe.bareRepository", "explicit"},
	{"credential.helper", ""},
	{"transfer.credentialsInUrl", "die"},
	{"http.followRedirects", "false"},
	{"http.lowSpeedLimit", "1000"}, // bytes a second …
	{"http.lowSpeedTime", "30"},    // … for as many seconds end a transfer
	{"submodule.recurse", "false"},
	{"fetch.recurseSubmodules", "false"},
	{"advice.detachedHead", "false"},
	{"index.threads", "1"}, // builds are many, cores are few
	{"checkout.workers", "1"},
	// Packs are installed whole and synced; loose objects of a broken fetch
	// could be a commit without its tree.
	{"fetch.unpackLimit", "1"},
	{"transfer.unpackLimit", "1"},
	{"core.fsync", "committed,-loose-object"},
	// What arrives is checked, but for tolerated.
	{"fetch.fsckObjects", "true"},
	{"transfer.fsckObjects", "true"},
	{"fetch.fsck." + tolerated[0], "ignore"},
	{"fetch.fsck." + tolerated[1], "ignore"},
	{"fetch.fsck." + tolerated[2], "ignore"},
	// Nothing runs behind our back, and nothing is deleted: workspaces borrow.
	{"gc.auto", "0"},
	{"gc.pruneExpire", "never"},
	{"maintenance.auto", "false"},
}

// tolerated are old blemishes of honest repositories that harm no one.
var tolerated = [...]string{"zeroPaddedFilemode", "missingSpaceBeforeDate", "badTimezone"}

// blemishes is tolerated as git index-pack takes it.
func blemishes() string { return strings.Join(tolerated[:], "=ignore,") + "=ignore" }

// git runs the git command line. It holds no state.
type git struct {
	program string
	home    string // its HOME: an empty folder
	env     []string
	allowed string // GIT_ALLOW_PROTOCOL
	timeout time.Duration
	creds   func(url string) (user, secret string, ok bool)
}

func newGit(program, home string, cfg Config) git {
	env := []string{
		"PATH=/usr/local/bin:/usr/bin:/bin",
		"HOME=" + home, "XDG_CONFIG_HOME=" + home, "LC_ALL=C",
	}
	env = append(env, cfg.Env...)
	env = append(env,
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_ATTR_NOSYSTEM=1", "GIT_NO_REPLACE_OBJECTS=1", "GIT_TEMPLATE_DIR=",
		"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=", "SSH_ASKPASS=", "GIT_LFS_SKIP_SMUDGE=1",
		"GIT_SSH_COMMAND=ssh -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=15 -o ForwardAgent=no",
		"GIT_SSH_VARIANT=ssh",
	)
	return git{
		program: program, home: home, env: env, timeout: cfg.Timeout, creds: cfg.Credentials,
		allowed: strings.Join(cfg.Protocols, ":"),
	}
}

// call is one run of git.
type call struct {
	gitDir   string // --git-dir, always explicit
	workTree string // --work-tree, and where git runs; empty for none
	remote   *remote
	stdin    io.Reader
	protocol string // GIT_ALLOW_PROTOCOL instead of the operator's; empty for that
	config   [][2]string
	stdout   io.Writer
}

// failure is what git said when it did not succeed. It holds no secret.
type failure struct {
	verb string
	said string
	kind error
}

func (f *failure) Error() string { return fmt.Sprintf("git %s: %s: %s", f.verb, f.kind, f.said) }
func (f *failure) Unwrap() error { return f.kind }

// command prepares a git process without starting it.
func (g git) command(c call, args []string) (cmd *exec.Cmd, secrets []string) {
	config := append(slices.Clone(hardening), c.config...)
	if c.remote != nil && g.creds != nil && strings.HasPrefix(c.remote.scheme, "http") {
		if user, secret, ok := g.creds(c.remote.url); ok {
			basic := base64.StdEncoding.EncodeToString([]byte(user + ":" + secret))
			// Bound to scheme and host: submodules elsewhere don't get it.
			config = append(config, [2]string{"http." + c.remote.origin() + ".extraHeader", "Authorization: Basic " + basic})
			secrets = []string{secret, basic}
		}
	}
	allowed := g.allowed
	if c.protocol != "" {
		allowed = c.protocol
	}
	env := append(slices.Clone(g.env), "GIT_ALLOW_PROTOCOL="+allowed, "GIT_CONFIG_COUNT="+strconv.Itoa(len(config)))
	for i, kv := range config {
		n := strconv.Itoa(i)
		env = append(env, "GIT_CONFIG_KEY_"+n+"="+kv[0], "GIT_CONFIG_VALUE_"+n+"="+kv[1])
	}
	full := []string{"--git-dir=" + c.gitDir}
	dir := c.gitDir
	if c.workTree != "" {
		full = append(full, "--work-tree="+c.workTree)
		dir = c.workTree
	}
	cmd = &exec.Cmd{Path: g.program, Args: append(append([]string{"git"}, full...), args...), Dir: dir, Env: env}
	cmd.SysProcAttr = ownGroup()
	return cmd, secrets
}

// run runs git to its end. When ctx ends or the time is up, the process and
// all that it started are killed. The error is a *failure or the context's.
func (g git) run(ctx context.Context, c call, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	cmd, secrets := g.command(c, args)
	stderr := &excerpt{limit: 8 << 10}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.stdin, c.stdout, stderr
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start git: %w", err)
	}
	pid := cmd.Process.Pid
	stop := context.AfterFunc(ctx, func() { killGroup(pid) })
	err := cmd.Wait()
	stop()
	if ctxErr := ctx.Err(); ctxErr != nil && err != nil {
		killGroup(pid)
		if errors.Is(ctxErr, context.DeadlineExceeded) {
			return &failure{verb: args[0], said: "it took longer than allowed", kind: ErrTransport}
		}
		return ctxErr
	}
	if err != nil {
		said := scrub(strings.TrimSpace(stderr.String()), secrets...)
		return &failure{verb: args[0], said: firstLines(said, err), kind: classify(said)}
	}
	return nil
}

func killGroup(pid int) {
	// The group may be gone already: that is what is wanted.
	_ = syscall.Kill(-pid, syscall.SIGKILL)
}

// classify finds the kind of failure in git's words, which LC_ALL=C keeps in
// English.
func classify(said string) error {
	kinds := []struct {
		kind  error
		words []string
	}{
		{ErrForbidden, []string{"not allowed"}},
		{ErrCorrupt, []string{"fsck error", "fsck-objects", "invalid sha1", "corrupt", "did not send all necessary objects", "pack has bad object", "unresolved deltas", "invalid path", "inflate"}},
		{ErrAuth, []string{"authentication failed", "could not read username", "could not read password", "permission denied", "returned error: 401", "returned error: 403", "host key verification failed"}},
		{ErrNotFound, []string{"not our ref", "not found", "couldn't find remote ref", "does not appear to be a git repository", "does not exist", "unadvertised object", "returned error: 404"}},
	}
	lower := strings.ToLower(said)
	for _, k := range kinds {
		if slices.ContainsFunc(k.words, func(w string) bool { return strings.Contains(lower, w) }) {
			return k.kind
		}
	}
	return ErrTransport
}

// firstLines keeps an error short enough for a build's page. What a server says
// is in it: control characters, which could steer a terminal, are not.
func firstLines(said string, err error) string {
	if said == "" {
		return err.Error()
	}
	lines := strings.Split(said, "\n")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, strings.Join(lines[:min(len(lines), 4)], "; "))
}

// excerpt keeps the beginning of what is written, up to limit bytes, and lets the
// rest go: a server can talk for ever. The buffer is not embedded: its ReadFrom, which
// io.Copy would find, knows no limit.
type excerpt struct {
	kept  bytes.Buffer
	limit int
}

func (e *excerpt) Write(p []byte) (int, error) {
	e.kept.Write(p[:max(0, min(len(p), e.limit-e.kept.Len()))])
	return len(p), nil
}

func (e *excerpt) String() string { return e.kept.String() }
