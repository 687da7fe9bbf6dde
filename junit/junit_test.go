package junit_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog/mask"
	"github.com/codepr/narwhal/junit"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// TestTools reads what each tool writes, hand-written in its dialect.
func TestTools(t *testing.T) {
	names, err := filepath.Glob("testdata/*.xml")
	if err != nil || len(names) < 12 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, in := range []io.Reader{strings.NewReader(string(data)), iotest.OneByteReader(strings.NewReader(string(data)))} {
			var r junit.Reports
			r.Add(filepath.Base(name), in)
			text, err := json.MarshalIndent(r.Report(), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			if got != "" && got != string(text)+"\n" {
				t.Errorf("%s reads otherwise byte by byte:\n%s", name, text)
			}
			got = string(text) + "\n"
		}
		golden := strings.TrimSuffix(name, ".xml") + ".json"
		if *rewrite {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil || got != string(want) {
			t.Errorf("%s (%v): got\n%s", name, err, got)
		}
	}
}

func parse(t *testing.T, report string) fsm.TestReport {
	t.Helper()
	r, err := junit.Parse(strings.NewReader(report))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func suite(cases string) string { return `<testsuite name="s">` + cases + `</testsuite>` }

func TestTimes(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1.5": 1500 * time.Millisecond, "1,234.5": 1234500 * time.Millisecond, "1,234": 1234 * time.Second, "0,123": 123 * time.Millisecond,
		"12,5": 12500 * time.Millisecond, "9,234,567.0": 1000 * time.Hour, "": 0, "-1": 0, "NaN": 0, "Inf": 1000 * time.Hour, "1e-3": time.Millisecond,
		" 2 ": 2 * time.Second, "3s": 3 * time.Second, "soon": 0, "1e999": 0,
	} {
		if got := parse(t, suite(`<testcase name="a" time="`+text+`"/>`)).Time; got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
}

func TestBounds(t *testing.T) {
	var b strings.Builder
	text := strings.Repeat("ü", fsm.MaxFailureText)
	for i := range 200 {
		fmt.Fprintf(&b, `<testcase name="%d %s" time="%d"><failure message="x">%s</failure></testcase>`, i, strings.Repeat("n", 1000), i%100, text)
		fmt.Fprintf(&b, `<testcase name="f%d" time="0.1"><flakyFailure>%s</flakyFailure></testcase>`, i, text)
	}
	r := parse(t, suite(b.String()))
	if r.Failed != 200 || r.Passed != 200 || len(r.Failures) < 30 || len(r.Failures) > fsm.MaxFailures {
		t.Errorf("%d failed, %d passed; %d are listed", r.Failed, r.Passed, len(r.Failures))
	}
	whole, texts := 0, 0
	for i, c := range r.Failures {
		texts += len(c.Text)
		if len(c.Text) >= fsm.MaxFailureText-8 && whole == i {
			whole++
		}
		if len(c.Text) > fsm.MaxFailureText || !strings.HasSuffix(c.Text, "…") || !utf8.ValidString(c.Text) || len(c.Name) > 256 {
			t.Errorf("%.20s has %d bytes of text", c.Name, len(c.Text))
		}
	}
	if whole != fsm.MaxReportTexts/fsm.MaxFailureText || texts > fsm.MaxReportTexts+3*fsm.MaxFailures {
		t.Errorf("%d texts are whole, all have %d bytes", whole, texts)
	}
	if len(r.Broken) != 1 || !strings.Contains(r.Broken[0], "cut short: a report keeps 16 KiB") {
		t.Errorf("it says %q", r.Broken)
	}
	withinBounds(t, r)
	// Others find their place where the names are short.
	r = parse(t, suite(strings.ReplaceAll(b.String(), strings.Repeat("n", 1000), "")))
	if len(r.Failures) != fsm.MaxFailures || len(r.Flaky) != fsm.MaxFlaky || len(r.Slowest) != fsm.MaxSlowest {
		t.Errorf("%d, %d, %d are listed", len(r.Failures), len(r.Flaky), len(r.Slowest))
	}
	for i, c := range r.Slowest {
		if c.Text != "" || i > 0 && c.Time > r.Slowest[i-1].Time || c.Time < 95*time.Second {
			t.Errorf("slowest %d: %v %.20s", i, c.Time, c.Text)
		}
	}
	withinBounds(t, r)
	// So do reports of which nothing can be read.
	var sum junit.Reports
	for i := range 50 {
		sum.Add(fmt.Sprint(i, strings.Repeat("n", 1000)), strings.NewReader(`<`+strings.Repeat("x", 1000)+`>`))
		sum.Add("tests", strings.NewReader(suite(b.String())))
	}
	withinBounds(t, *sum.Report())
}

// withinBounds compares with what the state takes, and Size with what the log has.
func withinBounds(t *testing.T, r fsm.TestReport) {
	t.Helper()
	data, err := fsm.EncodeCommand(fsm.Command{FinishAttempt: &fsm.FinishAttempt{Outcome: fsm.Outcome{Tests: &r}}})
	if err != nil || r.Size() > fsm.MaxReport || len(data) > r.Size()+1000 {
		t.Errorf("its size is %d, and encoded %d bytes, %v", r.Size(), len(data), err)
	}
}

// repeat is text without end, or n of it.
type repeat struct {
	text string
	n    int
	at   string
}

func (r *repeat) Read(p []byte) (int, error) {
	if r.at == "" {
		if r.n == 0 {
			return 0, io.EOF
		}
		r.n--
		r.at = r.text
	}
	n := copy(p, r.at)
	r.at = r.at[n:]
	return n, nil
}

// endless gives text over and over, in pieces of some size.
func endless(text string) io.Reader {
	return &repeat{text: strings.Repeat(text, 1+4096/len(text)), n: -1}
}

func TestHostileReports(t *testing.T) {
	laughs := `<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;"><!ENTITY f SYSTEM "file:///etc/passwd">]>`
	r := parse(t, laughs+suite(`<testcase name="&c;"><failure message="&f;">&c;&c;</failure></testcase>`))
	if r.Failures[0].Name != "&c;" || r.Failures[0].Text != "&f;\n&c;&c;" {
		t.Errorf("entities became %+v", r.Failures)
	}
	for what, c := range map[string]struct {
		in   io.Reader
		want string
	}{
		"text without end":       {io.MultiReader(strings.NewReader(`<testsuite><testcase name="a"><failure>`), endless("abc ")), "larger than 33554432 bytes"},
		"a name without end":     {io.MultiReader(strings.NewReader(`<testsuite><testcase name="`), endless("x")), "tag of it is larger than 1048576"},
		"attributes without end": {io.MultiReader(strings.NewReader(`<testsuite><testcase `), endless(`a=">" `)), "tag of it is larger than"},
		"tests without end":      {io.MultiReader(strings.NewReader(`<testsuite>`), endless(`<testcase name="a"/>`)), "more than 100000 tests"},
		"suites without end":     {endless(`<testsuite>`), "deep"},
		"depth elsewhere":        {io.MultiReader(strings.NewReader(`<testsuite>`), endless(`<x>`)), "deep"},
		"depth in a failure":     {io.MultiReader(strings.NewReader(`<testsuite><testcase name="a"><failure>`), endless(`<x>`)), "deep"},
		"empty":                  {strings.NewReader(""), "empty"},
		"a page":                 {strings.NewReader("<!DOCTYPE html><html><testsuite/></html>"), "begins with <html>"},
		"text":                   {strings.NewReader("ok  \tpkg\t0.1s"), "empty"},
		"UTF-16":                 {strings.NewReader("\xff\xfe<\x00?\x00"), "UTF-16"},
		"an unknown encoding":    {strings.NewReader(`<?xml version="1.0" encoding="EBCDIC"?><testsuite/>`), `"EBCDIC"`},
		"breaks off":             {strings.NewReader(`<testsuite><testcase name="a"/><testcase name="b">`), "unexpected EOF"},
		"breaks off in a tag":    {strings.NewReader(`<testsuite><testcase name="a"/><testca`), "unexpected EOF"},
	} {
		if _, err := junit.Parse(c.in); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: want an error with %q, got %v", what, c.want, err)
		}
	}
}

// What is made of a tag is many times its size, so that tags are bounded too.
func TestMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := junit.Parse(io.MultiReader(strings.NewReader(`<testsuite><testcase `), endless(`a="b" `)))
	runtime.ReadMemStats(&after)
	if taken := after.TotalAlloc - before.TotalAlloc; err == nil || taken > 128<<20 {
		t.Errorf("%d bytes were taken for a tag without end (%v)", taken, err)
	}
}

