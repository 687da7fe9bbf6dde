package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/codepr/narwhal/fsm"
)

func (s *Server) streamRoutes() {
	text := func(kind, description string) map[string]*huma.Response {
		return map[string]*huma.Response{"200": {Description: description, Content: map[string]*huma.MediaType{kind: {Schema: &huma.Schema{Type: "string"}}}}}
	}
	job := []*huma.Param{
		{Name: "id", In: "path", Required: true, Schema: &huma.Schema{Type: "string"}, Example: "42.1"},
		{Name: "attempt", In: "query", Description: "From 1; the current one where left out", Schema: &huma.Schema{Type: "integer"}},
		{Name: "offset", In: "query", Description: "Bytes, as earlier answers named them", Schema: &huma.Schema{Type: "integer", Format: "int64"}},
	}
	format := &huma.Param{Name: "format", In: "query", Schema: &huma.Schema{Type: "string", Enum: []any{"text", "ndjson"}}}
	lastID := &huma.Param{Name: "Last-Event-ID", In: "header", Description: "Where the stream broke off", Schema: &huma.Schema{Type: "string"}}
	asHTML := &huma.Param{Name: "format", In: "query", Description: "html: lines come as HTML, with classes for their colours", Schema: &huma.Schema{Type: "string", Enum: []any{"text", "html"}}}
	s.document(&huma.Operation{
		OperationID: "read-log", Method: http.MethodGet, Path: prefix + "/jobs/{id}/logs", Tags: []string{"logs"},
		Summary: "Read what there is of a job's log", Parameters: append(job[:3:3], format),
		Description: "Text, or a JSON object {time, step, text, offset} a line. " + HeaderNextOffset + " says where to go on: a header, or a trailer where the log is longer than 1 MiB.",
		Responses:   text("text/plain", "The log"),
	}, withState, s.readLog)
	s.document(&huma.Operation{
		OperationID: "follow-log", Method: http.MethodGet, Path: prefix + "/jobs/{id}/logs/stream", Tags: []string{"logs"},
		Summary: "Follow a job's log", Parameters: append(job[:3:3], lastID, asHTML), Responses: text("text/event-stream", "Server-sent events"),
		Description: "Events: `line` with {attempt, time, step, text, offset}, `status` with {status, attempt, node} " +
			"whenever it changes, both with the ID ATTEMPT/OFFSET to resume at, on any node, `problem` where part of the log can't be had now, and `end` with the outcome. " +
			"With ?attempt it follows that one, otherwise the current one and all that come after it.",
	}, withState, s.followLog)
	s.document(&huma.Operation{
		OperationID: "follow-builds", Method: http.MethodGet, Path: prefix + buildsEvents, Tags: []string{"builds"},
		Summary: "Follow the newest builds", Responses: text("text/event-stream", "Server-sent events"),
		Description: "Events: `build` with a build, without its jobs, whenever one of the newest 200 is new or stands differently (steps between may be left out). What is there when the stream begins is in the list of builds.",
	}, withState, s.followBuilds)
	s.document(&huma.Operation{
		OperationID: "follow-build", Method: http.MethodGet, Path: prefix + "/builds/{id}/events", Tags: []string{"builds"},
		Summary: "Follow a build", Responses: text("text/event-stream", "Server-sent events"),
		Parameters:  []*huma.Param{{Name: "id", In: "path", Required: true, Schema: &huma.Schema{Type: "integer"}}},
		Description: "Events: `build` with the build and its jobs as they are now, whenever that changed (steps between may be left out), and `end` with the same when it has ended.",
	}, withState, s.followBuild)
}

// retryLog is the pause before a log that can't be had is asked for again. No event
// tells when another node's file comes about or the node comes back.
const retryLog = 250 * time.Millisecond

// LogStatus is how a job or attempt stands, on a log's stream.
type LogStatus struct {
	Status  fsm.Status `json:"status"`
	Cause   fsm.Cause  `json:"cause,omitempty"`
	Reason  string     `json:"reason,omitempty"`
	Attempt int        `json:"attempt,omitempty"`
	Node    fsm.NodeID `json:"node,omitempty"`
}

// LogLine is a line on a log's stream.
type LogLine struct {
	Attempt int       `json:"attempt"`
	Time    time.Time `json:"time"`
	Step    int       `json:"step"`
	Text    string    `json:"text"`           // empty where HTML was asked for
	HTML    string    `json:"html,omitempty"` // text, and spans with the classes of terminal-to-html
	Offset  int64     `json:"offset"`
}

