package bundle

import "testing"

func TestRepositoryNames(t *testing.T) {
	for origin, want := range map[string]string{
		"https://example.org/acme/api.git": "acme/api", "https://user:secret@example.org/group/sub/api/": "sub/api", "git@example.org:acme/api": "acme/api",
		"ssh://git@example.org:22/acme/api.git": "acme/api", "/srv/git/other.git": "api", "../other": "api", "file:///srv/git/other.git": "git/other",
		"https://example.org/../../etc": "repository/etc", "git@example.org:..": "api", "https://example.org/": "api",
		"git@example.org:acme/\x1b[2Japi": "acme/repository", "git@example.org:-x/--help": "api", "git@example.org:acme/a\nb": "acme/repository",
	} {
		if got := repoName(origin, "/home/ann/api"); got != want {
			t.Errorf("%q: got %q, want %q", origin, got, want)
		}
	}
	for dir, want := range map[string]string{"/": "repository", "/x/-rf": "repository", "/x/a\nb": "repository", "/x/a b": "a b"} {
		if got := repoName("", dir); got != want {
			t.Errorf("folder %q: got %q, want %q", dir, got, want)
		}
	}
}
