package api

import (
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog"
)

const (
	maxPageLines = 100_000 // bounds what a page shows of a log; the rest is at the API
	chunkLines   = 500     // which a browser lays out only when they come into view
)

// logView is a job's log as a page, of one attempt.
type logView struct {
	Job     Job
	Repo    string
	Message string // the commit's
	N       int    // the attempt; 0 where the job has none yet
	Attempt Attempt
	Status  fsm.Status
	Live    bool // more may come
	Newer   int  // the attempt after this one; 0 where there is none
	Groups  []*logGroup
	Steps   []logStep
	Lines   int
	Failure int // the last line of the first step that failed; 0 where none did
	Cut     bool
	Why     string // the log, or a part of it, can't be had
	Raw     string
	Stream  string
	Heads   string // where the page's words on the attempt and its steps are had anew
}

// logStep is how a step of the attempt stands.
type logStep struct {
	N        int // joblog.Narwhal for what is before the first step
	Name     string
	Status   fsm.Status // empty where there is nothing to say
	Allowed  bool
	ExitCode int
	Took     string
}

// logGroup is what a step has printed in one go.
type logGroup struct {
	logStep
	First  bool // it is the step's first group: its ID is the step's
	Open   bool
	Chunks []template.HTML
	last   int // the number of the last line that the step itself has printed; 0 where it has none
}

// attemptOf begins the view: all that can be said without the log.
func attemptOf(s *fsm.State, j *fsm.Job, a fsm.Attempt, seen int) *logView {
	v := &logView{Job: jobView(s, j), N: a.N, Status: j.Status, Live: !j.Status.Terminal()}
	if b, ok := s.Build(j.ID.Build); ok {
		v.Repo, v.Message = b.Commit.Repo, b.Commit.Message
	}
	base := "/jobs/" + j.ID.String()
	v.Raw = fmt.Sprintf("%s%s/logs?attempt=%d", prefix, base, max(a.N, 1))
	v.Heads = fmt.Sprintf("%s/log/heads", base)
	if a.N > 0 {
		v.Attempt, v.Status, v.Live = v.Job.Attempts[a.N-1], a.Status, !a.Status.Terminal()
		v.Heads += fmt.Sprintf("?attempt=%d", a.N)
		if a.N < len(j.Attempts) {
			v.Newer = a.N + 1
		}
	}
	v.Steps = stepsOf(v.Job.Steps, a, seen)
	return v
}

// stepsOf says how an attempt's steps stand; seen is the last one that has printed.
// What a step came to is known once the attempt has ended.
func stepsOf(names []string, a fsm.Attempt, seen int) []logStep {
	asks := a.Asks()
	var out []logStep
	for i, name := range names {
		s := logStep{N: i, Name: name}
		switch {
		case i < len(a.Steps) && a.Steps[i].Name == name:
			r := a.Steps[i]
			s.Status, s.Allowed, s.ExitCode, s.Took = r.Status, r.Allowed, r.ExitCode, took(r.StartedAt, r.EndedAt)
		case slices.Contains(asks, name):
			s.Status = fsm.Held
		case a.Status == fsm.Running && i == seen:
			s.Status = fsm.Running
		case i < seen:
			s.Status = ended
		}
		out = append(out, s)
	}
	return out
}

func (s logStep) bad() bool {
	return (s.Status == fsm.Failed || s.Status == fsm.Errored) && !s.Allowed
}

// logLines puts lines into groups, and makes them HTML.
type logLines struct {
	groups []*logGroup
	chunk  strings.Builder
	colour colours
	n      int
	in     int // how many of them are in the chunk
	seen   int // the highest step
}

func (l *logLines) add(line joblog.Line) {
	if len(l.groups) == 0 || line.Step != joblog.Narwhal && line.Step != l.group().N {
		l.endChunk()
		l.groups = append(l.groups, &logGroup{logStep: logStep{N: line.Step}})
	}
	l.seen = max(l.seen, line.Step)
	l.n++
	n := strconv.Itoa(l.n)
	l.chunk.WriteString(`<p id="L` + n + `"`)
	if line.Step == joblog.Narwhal {
		l.chunk.WriteString(` class="own"`)
	}
	l.chunk.WriteString(`><a href="#L` + n + `">` + n + `</a>` + l.colour.line(line.Text) + "</p>\n")
	if line.Step != joblog.Narwhal {
		l.group().last = l.n
	}
	if l.in++; l.in == chunkLines {
		l.endChunk()
	}
}

