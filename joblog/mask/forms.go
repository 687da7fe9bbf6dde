package mask

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"unicode/utf16"
)

// forms are the ways in which programs print a value, of Shortest bytes or more.
func forms(value string) []string {
	// Without its last line ends, as $(cat file) gives it: what follows a secret
	// shouldn't be drawn up to it.
	bare := strings.TrimRight(value, "\r\n")
	if !longEnough(bare) {
		return nil
	}
	unix := strings.ReplaceAll(bare, "\r\n", "\n")
	list := []string{bare, unix, strings.ReplaceAll(unix, "\n", "\r\n")}
	if lines := strings.Split(unix, "\n"); len(lines) > 1 {
		for _, line := range lines {
			list = append(list, strings.TrimSpace(line))
		}
	}
	list = slices.Concat(list, escaped(bare), escaped(unix), encoded(value), encoded(bare), encoded(unix))
	seen := make(map[string]bool, len(list))
	kept := list[:0]
	for _, form := range list {
		if longEnough(form) && !seen[form] {
			seen[form] = true
			kept = append(kept, form)
		}
	}
	return kept
}

// escaped are the forms in which the value is written for a URL, in JSON and by a
// shell that traces.
func escaped(v string) []string {
	query, path := url.QueryEscape(v), url.PathEscape(v)
	full := jsonText(v)
	loose := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(full)
	return []string{
		query, path, strings.ReplaceAll(query, "+", "%20"), lowerHex(query), lowerHex(path),
		full, loose, ascii(loose), strings.ReplaceAll(loose, "/", `\/`),
		strings.ReplaceAll(v, "'", `'\''`),
	}
}

func jsonText(v string) string {
	text, err := json.Marshal(v)
	if err != nil { // a string always can be
		return v
	}
	return string(text[1 : len(text)-1])
}

// ascii writes all that isn't ASCII as \uXXXX.
func ascii(v string) string {
	const hex = "0123456789abcdef"
	var b strings.Builder
	for _, r := range v {
		if r < 0x80 {
			b.WriteRune(r)
			continue
		}
		for _, u := range utf16.Encode([]rune{r}) {
			b.WriteString(`\u`)
			for shift := 12; shift >= 0; shift -= 4 {
				b.WriteByte(hex[u>>shift&15])
			}
		}
	}
	return b.String()
}

// lowerHex turns %2F into %2f.
func lowerHex(v string) string {
	b := []byte(v)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:i+3], strings.ToLower(v[i+1:i+3]))
		}
	}
	return string(b)
}

// wraps are the lengths at which programs wrap base64.
var wraps = []int{76, 64}

// encoded are the base64 of the value, alone and within a larger text.
func encoded(v string) []string {
	var list []string
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		whole := enc.EncodeToString([]byte(v))
		list = append(list, whole, strings.TrimRight(whole, "="))
		for _, width := range wraps {
			for rest := whole; len(whole) > width && rest != ""; {
				n := min(width, len(rest))
				if n >= 2*Shortest {
					list = append(list, rest[:n])
				}
				rest = rest[n:]
			}
		}
		// A character stands for 6 bits. What comes before the value decides on the
		// first ones, what comes after it on the last: they are not the value's.
		for before := range 3 {
			text := enc.WithPadding(base64.NoPadding).EncodeToString(append(make([]byte, before), v...))
			first := (8*before + 5) / 6
			last := 8 * (before + len(v)) / 6
			list = append(list, text[first:last])
		}
	}
	return list
}