func TestReports(t *testing.T) {
	var r junit.Reports
	if r.Report() != nil {
		t.Error("a report of nothing")
	}
	r.Add("a.xml", strings.NewReader(suite(`<testcase name="ok" time="2"/><testcase name="no"><failure>f</failure></testcase>`)))
	r.Add("b.xml", strings.NewReader(`<testsuite name="s"><testcase name="ok" time="3"/><testcase name="half"/><testcase name="br`))
	r.Add("c\n.xml", strings.NewReader("<html/>"))
	for i := range 30 {
		r.Broken(fmt.Sprintf("d%d.xml", i), os.ErrPermission)
	}
	sum := r.Report()
	if sum.Passed != 3 || sum.Failed != 1 || sum.Time != 5*time.Second || sum.Slowest[0].Time != 3*time.Second {
		t.Errorf("%+v", sum)
	}
	if len(sum.Broken) != 21 || sum.Broken[0] != "b.xml: it breaks off after 2 tests" || !strings.HasPrefix(sum.Broken[1], "c .xml: it is no JUnit report") ||
		sum.Broken[20] != "and 12 more" {
		t.Errorf("%q", sum.Broken)
	}
	if again := r.Report(); len(again.Broken) != 21 {
		t.Errorf("asked again: %q", again.Broken)
	}
}

