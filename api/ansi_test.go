package api

import (
	"regexp"
	"strings"
	"testing"
)

func TestColours(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"text", "a < b & c", "a &lt; b &amp; c"},
		{"colour", "\x1b[31mred\x1b[0m plain", `<span class="term-fg31">red</span> plain`},
		{"bold and bright", "\x1b[1;92mok\x1b[m", `<span class="term-fgi92 term-fg1">ok</span>`},
		{"a line written over", "10 %\r100 %", "100 %"},
		{"erased", "long text\r\x1b[Kok", "ok"},
		{"empty", "", ""},
		{"only an escape", "\x1b[0m", ""},
		{"cut escape", "text\x1b[3", "text"},
		{"cut escape of two bytes", "text\x1b[", "text"},
		{"one of 256 colours", "\x1b[38;5;196mred\x1b[0m", `<span class="term-fgi91">red</span>`},
		{"one of 256 as background", "\x1b[1;48;5;22mgreen", `<span class="term-bg42 term-fg1">green</span>`},
		{"red, green and blue", "\x1b[38;2;1;4;9;4mtext", `<span class="term-fgi90 term-fg4">text</span>`},
		{"nothing but a cut colour", "\x1b[38;2;1mtext", "text"},
		{"colour cut short", "\x1b[1;38;2;1mtext", `<span class="term-fg1">text</span>`},
		{"cut escape of one byte", "text\x1b", "text"},
		{"link", "\x1b]8;;javascript:alert(1)\x1b\\here\x1b]8;;\x1b\\", "here"},
		{"link ended by BEL", "\x1b]8;;https://evil.example\x07here\x1b]8;;\x07", "here"},
		{"image", "\x1b]1338;url=https://evil.example/x.png\x07ok", "ok"},
		{"inline image", "\x1b]1337;File=name=YS5wbmc=;inline=1:AAAA\x07ok", "ok"},
		{"string without end", "a\x1b]8;;https://evil.example b", "a"},
		{"cursor up", "\x1b[2Aover", "over"},
		{"character set", "\x1b(Btext", "text"},
		{"escape before a letter of two bytes", "\x1bé", "é"},
		{"markup in an escape", "\x1b[<script>m", "cript&gt;m"},
		{"C1 control", "a\u009b31mb", "a31mb"},
		{"private mode", "\x1b[?25lhidden cursor", "hidden cursor"},
		{"markup in a colour", "\x1b[31m<script>alert(1)</script>", `<span class="term-fg31">&lt;script&gt;alert(1)&lt;&#47;script&gt;</span>`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := new(colours).line(tt.in); got != tt.want {
				t.Errorf("%q is %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

// TestColoursGoOn has a colour span lines.
func TestColoursGoOn(t *testing.T) {
	var c colours
	for i, tt := range []struct{ in, want string }{
		{"\x1b[31mbegins", `<span class="term-fg31">begins</span>`},
		{"goes on", `<span class="term-fg31">goes on</span>`},
		{"ends\x1b[0m here", `<span class="term-fg31">ends</span> here`},
		{"plain", "plain"},
	} {
		if got := c.line(tt.in); got != tt.want {
			t.Errorf("line %d is %q, want %q", i, got, tt.want)
		}
	}
	for range 1000 {
		c.line("\x1b[31m")
	}
	if len(c.open) > maxStyle {
		t.Errorf("%d bytes of style are remembered", len(c.open))
	}
}

var onlySpans = regexp.MustCompile(`^(?:[^<>"]|<span class="term-[a-z0-9 -]+">|</span>)*$`)

func FuzzColours(f *testing.F) {
	f.Add("\x1b[31m<script>\x1b]8;;x\x07", "\x1b[38;5;1mx")
	f.Fuzz(func(t *testing.T, first, second string) {
		var c colours
		for _, text := range []string{first, second} {
			text = strings.ToValidUTF8(strings.ReplaceAll(text, "\n", ""), "\ufffd") // as a log's lines are
			if got := c.line(text); !onlySpans.MatchString(got) || strings.Contains(got, "\n") {
				t.Errorf("%q becomes %q", text, got)
			}
		}
	})
}
