package checkout

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

var (
	shaPattern    = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)
	digestPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)
	hostPattern   = regexp.MustCompile(`^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?)(:[0-9]{1,5})?$`)
	userPattern   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
	encodedCtl    = regexp.MustCompile(`(?i)%(0[0-9a-f]|1[0-9a-f]|7f)`)
	userinfo      = regexp.MustCompile(`://\S*@`) // a secret may hold slashes
	unfitForNames = regexp.MustCompile(`[^A-Za-z0-9._-]+`)
)

// remote is a clone URL that has been judged.
type remote struct {
	url    string // as it arrived
	scheme string
	host   string // empty for file
	path   string
}

// parseRemote accepts scheme://host/path for the schemes that are allowed, and
// ssh's [user@]host:path where ssh is. Everything that git could take for an
// option or a remote helper is refused, and so are secrets: a URL is logged.
func parseRemote(raw string, allowed []string) (remote, error) {
	bad := func(why string) (remote, error) {
		return remote{}, fmt.Errorf("clone URL %q: %s: %w", scrub(raw), why, ErrInvalid)
	}
	switch {
	case raw == "":
		return bad("it is empty")
	case len(raw) > 2048:
		return remote{}, fmt.Errorf("clone URL of %d bytes: too long: %w", len(raw), ErrInvalid)
	case raw[0] == '-':
		return bad("it begins with a dash")
	case hasControl(raw) || strings.ContainsAny(raw, " \\") || encodedCtl.MatchString(raw):
		return bad("it has spaces, backslashes or control characters")
	}
	r, why := splitRemote(raw)
	if why != "" {
		return bad(why)
	}
	if !slices.Contains(allowed, r.scheme) {
		return remote{}, fmt.Errorf("clone URL %q: the protocol %s is %w", scrub(raw), r.scheme, ErrForbidden)
	}
	return r, nil
}

func splitRemote(raw string) (r remote, why string) {
	if strings.HasPrefix(raw, "/") {
		return remote{url: raw, scheme: "file", path: raw}, ""
	}
	scheme, _, found := strings.Cut(raw, "://")
	if !found {
		return splitSCP(raw)
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" || u.Fragment != "" {
		return r, "it is no URL"
	}
	r = remote{url: raw, scheme: scheme, host: u.Host, path: u.Path}
	if u.User != nil {
		if _, secret := u.User.Password(); secret || scheme != "ssh" {
			return r, "credentials don't belong in a URL"
		}
		if !userPattern.MatchString(u.User.Username()) {
			return r, "its user is not one"
		}
	}
	if scheme == "file" {
		if u.Host != "" || !strings.HasPrefix(u.Path, "/") {
			return r, "it is not file:///path"
		}
		return r, ""
	}
	if !hostPattern.MatchString(u.Host) {
		return r, "its host is not one"
	}
	if strings.Trim(u.Path, "/") == "" || strings.HasPrefix(u.Path, "/-") {
		return r, "it has no repository's path"
	}
	return r, ""
}

// splitSCP reads git@host:path. A second colon right after the first would
// make it a remote helper (ext::…).
func splitSCP(raw string) (r remote, why string) {
	where, path, found := strings.Cut(raw, ":")
	user, host, hasUser := strings.Cut(where, "@")
	if !hasUser {
		user, host = "git", where
	}
	if !found || path == "" || path[0] == ':' || path[0] == '-' ||
		!hostPattern.MatchString(host) || !userPattern.MatchString(user) {
		return r, "it is neither scheme://host/path nor user@host:path"
	}
	return remote{url: raw, scheme: "ssh", host: host, path: path}, ""
}

// origin is what credentials are bound to: scheme and host.
func (r remote) origin() string { return r.scheme + "://" + r.host + "/" }

// mirrorName is a folder's name that people can read and no two sources share.
func mirrorName(host, path, identity string) string {
	name := strings.Trim(unfitForNames.ReplaceAllString(host+"-"+path, "-"), "-.")
	name = strings.TrimSuffix(name, ".git")
	sum := sha256.Sum256([]byte(identity))
	return name[:min(len(name), 80)] + "-" + hex.EncodeToString(sum[:16]) + ".git"
}

// checkRef applies the rules of git check-ref-format to a full ref name.
func checkRef(ref string) error {
	bad := !strings.HasPrefix(ref, "refs/") || len(ref) > 1024 || hasControl(ref) ||
		strings.ContainsAny(ref, " ~^:?*[\\") || strings.Contains(ref, "..") ||
		strings.Contains(ref, "@{") || strings.HasSuffix(ref, ".")
	for _, part := range strings.Split(ref, "/") {
		bad = bad || part == "" || part[0] == '.' || strings.HasSuffix(part, ".lock")
	}
	if bad {
		return fmt.Errorf("ref %q: %w", ref, ErrInvalid)
	}
	return nil
}

func checkSHA(sha string) error {
	if !shaPattern.MatchString(sha) || strings.Trim(sha, "0") == "" {
		return fmt.Errorf("commit %q: want 40 or 64 hexadecimal digits: %w", sha, ErrInvalid)
	}
	return nil
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f })
}

// scrub takes what may be a secret out of text that people will see.
func scrub(text string, secrets ...string) string {
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "***")
		}
	}
	return userinfo.ReplaceAllString(text, "://***@")
}