// logStream is one client that follows a job.
type logStream struct {
	s      *Server
	out    *live
	job    fsm.JobID
	pinned bool // only this attempt
	n      int  // the attempt that is followed, or awaited
	offset int64
	told   LogStatus // the last one sent
	html   bool
	colour colours
}

func (s *Server) followLog(w http.ResponseWriter, r *http.Request) {
	q, bad := parseLogRequest(r)
	var state *fsm.State
	if bad == nil {
		state, bad = s.awaitPlan(r.Context(), q.job)
	}
	if bad == nil {
		_, _, bad = q.find(state)
	}
	if bad != nil {
		bad.write(w)
		return
	}
	if q.ndjson {
		problem(http.StatusUnprocessableEntity, CodeInvalid, "format: want text or html, of a stream").write(w)
		return
	}
	j, _ := state.Job(q.job)
	f := &logStream{s: s, job: q.job, pinned: q.attempt > 0, n: max(q.attempt, 1), offset: q.offset, html: q.html}
	if !f.pinned {
		f.n = max(len(j.Attempts), 1)
	}
	if err := f.resume(r.Header.Get("Last-Event-ID")); err != nil {
		problem(http.StatusUnprocessableEntity, CodeInvalid, "Last-Event-ID: %s", err).write(w)
		return
	}
	f.out = s.newEvents(w)
	defer f.out.close()
	for f.attempt(r.Context()) {
		f.n, f.offset, f.colour = f.n+1, 0, colours{}
	}
}

// planWithin is how long a stream waits for its build's plan before it has the client
// ask again: what is between them may not wait longer for an answer.
const planWithin = 20 * time.Second

// awaitPlan waits until the job's build is planned, where that is still to come: who
// has just started a build knows the names of its jobs, and narwhal does not yet.
func (s *Server) awaitPlan(ctx context.Context, job fsm.JobID) (*fsm.State, *Problem) {
	timer := time.NewTimer(planWithin)
	defer timer.Stop()
	state := stateOf(ctx)
	for {
		next, changed := s.deps.State.Watch()
		if next.Index() > state.Index() {
			state = next
		}
		plan, ok := state.Job(fsm.JobID{Build: job.Build})
		if _, there := state.Job(job); there || !ok || plan.Status.Terminal() {
			return state, nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil, problem(http.StatusServiceUnavailable, CodeNotFound, "build %d is not planned yet: try again, or see `narwhal why %d.0`", job.Build, job.Build)
		case <-ctx.Done():
			return nil, problem(http.StatusServiceUnavailable, CodeNotFound, "build %d is not planned yet", job.Build)
		}
	}
}

// resume reads the ID of the last event that the client saw: ATTEMPT/OFFSET, or
// OFFSET alone.
func (f *logStream) resume(id string) error {
	if id == "" {
		return nil
	}
	n, offset := f.n, id
	if first, second, ok := strings.Cut(id, "/"); ok {
		var err error
		if n, err = strconv.Atoi(first); err != nil || n < 1 {
			return fmt.Errorf("%q: want ATTEMPT/OFFSET", id)
		}
		offset = second
	}
	at, err := strconv.ParseInt(offset, 10, 64)
	if err != nil || at < 0 {
		return fmt.Errorf("%q: want ATTEMPT/OFFSET", id)
	}
	if !f.pinned || n == f.n {
		f.n, f.offset = n, at
	}
	return nil
}

// attempt follows one attempt to its end. It reports whether the next one is to be
// followed.
func (f *logStream) attempt(ctx context.Context) (more bool) {
	j, ok := f.await(ctx, func(j *fsm.Job) bool {
		return j.Status.Terminal() || len(j.Attempts) >= f.n && f.of(j).Status != fsm.Assigned
	})
	if !ok {
		return false
	}
	if len(j.Attempts) < f.n {
		return f.end(j)
	}
	if f.follow(ctx) != nil || ctx.Err() != nil {
		return false
	}
	j, ok = f.await(ctx, func(j *fsm.Job) bool { return f.of(j).Status.Terminal() })
	if !ok {
		return false
	}
	if err := f.drain(ctx, f.of(j)); err != nil {
		return false
	}
	if f.pinned || j.Status.Terminal() && len(j.Attempts) == f.n {
		return f.end(j)
	}
	return true
}

