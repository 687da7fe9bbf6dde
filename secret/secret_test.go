package secret

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func box(t testing.TB, seed byte) *Box {
	t.Helper()
	b, err := New(bytes.Repeat([]byte{seed}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSealOpens(t *testing.T) {
	b := box(t, 1)
	rapid.Check(t, func(t *rapid.T) {
		repo, name, value := rapid.String().Draw(t, "repo"), rapid.String().Draw(t, "name"), rapid.String().Draw(t, "value")
		sealed, err := b.Seal(repo, name, value)
		if err != nil {
			t.Fatal(err)
		}
		if len(value) > 3 && bytes.Contains(sealed, []byte(value)) {
			t.Fatalf("the value stands in its sealed form")
		}
		if got, err := b.Open(repo, name, sealed); err != nil || got != value {
			t.Fatalf("opened %q, %v; sealed %q", got, err, value)
		}
		at := rapid.IntRange(0, len(sealed)-1).Draw(t, "at")
		sealed[at] ^= 1
		if got, err := b.Open(repo, name, sealed); !errors.Is(err, ErrSealed) {
			t.Fatalf("with byte %d changed it opened as %q, %v", at, got, err)
		}
	})
}

// TestSealIsBound moves a sealed value to where it doesn't belong.
func TestSealIsBound(t *testing.T) {
	b := box(t, 1)
	sealed, err := b.Seal("acme/api", "TOKEN", "swordfish")
	if err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]func() (string, error){
		"another repository":   func() (string, error) { return b.Open("acme/web", "TOKEN", sealed) },
		"all repositories":     func() (string, error) { return b.Open("", "acme/apiTOKEN", sealed) },
		"another name":         func() (string, error) { return b.Open("acme/api", "TOKEN2", sealed) },
		"a shifted border":     func() (string, error) { return b.Open("acme/apiT", "OKEN", sealed) },
		"another cluster":      func() (string, error) { return box(t, 2).Open("acme/api", "TOKEN", sealed) },
		"nothing":              func() (string, error) { return b.Open("acme/api", "TOKEN", nil) },
		"a form of the future": func() (string, error) { return b.Open("acme/api", "TOKEN", append([]byte{9}, sealed[1:]...)) },
	} {
		if got, err := open(); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: it opened as %q, %v", name, got, err)
		}
	}
}

func TestSealsDiffer(t *testing.T) {
	b := box(t, 1)
	one, err1 := b.Seal("r", "N", "same")
	two, err2 := b.Seal("r", "N", "same")
	if err1 != nil || err2 != nil || bytes.Equal(one, two) {
		t.Errorf("the same value sealed twice looks the same (%v, %v)", err1, err2)
	}
}

func TestLimits(t *testing.T) {
	if _, err := New(make([]byte, 31)); err == nil {
		t.Error("a short key was taken")
	}
	b := box(t, 1)
	if _, err := b.Seal("r", "N", strings.Repeat("x", MaxValue)); err != nil {
		t.Error(err)
	}
	if _, err := b.Seal("r", "N", strings.Repeat("x", MaxValue+1)); err == nil {
		t.Error("a value that is too long was sealed")
	}
}