// TestSecretsAreHidden in all that a report may say, also where a text is cut in the
// middle of one.
func TestSecretsAreHidden(t *testing.T) {
	const token, word = "hunter2&co<secret>", "a-plain-word"
	xmlToken := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(token)
	key := strings.Repeat("abcdefghijklmnopqrstuv0123456789", 100)
	long := strings.Repeat("x", fsm.MaxFailureText-100)
	r := junit.Reports{Secrets: mask.New([]string{token, word, key, "-----BEGIN\nline one\nline two"})}
	for name, report := range map[string]string{
		"a.xml": suite(`<testcase classname="c ` + xmlToken + `" name="n ` + xmlToken + `" time="2"><failure message="m ` + xmlToken + `">t ` + xmlToken + `</failure></testcase>`),
		"b.xml": `<testsuite name="s ` + xmlToken + `"><testcase name="one&#10;-----BEGIN&#10;line one&#10;line two"><error type="` + xmlToken + `"/></testcase>` +
			`<testcase name="f" time="1"><flakyFailure><![CDATA[` + token[:9] + `]]>` + strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(token[9:]) + `</flakyFailure></testcase>` +
			`<failure>` + xmlToken + `</failure></testsuite>`,
		"c.xml":               suite(`<testcase name="` + long[:240] + key + `"><failure message="` + long + key + `"/></testcase>`),
		"d.xml":               suite(`<testcase name="d"><failure>` + key + key + key + `</failure></testcase><testcase name="e"><failure>` + long + long + long[:180] + key + `</failure></testcase>`),
		"e.xml":               `<` + key + `>`,
		"f.xml":               `<?xml version="1.0" encoding="` + word + `"?><testsuite/>`,
		"g " + token + ".xml": `<html/>`,
	} {
		r.Add(name, strings.NewReader(report))
	}
	r.Broken("archive", errors.New("no file "+token))
	sum := r.Report()
	data, err := json.MarshalIndent(sum, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{"hunter2", "secret>", "secret\\u003e", key[:32], "line one", "line two", word} {
		if strings.Contains(string(data), shown) {
			t.Errorf("it shows %q", shown)
		}
	}
	for _, want := range []string{`"c ***"`, `"n ***"`, `"m ***\nt ***"`, `"one ***"`, "begins with", "g ***.xml"} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%s is not there", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", data)
	}
}