func (l *logLines) group() *logGroup { return l.groups[len(l.groups)-1] }

func (l *logLines) endChunk() {
	if l.in > 0 {
		g := l.group()
		g.Chunks = append(g.Chunks, template.HTML(l.chunk.String())) //nolint:gosec // numbers of ours, and what colours made of the text
	}
	l.chunk.Reset()
	l.in = 0
}

// arrange gives the groups their steps, and those that printed nothing a place.
func (v *logView) arrange(l *logLines) {
	l.endChunk()
	v.Lines = l.n
	next := 0
	empty := func(upTo int) {
		for ; next < upTo; next++ {
			if v.Steps[next].Status != "" {
				v.Groups = append(v.Groups, &logGroup{logStep: v.Steps[next], First: true})
			}
		}
	}
	for _, g := range l.groups {
		switch {
		case g.N == joblog.Narwhal:
			g.Name = "Preparing"
		case g.N >= len(v.Steps):
			g.Name = fmt.Sprintf("Step %d", g.N+1) // a job may write to its own log
		default:
			empty(g.N)
			if g.First = g.N == next; g.First {
				next++
			}
			g.logStep = v.Steps[g.N]
		}
		v.Groups = append(v.Groups, g)
	}
	empty(len(v.Steps))
	failed := slices.ContainsFunc(v.Groups, func(g *logGroup) bool { return g.bad() })
	for _, g := range v.Groups {
		g.Open = !failed || g.bad()
		if g.bad() && v.Failure == 0 {
			v.Failure = g.last
		}
	}
}

// askedLog finds the job and attempt that a page is asked for.
func askedLog(r *http.Request) (q logRequest, j *fsm.Job, a fsm.Attempt, ok bool, bad *Problem) {
	if q, bad = parseLogRequest(r); bad == nil {
		a, ok, bad = q.find(stateOf(r.Context()))
	}
	j, _ = stateOf(r.Context()).Job(q.job)
	return q, j, a, ok, bad
}

func (s *Server) logPage(w http.ResponseWriter, r *http.Request) {
	q, j, a, ok, bad := askedLog(r)
	if bad != nil {
		s.problemPage(w, bad)
		return
	}
	lines := &logLines{seen: joblog.Narwhal}
	offset, cut, why := int64(0), false, ""
	if ok {
		for line, err := range s.lines(r.Context(), q.job, a, 0, false) {
			if err != nil {
				switch {
				case !errors.Is(err, errNoLog):
					why = err.Error()
				case a.LogBytes > 0: // there was one
					why = err.Error() + s.config.LogsKept
				}
				break
			}
			if cut = lines.n == maxPageLines; cut {
				break
			}
			offset = line.Offset
			lines.add(line)
		}
	}
	v := attemptOf(stateOf(r.Context()), j, a, lines.seen)
	v.Cut, v.Why = cut, why
	v.Live = v.Live && !cut
	v.arrange(lines)
	v.Stream = fmt.Sprintf("%s/jobs/%s/logs/stream?format=html&offset=%d", prefix, q.job, offset)
	if ok {
		v.Stream += fmt.Sprintf("&attempt=%d", a.N)
	}
	out, end := squeeze(w, r)
	s.show(out, http.StatusOK, "log", fmt.Sprintf("%s · build %d", j.Name, q.job.Build), v)
	_ = end() // the client has gone: there is nobody to tell
}

// logHeads is the part of a log's page that changes while lines are added to it.
func (s *Server) logHeads(w http.ResponseWriter, r *http.Request) {
	_, j, a, _, bad := askedLog(r)
	if bad != nil {
		bad.write(w)
		return
	}
	seen, err := strconv.Atoi(r.URL.Query().Get("seen"))
	if err != nil {
		seen = joblog.Narwhal
	}
	s.showPart(w, "log", "heads", attemptOf(stateOf(r.Context()), j, a, seen))
}
