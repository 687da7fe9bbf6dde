package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog"
)

// printer shows a build that runs here: jobs' output to one stream, each line behind
// its job's name, and narwhal's own words to the other.
type printer struct {
	out, err painted

	mu   sync.Mutex      // held while a line is written
	tags map[string]*tag // by the job's name
	wide int             // of the jobs' names, in characters
}

// painted is a stream that has colours or none: one may go to a file, and the other
// to a terminal.
type painted struct {
	io.Writer
	color bool
}

// tag is what stands before a job's lines.
type tag struct {
	name string
	code string   // its colour
	last []string // of its lines, to be shown again with its failure; lastLines at most
}

// lastLines are shown again of a job that failed, where others have run as well and
// its own are somewhere between theirs.
const lastLines = 10

// wideMax is the width beyond which a job's name makes nobody else's lines begin
// further to the right.
const wideMax = 32

// Colours of ECMA-48 (select graphic rendition).
const (
	dim   = "2"
	bold  = "1"
	red   = "31"
	green = "32"
)

// jobColors tell jobs apart: neither red nor green, which say how they ended.
var jobColors = []string{"36", "35", "33", "34", "96", "95", "93", "94"}

func newPrinter(out, err *os.File, color string) (*printer, error) {
	p := &printer{out: painted{Writer: out}, err: painted{Writer: err}, tags: make(map[string]*tag)}
	switch color {
	case "always":
		p.out.color, p.err.color = true, true
	case "never":
	case "auto":
		p.out.color, p.err.color = takesColor(out), takesColor(err)
	default:
		return nil, usage("--color %q: want auto, always or never", color)
	}
	return p, nil
}

// takesColor reports whether a stream is a terminal that may be coloured
// (no-color.org).
func takesColor(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

func (p painted) paint(code, text string) string {
	if !p.color || code == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// jobs says which jobs there are, before the first of their lines.
func (p *printer) jobs(names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range names {
		p.tags[name] = &tag{name: plain(name), code: jobColors[len(p.tags)%len(jobColors)]}
		if n := utf8.RuneCountInString(plain(name)); n <= wideMax {
			p.wide = max(p.wide, n)
		}
	}
}

// line prints a line of a job's log. Its own colours are kept at a terminal, and
// ended with it.
func (p *printer) line(job string, l joblog.Line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.tags[job]
	if t == nil {
		t = &tag{name: plain(job)}
		p.tags[job] = t
	}
	text := l.Text
	switch {
	case l.Step == joblog.Narwhal && strings.HasPrefix(text, "step "):
		text = p.out.paint(bold, plain(text))
	case l.Step == joblog.Narwhal:
		text = p.out.paint(dim, plain(text))
	case p.out.color && strings.ContainsRune(text, 0x1b):
		text += "\x1b[0m"
	}
	if l.Step != joblog.Narwhal {
		if len(t.last) == lastLines {
			t.last = t.last[1:]
		}
		t.last = append(t.last, l.Text)
	}
	// A reader that has gone ends the process by SIGPIPE.
	_, _ = fmt.Fprintln(p.out, p.out.paint(t.code, fmt.Sprintf("%-*s |", p.wide, t.name))+" "+text)
}

func (p *printer) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.err, "narwhal: "+format+"\n", args...)
}

// summary says what became of each job, at the end why and after which lines, and
// what became of the build.
func (p *printer) summary(s *fsm.State, b *fsm.Build) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var bad []*fsm.Job
	ran := 0
	for j := range s.Jobs(b.ID) {
		if len(j.Attempts) > 0 && j.Kind != fsm.KindPlan {
			ran++
		}
		if j.Status == fsm.Failed || j.Status == fsm.Errored {
			bad = append(bad, j)
		}
		if j.Kind != fsm.KindPlan {
			p.verdict(j)
		}
	}
	for _, j := range bad {
		if t := p.tags[j.Name]; t != nil && ran > 1 {
			fmt.Fprintf(p.err, "narwhal: the last of %s:\n", plain(j.Name))
			for _, line := range t.last {
				fmt.Fprintf(p.err, "narwhal:   %s\n", plain(line))
			}
		}
		for line := range strings.Lines(j.Message) {
			text := plain(strings.TrimRight(line, "\n"))
			if j.Kind != fsm.KindPlan {
				text = plain(j.Name) + ": " + text
			}
			fmt.Fprintf(p.err, "narwhal: %s\n", p.err.paint(red, text))
		}
	}
	text := "the build " + withCause(b.Status, b.Cause)
	if t := took(b.CreatedAt, b.EndedAt); t != "" {
		text += " in " + t
	}
	fmt.Fprintf(p.err, "narwhal: %s\n", p.err.paint(statusColor(b.Status), text))
}

// verdict is a line of how a job ended. Why it failed is told at the very end.
func (p *printer) verdict(j *fsm.Job) {
	text := fmt.Sprintf("%-*s  %s", p.wide, plain(j.Name), withCause(j.Status, j.Cause))
	if t := took(j.StartedAt, j.EndedAt); t != "" {
		text += " in " + t
	}
	if n := len(j.Attempts); n > 1 {
		text += fmt.Sprintf(", %d attempts", n)
	}
	if j.Status == fsm.Skipped && j.Message != "" {
		text += ": " + plain(j.Message)
	}
	fmt.Fprintf(p.err, "narwhal: %s\n", p.err.paint(statusColor(j.Status), text))
}

func statusColor(s fsm.Status) string {
	switch s {
	case fsm.Passed:
		return green
	case fsm.Failed, fsm.Errored:
		return red
	default:
		return dim
	}
}

// plain keeps what a file or a program says from steering the terminal.
func plain(text string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' && c != '\t' || c >= 0x7f && c < 0xa0 {
			return -1
		}
		return c
	}, text)
}
