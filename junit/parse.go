package junit

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog/mask"
)

// What a report may have at most.
const (
	MaxSize  = 32 << 20 // bytes
	MaxDepth = 64       // elements within each other
	MaxTests = 100_000  // of all reports that are summed up together
)

// result is what became of a test.
type result int

const (
	passed result = iota
	failed
	skipped
)

// testCase is a test of a report.
type testCase struct {
	fsm.TestCase
	result result
	flaky  bool // it failed first, and passed when it was run again
	known  bool // it has a name, which is whole: what is left of one may be another's too
}

// parser goes through one report.
type parser struct {
	xml     *xml.Decoder
	secrets *mask.Set
	found   func(testCase) error // is given each test
	suites  []string             // names of the suites that are open
	depth   int
}

var errTooLong = fmt.Errorf("it is larger than %d bytes", MaxSize)

// limited is a reader that fails where a report is too large, instead of ending.
type limited struct {
	r    io.Reader
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errTooLong
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}

// parse gives each test of the report to found, whose errors end it. Secrets are
// hidden in the tests, but not in the error.
func parse(r io.Reader, secrets *mask.Set, found func(testCase) error) error {
	in, err := clean(&limited{r, MaxSize + 1})
	if err != nil {
		return err
	}
	p := &parser{xml: xml.NewDecoder(&tags{r: in}), secrets: secrets, found: found}
	p.xml.Strict = false
	p.xml.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil } // it is UTF-8 by now
	root, err := p.root()
	if err != nil {
		return err
	}
	return p.element(root)
}

// root finds the outermost element.
func (p *parser) root() (xml.StartElement, error) {
	for {
		token, err := p.xml.Token()
		if errors.Is(err, io.EOF) {
			return xml.StartElement{}, errors.New("it is empty")
		}
		if err != nil {
			return xml.StartElement{}, err
		}
		if start, ok := token.(xml.StartElement); ok {
			if name := start.Name.Local; name != "testsuites" && name != "testsuite" {
				return start, fmt.Errorf("it is no JUnit report: it begins with <%s>", name)
			}
			return start, nil
		}
	}
}

// element reads a suite, or what lies around suites, to its end.
func (p *parser) element(start xml.StartElement) error {
	if p.depth++; p.depth > MaxDepth {
		return fmt.Errorf("its elements are more than %d deep", MaxDepth)
	}
	defer func() { p.depth-- }()
	if start.Name.Local == "testsuite" {
		p.suites = append(p.suites, p.attr(start, "name"))
		defer func() { p.suites = p.suites[:len(p.suites)-1] }()
	}
	for {
		token, err := p.token()
		if err != nil {
			return err
		}
		switch token := token.(type) {
		case xml.EndElement:
			return nil
		case xml.StartElement:
			if err := p.child(token); err != nil {
				return err
			}
		}
	}
}

// child reads an element of a suite.
func (p *parser) child(start xml.StartElement) error {
	switch start.Name.Local {
	case "testcase":
		return p.test(start)
	case "testsuite", "testsuites":
		return p.element(start)
	case "failure", "error": // of the suite itself: it could not be set up
		text, err := p.text(start)
		if err != nil {
			return err
		}
		return p.found(testCase{TestCase: fsm.TestCase{Suite: p.suite(), Name: "(suite)", Text: text}, result: failed})
	}
	return p.skip()
}

// token is the next one; a report that ends here is broken.
func (p *parser) token() (xml.Token, error) {
	token, err := p.xml.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return token, err
}

// skip reads to the end of the element that has just begun.
func (p *parser) skip() error {
	for depth := 1; depth > 0; {
		token, err := p.token()
		if err != nil {
			return err
		}
		switch token.(type) {
		case xml.StartElement:
			depth++
		case xml.EndElement:
			depth--
		}
		if p.depth+depth > MaxDepth {
			return fmt.Errorf("its elements are more than %d deep", MaxDepth)
		}
	}
	return nil
}

func (p *parser) suite() string {
	for i := len(p.suites) - 1; i >= 0; i-- {
		if p.suites[i] != "" {
			return p.suites[i]
		}
	}
	return ""
}

// test reads a test to its end.
func (p *parser) test(start xml.StartElement) error {
	c := testCase{TestCase: fsm.TestCase{Suite: p.attr(start, "classname"), Name: p.attr(start, "name")}}
	c.Time = seconds(attr(start, "time"))
	if c.Suite == "" {
		c.Suite = p.suite()
	}
	if attr(start, "status") == "notrun" || attr(start, "result") == "skipped" { // as gtest has it
		c.result = skipped
	}
	for {
		token, err := p.token()
		if err != nil {
			return err
		}
		switch token := token.(type) {
		case xml.EndElement:
			return p.found(c)
		case xml.StartElement:
			if err := p.verdict(&c, token); err != nil {
				return err
			}
		}
	}
}

// verdict reads an element of a test. One that failed stays so whatever follows.
func (p *parser) verdict(c *testCase, start xml.StartElement) error {
	switch start.Name.Local {
	case "failure", "error":
		text, err := p.text(start)
		if c.result != failed || c.Text == "" {
			c.result, c.Text = failed, text
		}
		return err
	case "flakyFailure", "flakyError": // of a run before the one that passed
		text, err := p.text(start)
		if c.result == passed && !c.flaky {
			c.flaky, c.Text = true, text
		}
		return err
	case "skipped":
		if c.result == passed {
			c.result = skipped
		}
	}
	return p.skip()
}

// text is what a failure says: its message, and its text where that says more.
func (p *parser) text(start xml.StartElement) (string, error) {
	message := cut(p.attr(start, "message"), fsm.MaxFailureText)
	body := hidden{stream: p.secrets.Stream(), most: 2 * fsm.MaxFailureText}
	for depth := 1; depth > 0; {
		token, err := p.token()
		if err != nil {
			return "", err
		}
		switch token := token.(type) {
		case xml.StartElement:
			if depth++; p.depth+depth > MaxDepth {
				return "", fmt.Errorf("its elements are more than %d deep", MaxDepth)
			}
		case xml.EndElement:
			depth--
		case xml.CharData:
			if depth == 1 {
				body.add(token)
			}
		}
	}
	text := body.text()
	switch {
	case strings.TrimSpace(text) == "":
		text = message
	case message != "" && !strings.Contains(text, message):
		text = message + "\n" + text
	}
	if text == "" {
		text = p.attr(start, "type")
	}
	return text, nil
}

// attr is an attribute without the space around it.
func (p *parser) attr(e xml.StartElement, name string) string {
	return strings.TrimSpace(hide(p.secrets, attr(e, name)))
}

func attr(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

const longest = 1000 * time.Hour

// seconds reads a time: "1.5", "1,234.567" as surefire writes from 1,000 seconds
// on, "0,123" as tools do where that is how a number is written. What is none is zero.
func seconds(s string) time.Duration {
	s = strings.TrimSuffix(strings.TrimSpace(s), "s")
	if whole, part, found := strings.Cut(s, ","); found {
		if strings.ContainsAny(part, ",.") || len(part) == 3 && whole != "0" && whole != "" {
			s = strings.ReplaceAll(s, ",", "")
		} else {
			s = whole + "." + part
		}
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(n) || n <= 0 {
		return 0
	}
	return time.Duration(min(n, longest.Seconds()) * float64(time.Second))
}