// of is the attempt that is followed; the zero one while it is not there.
func (f *logStream) of(j *fsm.Job) fsm.Attempt {
	if len(j.Attempts) < f.n {
		return fsm.Attempt{}
	}
	return j.Attempts[f.n-1]
}

// follow sends lines as they come, until the attempt has ended.
func (f *logStream) follow(ctx context.Context) error {
	running, ended := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer ended()
	watch.Go(func() {
		defer ended()
		f.s.awaitJob(running, f.job, func(j *fsm.Job) bool { return f.of(j).Status.Terminal() })
	})
	j, ok := f.s.deps.State.State().Job(f.job)
	if !ok {
		return nil
	}
	complained := false
	for running.Err() == nil {
		err := f.send(running, f.of(j), true)
		var p *Problem
		switch {
		case err == nil || running.Err() != nil:
			return nil // it has ended there; the state says so soon
		case errors.As(err, &p) && !complained:
			complained = true
			if err := f.out.event("problem", "", p); err != nil {
				return err
			}
		case errors.As(err, &p), errors.Is(err, errNoLog), errors.Is(err, errOnlyCopy):
		default:
			return err
		}
		select {
		case <-time.After(retryLog):
		case <-running.Done():
		}
	}
	return nil
}

// send writes the lines from where the stream stands.
func (f *logStream) send(ctx context.Context, a fsm.Attempt, follow bool) error {
	for line, err := range f.s.lines(ctx, f.job, a, f.offset, follow) {
		if err != nil {
			return err
		}
		f.offset = line.Offset
		out := LogLine{Attempt: f.n, Time: line.Time, Step: line.Step, Text: line.Text, Offset: line.Offset}
		if f.html {
			out.Text, out.HTML = "", f.colour.line(line.Text)
		}
		if err := f.out.event("line", f.place(), out); err != nil {
			return err
		}
	}
	return nil
}

// place is where the stream stands, as an event's ID.
func (f *logStream) place() string { return strconv.Itoa(f.n) + "/" + strconv.FormatInt(f.offset, 10) }

// drain sends what was written before the attempt ended and has not been sent.
func (f *logStream) drain(ctx context.Context, a fsm.Attempt) error {
	err := f.send(ctx, a, false)
	var p *Problem
	switch {
	case errors.As(err, &p):
		return f.out.event("problem", "", p)
	case errors.Is(err, errNoLog):
		if a.LogBytes == 0 {
			return nil
		}
		return f.out.event("problem", "", f.s.noLog(f.job, a))
	}
	return err
}

// await waits for the job and tells the client of each status on the way. It is not
// ok when the client has gone or the build has been forgotten.
func (f *logStream) await(ctx context.Context, ready func(*fsm.Job) bool) (*fsm.Job, bool) {
	return f.s.awaitJob(ctx, f.job, func(j *fsm.Job) bool {
		if now := f.status(j); now != f.told {
			f.told = now
			if f.out.event("status", f.place(), now) != nil {
				return true // the next write fails too, and ends the stream
			}
		}
		return ready(j)
	})
}

func (f *logStream) status(j *fsm.Job) LogStatus {
	if a := f.of(j); a.N > 0 {
		return LogStatus{Status: a.Status, Cause: a.Cause, Reason: a.Message, Attempt: a.N, Node: a.Node}
	}
	return LogStatus{Status: j.Status, Cause: j.Cause, Reason: j.Message}
}

func (f *logStream) end(j *fsm.Job) (more bool) {
	v := LogStatus{Status: j.Status, Cause: j.Cause, Reason: j.Message, Attempt: len(j.Attempts)}
	if f.pinned {
		v = f.status(j)
	}
	_ = f.out.event("end", f.place(), v) // it is the last one in any case
	return false
}

// awaitJob waits until the job is as wanted. It is not ok when ctx has ended or the
// job's build has been forgotten.
func (s *Server) awaitJob(ctx context.Context, id fsm.JobID, ready func(*fsm.Job) bool) (*fsm.Job, bool) {
	var last *fsm.Job
	for {
		state, changed := s.deps.State.Watch()
		j, ok := state.Job(id)
		if !ok {
			return nil, false
		}
		if j != last && ready(j) {
			return j, true
		}
		last = j
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, false
		}
	}
}
