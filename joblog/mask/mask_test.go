package mask

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// plainly masks without an automaton: every place of every form is looked for,
// and places that overlap are one.
func plainly(values []string, text string) string {
	var spans []span
	for _, v := range values {
		for _, form := range forms(v) {
			for i := 0; i+len(form) <= len(text); i++ {
				if text[i:i+len(form)] == form {
					spans = append(spans, span{start: int64(i), end: int64(i + len(form))})
				}
			}
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return int(a.start - b.start) })
	var b strings.Builder
	at := int64(0)
	for i := 0; i < len(spans); {
		s := spans[i]
		for i++; i < len(spans) && spans[i].start < s.end; i++ {
			s.end = max(s.end, spans[i].end)
		}
		b.WriteString(text[at:s.start] + Stars)
		at = s.end
	}
	return b.String() + text[at:]
}

func pick(r *rand.Rand, alphabet []string, n int) string {
	var b strings.Builder
	for range n {
		b.WriteString(alphabet[r.IntN(len(alphabet))])
	}
	return b.String()
}

// said are the ways in which a program may print a value.
func said(r *rand.Rand, v string) string {
	quoted, _ := json.Marshal(v)
	switch r.IntN(9) {
	case 0:
		return base64.StdEncoding.EncodeToString([]byte(v))
	case 1:
		return base64.RawURLEncoding.EncodeToString([]byte(v))
	case 2:
		return base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", r.IntN(5)) + v + strings.Repeat("y", r.IntN(5))))
	case 3:
		return url.QueryEscape(v)
	case 4:
		return url.PathEscape(v)
	case 5:
		return string(quoted)
	case 6:
		return strings.ReplaceAll(v, "\n", "\r\n")
	case 7:
		return v[:r.IntN(len(v))] // a beginning alone
	default:
		return v
	}
}

func TestNoSecretComesThrough(t *testing.T) {
	alphabets := [][]string{
		{"a", "b"},
		{"a", "b", "c", "\n"},
		{"p", "ä", "\"", "/", "%", "\n", "\r\n", "<", " ", "'", "𝄞", "\\", "\x00"},
	}
	for seed := range uint64(1000) {
		r := rand.New(rand.NewPCG(seed, 1))
		alphabet := alphabets[seed%3]
		var values []string
		for range 1 + r.IntN(3) {
			values = append(values, pick(r, alphabet, 1+r.IntN(20)))
		}
		var text strings.Builder
		for range r.IntN(12) {
			text.WriteString(pick(r, alphabet, r.IntN(8)))
			text.WriteString(said(r, values[r.IntN(len(values))]))
		}
		in, want := text.String(), plainly(values, text.String())
		set := New(values)
		if set == nil {
			if in != want {
				t.Fatalf("seed %d: there is something to mask in %q", seed, values)
			}
			continue
		}
		stream, out := set.Stream(), []byte(nil)
		for rest := []byte(in); len(rest) > 0; {
			n := 1 + r.IntN(min(len(rest), 1+r.IntN(40)))
			out = stream.Append(out, rest[:n])
			rest = rest[n:]
			if longest := longest(values); len(stream.held) > longest {
				t.Fatalf("seed %d: %d bytes are held, no form is longer than %d", seed, len(stream.held), longest)
			}
			for _, v := range values {
				for _, form := range forms(v) {
					if bytes.Contains(out, []byte(form)) {
						t.Fatalf("seed %d: %q came through in %q", seed, form, out)
					}
				}
			}
		}
		if out = stream.Close(out); string(out) != want {
			t.Fatalf("seed %d: secrets %q\n  in %q\n got %q\nwant %q", seed, values, in, out, want)
		}
		if got := set.String(in); got != want {
			t.Fatalf("seed %d: String gives %q, want %q", seed, got, want)
		}
	}
}

func longest(values []string) int {
	n := 0
	for _, v := range values {
		for _, form := range forms(v) {
			n = max(n, len(form))
		}
	}
	return n
}

