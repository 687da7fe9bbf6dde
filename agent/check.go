package agent

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/codepr/narwhal/fsm"
)

// What a commit from outside may be at most, in bytes.
const (
	maxRepo    = 200
	maxRef     = 255
	maxURL     = 2048
	maxMessage = 200
	maxAuthor  = 100
	maxHolders = 16
)

var (
	repoPattern   = regexp.MustCompile(`^[A-Za-z0-9_.][A-Za-z0-9_.-]*(/[A-Za-z0-9_.][A-Za-z0-9_.-]*){0,5}$`)
	shaPattern    = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
	digestPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)
	// hostPattern leaves no room for what ssh would take for an option.
	hostPattern = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?$`)
	userPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)

	knownEvents = []fsm.Event{fsm.EventPush, fsm.EventTag, fsm.EventPullRequest, fsm.EventManual}
	// knownProtocols are those that narwhal ever hands to git; ext:: and the like
	// run commands.
	knownProtocols = []string{"https", "ssh", "http", "git", "file"}
)

// CheckCommit tells whether c, that came from outside, is fit to be handed to git
// and to be shown: names without options, traversal or control characters, sizes
// within bounds, a clone URL with one of the protocols and without a password.
// Nil protocols stand for every one that narwhal knows: which of them is used is
// the node's decision then. The error wraps ErrBadCommit and names the field.
func CheckCommit(c fsm.Commit, protocols []string) error {
	if protocols == nil {
		protocols = knownProtocols
	}
	checks := []error{
		checkRepo(c.Repo), checkSHA(c.SHA), checkRef("ref", c.Ref), checkSource(c, protocols),
		checkText("message", c.Message, maxMessage), checkText("author", c.Author, maxAuthor),
		checkText("forge", c.Forge, maxAuthor),
	}
	if c.Base != "" {
		checks = append(checks, checkRef("base", "refs/heads/"+c.Base))
	}
	if c.Before != "" && !shaPattern.MatchString(c.Before) {
		checks = append(checks, bad("before", c.Before, "want 40 or 64 hexadecimal digits"))
	}
	for _, err := range checks {
		if err != nil {
			return err
		}
	}
	if !slices.Contains(knownEvents, c.Event) {
		return bad("event", c.Event, "want push, tag, pull_request or manual")
	}
	if c.PullRequest < 0 {
		return bad("pull_request", c.PullRequest, "want a number from 1")
	}
	return nil
}

func checkRepo(repo string) error {
	switch {
	case repo == "":
		return fmt.Errorf("%w: repo is missing", ErrBadCommit)
	case len(repo) > maxRepo:
		return bad("repo", repo, fmt.Sprintf("want at most %d bytes", maxRepo))
	case !repoPattern.MatchString(repo):
		return bad("repo", repo, "want a name such as acme/api")
	}
	for part := range strings.SplitSeq(repo, "/") {
		if strings.Trim(part, ".") == "" {
			return bad("repo", repo, "want a name such as acme/api")
		}
	}
	return nil
}

func checkSHA(sha string) error {
	switch {
	case sha == "":
		return fmt.Errorf("%w: commit is missing", ErrBadCommit)
	case !shaPattern.MatchString(sha):
		return bad("commit", sha, "want 40 or 64 hexadecimal digits")
	case strings.Trim(sha, "0") == "":
		return bad("commit", sha, "it stands for no commit")
	}
	return nil
}

// checkRef holds a ref to git's own rules (git check-ref-format), and beyond them
// refuses a name of which a part begins with a dash: git takes refs in places
// where it takes options too.
func checkRef(field, ref string) error {
	switch {
	case ref == "":
		return fmt.Errorf("%w: %s is missing", ErrBadCommit, field)
	case len(ref) > maxRef:
		return bad(field, ref, fmt.Sprintf("want at most %d bytes", maxRef))
	case !utf8.ValidString(ref):
		return bad(field, ref, "it is not UTF-8")
	case !strings.HasPrefix(ref, "refs/") || strings.Count(ref, "/") < 2:
		return bad(field, ref, "want a ref such as refs/heads/main")
	case strings.ContainsAny(ref, " ~^:?*[\\") || strings.ContainsFunc(ref, invisible):
		return bad(field, ref, "it has a character that git allows in no ref")
	case strings.Contains(ref, "..") || strings.Contains(ref, "@{") || strings.HasSuffix(ref, "."):
		return bad(field, ref, "git allows no such ref")
	}
	for part := range strings.SplitSeq(ref, "/") {
		if part == "" || part[0] == '.' || part[0] == '-' || strings.HasSuffix(part, ".lock") {
			return bad(field, ref, "no part of it may be empty, begin with '.' or '-', or end in .lock")
		}
	}
	return nil
}

// checkSource looks at where the commit is to be had: a clone URL, or a bundle.
func checkSource(c fsm.Commit, protocols []string) error {
	if c.Bundle != "" || len(c.Holders) > 0 {
		if c.CloneURL != "" || !digestPattern.MatchString(c.Bundle) || len(c.Holders) == 0 || len(c.Holders) > maxHolders {
			return bad("bundle", c.Bundle, "want a SHA-256, the nodes that hold it, and no clone URL")
		}
		return nil
	}
	return checkURL(c.CloneURL, protocols)
}

func checkURL(raw string, protocols []string) error {
	const field = "clone_url"
	switch {
	case raw == "":
		return fmt.Errorf("%w: %s is missing", ErrBadCommit, field)
	case len(raw) > maxURL:
		return bad(field, raw, fmt.Sprintf("want at most %d bytes", maxURL))
	case raw[0] == '-' || strings.ContainsAny(raw, " \\") || strings.ContainsFunc(raw, invisible):
		return bad(field, raw, "want a URL such as https://github.com/acme/api.git")
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" || !slices.Contains(protocols, u.Scheme) {
		return bad(field, raw, "want a URL with one of the protocols "+strings.Join(protocols, ", ")+"; ssh is ssh://git@host/path")
	}
	if u.User != nil {
		if _, has := u.User.Password(); has || u.Scheme != "ssh" || !userPattern.MatchString(u.User.Username()) {
			// Not with bad(): the text would show the password.
			return fmt.Errorf("%w: %s: it holds credentials; give them to the nodes instead", ErrBadCommit, field)
		}
	}
	if u.RawQuery != "" || u.Fragment != "" || u.ForceQuery {
		return bad(field, raw, "it has a query or a fragment")
	}
	if u.Scheme != "file" && !hostPattern.MatchString(u.Host) {
		return bad(field, raw, "its host is not a host's name")
	}
	for part := range strings.SplitSeq(strings.TrimPrefix(u.Path, "/"), "/") {
		if part == ".." || strings.HasPrefix(part, "-") || strings.ContainsFunc(part, invisible) {
			return bad(field, raw, "its path has a part that is '..', begins with '-' or holds a control character")
		}
	}
	if strings.Trim(u.Path, "/") == "" {
		return bad(field, raw, "it has no path")
	}
	return nil
}

func checkText(field, text string, limit int) error {
	if len(text) > limit || !utf8.ValidString(text) || strings.ContainsFunc(text, invisible) {
		return bad(field, text, fmt.Sprintf("want a line of at most %d bytes", limit))
	}
	return nil
}

// line makes what people wrote fit to be shown: its first line, without
// characters that a terminal or a page would obey, at most limit bytes.
func line(text string, limit int) string {
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	if len(text) > 4*limit {
		text = text[:4*limit] // the rest could not be in the result
	}
	text = strings.Map(func(r rune) rune {
		if invisible(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	if len(text) <= limit {
		return text
	}
	const more = "…"
	cut := limit - len(more)
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + more
}

// invisible are control characters, and those that reorder or hide text.
func invisible(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }

func bad(field string, value any, why string) error {
	shown := fmt.Sprint(value)
	if len(shown) > 80 {
		shown = shown[:80]
	}
	return fmt.Errorf("%w: %s %q: %s", ErrBadCommit, field, shown, why)
}
