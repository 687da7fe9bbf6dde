package checkout

import (
	"errors"
	"strings"
	"testing"
)

func TestDescribe(t *testing.T) {
	o := newOrigin(t)
	tree := plant(t, o.dir, "tree", "")
	write := func(author, text string) string {
		return plant(t, o.dir, "commit", "tree "+tree+"\nauthor "+author+" <a@b> 1700000000 +0000\ncommitter C <c@d> 1700000000 +0000\n"+text)
	}
	s := open(t)
	for _, tt := range []struct{ author, text, message, wrote string }{
		{"Otter", "\ncache: forget entries\n\nby age\n", "cache: forget entries", "Otter"},
		{"Ött\xe9r  ", "\n\n\n  late  \nmore", "late", "Öttr"},
		{"A", "", "", "A"},
		{"A\x1b]0;x\x07", "\nred \x1b[31m\u202eevil\r\nmore", "red [31mevil", "A]0;x"},
		{strings.Repeat("ä", 200), "\n" + strings.Repeat("ö", 5000), strings.Repeat("ö", 98) + "…", strings.Repeat("ä", 48) + "…"},
		{"A", "gpgsig x\n author B <b@c> 1 +0000\n\nsigned", "signed", "A"},
	} {
		sha := write(tt.author, tt.text)
		o.git("update-ref", "refs/heads/main", sha)
		c := o.at(sha, "refs/heads/main")
		ensure(t, s, c)
		message, author, err := s.Describe(t.Context(), c)
		if err != nil || message != tt.message || author != tt.wrote {
			t.Errorf("%q: %q by %q, %v; want %q by %q", tt.text, message, author, err, tt.message, tt.wrote)
		}
	}
	if _, _, err := s.Describe(t.Context(), o.at(strings.Repeat("ab", 20), "refs/heads/main")); err == nil {
		t.Error("a commit that is not there was described")
	}
	if _, _, err := s.Describe(t.Context(), o.at("HEAD", "refs/heads/main")); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}