func TestForms(t *testing.T) {
	const secret = "s3cr&t/\"wörd\" +1"
	quoted, _ := json.Marshal(secret)
	for _, text := range []string{
		secret, "a" + secret + "b", secret + secret,
		base64.StdEncoding.EncodeToString([]byte(secret)),
		base64.URLEncoding.EncodeToString([]byte(secret)),
		base64.RawStdEncoding.EncodeToString([]byte(secret)),
		url.QueryEscape(secret), url.PathEscape(secret), strings.ToLower(url.PathEscape(secret)),
		string(quoted), `s3cr&t/\"w\u00f6rd\" +1`, `s3cr&t\/\"wörd\" +1`,
	} {
		got := New([]string{secret}).String(text)
		if rest := strings.Trim(strings.ReplaceAll(got, Stars, ""), `ab"`); rest != "" {
			t.Errorf("%q is masked as %q", text, got)
		}
	}
	// Within a larger text base64 mixes the value's edges with what is beside it.
	for before := range 7 {
		text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("u", before) + secret + ":x"))
		if got := New([]string{secret}).String(text); len(got) > len(text)-len(secret)*4/3+len(Stars)+2 {
			t.Errorf("%q is masked as %q", text, got)
		}
	}
}

func TestLines(t *testing.T) {
	key := "-----BEGIN KEY-----\nline one\nab\n\nline two\n-----END KEY-----\n"
	set := New([]string{key})
	for in, want := range map[string]string{
		key: "***\n", strings.ReplaceAll(key, "\n", "\r\n"): "***\r\n",
		"  line two":        "  ***",
		"line one\nline tw": "***\nline tw",
		"ab cd":             "ab cd",
	} {
		if got := set.String(in); got != want {
			t.Errorf("%q is masked as %q, want %q", in, got, want)
		}
	}
	long := strings.Repeat("0123456789", 20)
	text := base64.StdEncoding.EncodeToString([]byte(long))
	wrapped := text[:76] + "\n" + text[76:152] + "\n" + text[152:228] + "\n" + text[228:]
	if got := New([]string{long}).String(wrapped); strings.Trim(got, "*\n") != "" {
		t.Errorf("wrapped base64 is masked as %q", got)
	}
}

func TestWhatIsNoSecret(t *testing.T) {
	if New(nil) != nil || New([]string{"", "abc", "      ", "\n\n\n\n\n"}) != nil {
		t.Error("there is nothing to mask")
	}
	if got := (*Set)(nil).String("as it is"); got != "as it is" {
		t.Errorf("got %q", got)
	}
	if s := (*Set)(nil).Stream(); string(s.Close(s.Append([]byte("as "), []byte("it is")))) != "as it is" {
		t.Error("a stream of no set changes what passes through")
	}
	if got := New([]string{"hunter2"}).String("hunter hunter1 unter2"); got != "hunter hunter1 unter2" {
		t.Errorf("got %q", got)
	}
}

// TestHeldBackIsBounded runs on what never stops to look like a secret.
func TestHeldBackIsBounded(t *testing.T) {
	stream := New([]string{"aaaaaaaa"}).Stream()
	piece, out := bytes.Repeat([]byte("a"), 64<<10), []byte(nil)
	for range 100 {
		out = stream.Append(out[:0], piece)
	}
	if len(stream.held) > 16 || len(stream.spans) > 1 || len(out) != 0 {
		t.Errorf("%d bytes are held, %d spans, %d given", len(stream.held), len(stream.spans), len(out))
	}
}

func BenchmarkStream(b *testing.B) {
	line := "ok  \tgithub.com/codepr/narwhal/joblog\t1.192s: a line as builds print them\n"
	piece := bytes.Repeat([]byte(line), 800)
	r := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{1, 10, 100} {
		var values []string
		for range n {
			values = append(values, pick(r, strings.Split("abcdefghijklmnopqrstuvwxyz0123456789", ""), 40))
		}
		b.Run(fmt.Sprintf("secrets=%d", n), func(b *testing.B) {
			stream, out := New(values).Stream(), []byte(nil)
			b.SetBytes(int64(len(piece)))
			for b.Loop() {
				out = stream.Append(out[:0], piece)
			}
		})
	}
	b.Run("worst", func(b *testing.B) {
		stream, out := New([]string{strings.Repeat("a", 1000) + "b"}).Stream(), []byte(nil)
		piece := bytes.Repeat([]byte("a"), len(piece))
		b.SetBytes(int64(len(piece)))
		for b.Loop() {
			out = stream.Append(out[:0], piece)
		}
	})
}
