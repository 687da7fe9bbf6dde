package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog"
)

// printer shows a build that runs here: jobs' output to one stream, each line behind
// its job's name, and narwhal's own words to the other.
type printer struct {
	color bool

	mu   sync.Mutex // held while a line is written
	out  io.Writer
	err  io.Writer
	seen int // jobs that have a colour
}

// Colours of ECMA-48 (select graphic rendition).
const (
	dim   = "2"
	red   = "31"
	green = "32"
)

// jobColors tell jobs apart: neither red nor green, which say how they ended.
var jobColors = []string{"36", "35", "33", "34", "96", "95", "93", "94"}

func newPrinter(out, err *os.File, color string) (*printer, error) {
	p := &printer{out: out, err: err}
	switch color {
	case "always":
		p.color = true
	case "never":
	case "auto":
		info, failed := out.Stat()
		_, no := os.LookupEnv("NO_COLOR") // no-color.org
		p.color = failed == nil && info.Mode()&os.ModeCharDevice != 0 && !no
	default:
		return nil, usage("--color %q: want auto, always or never", color)
	}
	return p, nil
}

func (p *printer) paint(code, text string) string {
	if !p.color {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// tag is what stands before a job's lines.
func (p *printer) tag(job string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	code := jobColors[p.seen%len(jobColors)]
	p.seen++
	return p.paint(code, plain(job)+" | ")
}

// line prints a line of a job's log. Its own colours are kept at a terminal, and
// ended with it.
func (p *printer) line(tag string, l joblog.Line) {
	text := l.Text
	if l.Step == joblog.Narwhal {
		text = p.paint(dim, plain(text))
	} else if p.color && strings.ContainsRune(text, 0x1b) {
		text += "\x1b[0m"
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = fmt.Fprintln(p.out, tag+text) // a reader that has gone ends the process by SIGPIPE
}

func (p *printer) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.err, "narwhal: "+format+"\n", args...)
}

// summary says what became of each job and of the build.
func (p *printer) summary(s *fsm.State, b *fsm.Build) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for j := range s.Jobs(b.ID) {
		if j.Kind == fsm.KindPlan && j.Status == fsm.Passed {
			continue
		}
		text := fmt.Sprintf("%s %s", plain(j.Name), withCause(j.Status, j.Cause))
		if t := took(j.StartedAt, j.EndedAt); t != "" {
			text += " in " + t
		}
		fmt.Fprintf(p.err, "narwhal: %s\n", p.paint(statusColor(j.Status), text))
		for line := range strings.Lines(j.Message) {
			fmt.Fprintf(p.err, "narwhal:   %s\n", plain(strings.TrimRight(line, "\n")))
		}
	}
	fmt.Fprintf(p.err, "narwhal: %s\n", p.paint(statusColor(b.Status), "the build "+withCause(b.Status, b.Cause)))
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