func TestFlaky(t *testing.T) {
	fail := func(names string) (out string) {
		for _, n := range strings.Fields(names) {
			out += `<testcase name="` + n + `"><failure/></testcase>`
		}
		return out
	}
	pass := func(names string) string { return strings.ReplaceAll(fail(names), "<failure/>", "") }
	skip := func(names string) string { return strings.ReplaceAll(fail(names), "failure", "skipped") }
	many, long := "", strings.Repeat("n", 300)
	for i := range fsm.MaxFailures {
		many += fmt.Sprint(" m", i)
	}
	for what, c := range map[string]struct{ a, b, want string }{
		"failed, then passed":     {fail("x") + pass("y"), pass("x y"), "x"},
		"passed, then failed":     {pass("x y"), fail("x") + pass("y"), "x"},
		"each another":            {fail("x") + pass("y"), fail("y") + pass("x"), "x y"},
		"failed both times":       {fail("x y"), fail("x") + pass("y"), "y"},
		"was skipped":             {fail("x") + pass("y"), skip("x") + pass("y"), ""},
		"was not run":             {fail("x") + pass("y"), pass("y"), ""},
		"is not of the other run": {fail("x"), pass("y z"), ""},
		"only failures run again": {fail("x y") + pass("v w"), pass("x") + fail("y"), "x"},
		"not all are listed":      {fail("x") + pass("y"+many), pass("x") + fail("y"+many), "x y" + strings.TrimSuffix(many, " m49")},
		"two tests of one name":   {fail("x"), pass("x") + fail("x"), ""},
		"names that are cut":      {fail(long + "1"), pass(long + "2"), ""},
		"tests without a name":    {`<testcase><failure/></testcase>`, `<testcase/>`, ""},
		"and at once":             {fail(long+"1") + pass(long+"2"), "", ""},
		"another suite":           {`<testcase classname="a" name="x"><failure/></testcase>`, `<testcase classname="b" name="x"/>`, ""},
		"run again at once":       {fail("x") + pass("x"), fail("x") + pass("x"), "x"},
		"both passed":             {pass("x"), pass("x"), ""},
	} {
		got := ""
		for _, f := range junit.Flaky(parse(t, suite(c.a)), parse(t, suite(c.b))) {
			got += " " + f.Name
		}
		if strings.TrimSpace(got) != c.want {
			t.Errorf("%s: got %q, want %q", what, got, c.want)
		}
	}
}

// TestFlakyOfManyTests bounds what is known of those that passed: of more it can't be
// said that they are flaky, and it isn't.
func TestFlakyOfManyTests(t *testing.T) {
	all := func(n int, verdict string) string {
		var out strings.Builder
		for i := range n {
			fmt.Fprintf(&out, `<testcase name="test %d">%s</testcase>`, i, verdict)
		}
		return out.String()
	}
	few, many := parse(t, suite(all(fsm.MaxPasses, ""))), parse(t, suite(all(20*fsm.MaxPasses, "")))
	withinBounds(t, few)
	withinBounds(t, many)
	if len(many.Passes) != 4*fsm.MaxPasses || many.Passed != 20*fsm.MaxPasses {
		t.Errorf("%d of %d are known", len(many.Passes)/4, many.Passed)
	}
	failed := parse(t, suite(all(20*fsm.MaxPasses, "<failure/>")))
	if got := len(junit.Flaky(failed, few)); got != fsm.MaxFailures {
		t.Errorf("%d are flaky, of those that are known", got)
	}
	if got := len(junit.Flaky(failed, many)); got == fsm.MaxFailures {
		t.Errorf("%d are flaky, and a twentieth is known", got)
	}
	never := parse(t, suite(strings.ReplaceAll(all(200, "<failure/>"), "test", "never")))
	if got := junit.Flaky(never, many); len(got) > 0 {
		t.Errorf("%+v are flaky, and were not run", got)
	}
}

func FuzzParse(f *testing.F) {
	names, _ := filepath.Glob("testdata/*.xml")
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := junit.Parse(strings.NewReader(string(data)))
		again, err2 := junit.Parse(iotest.HalfReader(strings.NewReader(string(data))))
		one, _ := json.Marshal(r)
		two, _ := json.Marshal(again)
		if string(one) != string(two) || (err == nil) != (err2 == nil) {
			t.Errorf("read twice: %s (%v) and %s (%v)", one, err, two, err2)
		}
		if r.Failed < len(r.Failures) || r.Passed < 0 || r.Time < 0 {
			t.Errorf("%+v", r)
		}
		for _, c := range slices.Concat(r.Failures, r.Slowest, r.Flaky) {
			if !utf8.ValidString(c.Suite+c.Name+c.Text) || len(c.Text) > fsm.MaxFailureText || c.Name == "" {
				t.Errorf("%+v", c)
			}
		}
	})
}
