package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog"
)

// HeaderNextOffset says where to go on reading a log. It is a header, or a trailer
// where the answer is longer than headFits.
const HeaderNextOffset = "X-Narwhal-Next-Offset"

const headFits = 1 << 20 // bytes

// errNoLog is returned when no node that should have the attempt's log has it.
var errNoLog = errors.New("there is no log of this attempt")

// errOnlyCopy is returned when all that a copy has was read: the log may have more.
var errOnlyCopy = errors.New("only a copy of the log could be read")

// lines yields an attempt's log from offset on, from whoever has it: sealed from any
// node, or as it is written from the node that runs the attempt, or from a copy. With
// follow it waits for more, until ctx ends or the attempt has ended on its node. It
// ends with errNoLog, errOnlyCopy while it follows, a Problem that names the node, or
// ctx's error.
func (s *Server) lines(ctx context.Context, job fsm.JobID, a fsm.Attempt, offset int64, follow bool) iter.Seq2[joblog.Line, error] {
	return func(yield func(joblog.Line, error) bool) {
		var failed error
		for _, from := range s.sources(job, a) {
			ref := logRef{job, a.N, offset, follow && from.node == a.Node}
			var err error
			for line, readErr := range s.read(ctx, from, ref) {
				if err = readErr; err != nil {
					break
				}
				offset = line.Offset
				if !yield(line, nil) {
					return
				}
			}
			if err == nil && follow && !ref.follow && from.sealed == nil {
				err = errOnlyCopy
			}
			if err == nil {
				return
			}
			failed = worse(failed, err)
			if ctx.Err() != nil || errors.Is(err, errOnlyCopy) {
				break
			}
		}
		yield(joblog.Line{}, failed)
	}
}

// worse is the error that says more: that there is no log anywhere is only known
// where all could be asked.
func worse(a, b error) error {
	if a != nil && errors.Is(b, errNoLog) {
		return a
	}
	return b
}

// source is where an attempt's log may be had: sealed, or from a node.
type source struct {
	sealed *fsm.Blob
	node   fsm.NodeID
}

// maxCopies is how many nodes are asked for a copy, the likeliest first.
const maxCopies = 4

// sources are where the log may be, the best first. A node that gossip does not see is
// asked last.
func (s *Server) sources(job fsm.JobID, a fsm.Attempt) []source {
	var list []source
	if a.Log != nil {
		list = append(list, source{sealed: a.Log})
	}
	var others []fsm.NodeID
	away := true
	for _, m := range s.deps.Cluster.Members() {
		switch {
		case !m.Alive:
		case m.ID == a.Node:
			away = false
		default:
			others = append(others, m.ID)
		}
	}
	if !away {
		list = append(list, source{node: a.Node})
	}
	others = fsm.Rank(fsm.LogKey(job, a.N), others)
	for _, id := range others[:min(len(others), maxCopies)] {
		list = append(list, source{node: id})
	}
	if away {
		list = append(list, source{node: a.Node})
	}
	return list
}

func (s *Server) read(ctx context.Context, from source, ref logRef) iter.Seq2[joblog.Line, error] {
	switch {
	case from.sealed != nil:
		return s.sealedLines(ctx, *from.sealed, ref.offset)
	case from.node == s.deps.Cluster.Self():
		return s.localLines(ctx, ref)
	default:
		return s.remoteLines(ctx, from.node, ref)
	}
}

func (s *Server) sealedLines(ctx context.Context, b fsm.Blob, offset int64) iter.Seq2[joblog.Line, error] {
	return func(yield func(joblog.Line, error) bool) {
		reader, err := s.deps.Sealed.Read(ctx, b, offset)
		if err != nil {
			s.log.Debug("read sealed log", "digest", b.Digest, "err", err)
			if errors.Is(err, ErrBucket) {
				yield(joblog.Line{}, s.asProblem(err))
				return
			}
			yield(joblog.Line{}, fmt.Errorf("%w: %w", errNoLog, err))
			return
		}
		drain(ctx, reader, yield)
	}
}

// drain yields all that a reader has, and closes it.
func drain(ctx context.Context, reader *joblog.Reader, yield func(joblog.Line, error) bool) {
	defer func() { _ = reader.Close() }()
	for ctx.Err() == nil {
		line, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if !yield(line, err) || err != nil {
			return
		}
	}
	yield(joblog.Line{}, ctx.Err())
}

// logRef is a place in an attempt's log, and whether to wait for more.
type logRef struct {
	job     fsm.JobID
	attempt int
	offset  int64
	follow  bool
}

func (s *Server) localLines(ctx context.Context, ref logRef) iter.Seq2[joblog.Line, error] {
	return func(yield func(joblog.Line, error) bool) {
		if ref.follow {
			seq, err := s.deps.Logs.Follow(ctx, ref.job, ref.attempt, ref.offset)
			if err != nil {
				yield(joblog.Line{}, fmt.Errorf("%w: %w", errNoLog, err))
				return
			}
			seq(yield)
			return
		}
		reader, err := s.deps.Logs.Open(ref.job, ref.attempt, ref.offset)
		if err != nil {
			yield(joblog.Line{}, fmt.Errorf("%w: %w", errNoLog, err))
			return
		}
		drain(ctx, reader, yield)
	}
}

func (s *Server) remoteLines(ctx context.Context, node fsm.NodeID, ref logRef) iter.Seq2[joblog.Line, error] {
	return func(yield func(joblog.Line, error) bool) {
		if err := s.fetchLines(ctx, node, ref, yield); err != nil {
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			yield(joblog.Line{}, err)
		}
	}
}

func (s *Server) fetchLines(ctx context.Context, node fsm.NodeID, ref logRef, yield func(joblog.Line, error) bool) error {
	q := url.Values{"offset": {strconv.FormatInt(ref.offset, 10)}, "follow": {strconv.FormatBool(ref.follow)}}
	target := fmt.Sprintf("http://%s%s/logs/%s/%d?%s", node, nodePrefix, ref.job, ref.attempt, q.Encode())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return fmt.Errorf("read log at node %s: %w", node, err)
	}
	away := problem(http.StatusServiceUnavailable, CodeNodeUnreachable,
		"the log is on node %s, which does not answer: it can be read when the node is back", s.nodeName(node))
	resp, err := s.deps.Transport.Node(node).RoundTrip(req)
	if err != nil {
		s.log.Debug("read log at another node", "node", node, "err", err)
		return away
	}
	defer func() { _ = resp.Body.Close() }()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return fmt.Errorf("%w on node %s", errNoLog, s.nodeName(node))
	default:
		return away
	}
	scan := bufio.NewScanner(resp.Body)
	scan.Buffer(nil, maxLogLine)
	for scan.Scan() {
		if len(scan.Bytes()) == 0 {
			continue // a sign of life
		}
		var line joblog.Line
		if err := json.Unmarshal(scan.Bytes(), &line); err != nil {
			if scan.Err() != nil {
				return away // the connection broke in the middle of a line
			}
			return fmt.Errorf("read log at node %s: %w", node, err)
		}
		if !yield(line, nil) {
			return nil
		}
	}
	if scan.Err() != nil {
		return away
	}
	return nil
}

// maxLogLine holds a log line as JSON, which may be six times as long as its text.
const maxLogLine = 8 * joblog.MaxLine

// logRequest is what both log routes take.
type logRequest struct {
	job     fsm.JobID
	attempt int // 0 for the current one, or all
	offset  int64
	ndjson  bool
	html    bool
}

func parseLogRequest(r *http.Request) (logRequest, *Problem) {
	var q logRequest
	var err error
	if q.job, err = fsm.ParseJobID(r.PathValue("id")); err != nil {
		return q, problem(http.StatusUnprocessableEntity, CodeInvalid, "%s", err)
	}
	if text := r.URL.Query().Get("attempt"); text != "" {
		if q.attempt, err = strconv.Atoi(text); err != nil || q.attempt < 1 {
			return q, problem(http.StatusUnprocessableEntity, CodeInvalid, "attempt: want a number from 1")
		}
	}
	if text := r.URL.Query().Get("offset"); text != "" {
		if q.offset, err = strconv.ParseInt(text, 10, 64); err != nil || q.offset < 0 {
			return q, problem(http.StatusUnprocessableEntity, CodeInvalid, "offset: want a number from 0, such as an earlier answer's %s", HeaderNextOffset)
		}
	}
	switch r.URL.Query().Get("format") {
	case "", "text":
	case "ndjson":
		q.ndjson = true
	case "html":
		q.html = true
	default:
		return q, problem(http.StatusUnprocessableEntity, CodeInvalid, "format: want text or ndjson, or, of a stream, html")
	}
	return q, nil
}

// find gives the job and the attempt that is meant; ok is false where the job has
// none yet.
func (q logRequest) find(s *fsm.State) (a fsm.Attempt, ok bool, err *Problem) {
	j, found := s.Job(q.job)
	if !found {
		return a, false, problem(http.StatusNotFound, CodeNotFound, "there is no job %s: see the jobs of build %d", q.job, q.job.Build)
	}
	n := q.attempt
	if n == 0 {
		n = len(j.Attempts)
	}
	if n > len(j.Attempts) {
		return a, false, problem(http.StatusNotFound, CodeNotFound, "job %s has %d attempts", q.job, len(j.Attempts))
	}
	if n == 0 {
		return a, false, nil
	}
	return j.Attempts[n-1], true, nil
}

// readLog serves what there is of a log now.
func (s *Server) readLog(w http.ResponseWriter, r *http.Request) {
	q, bad := parseLogRequest(r)
	if bad == nil && q.html {
		bad = problem(http.StatusUnprocessableEntity, CodeInvalid, "format: want text or ndjson; html is for streams")
	}
	if bad != nil {
		bad.write(w)
		return
	}
	a, ok, bad := q.find(stateOf(r.Context()))
	if bad != nil {
		bad.write(w)
		return
	}
	out := logWriter{w: w, next: q.offset, ndjson: q.ndjson}
	if ok {
		for line, err := range s.lines(r.Context(), q.job, a, q.offset, false) {
			if err == nil {
				err = out.line(line)
			}
			if err != nil && !(errors.Is(err, errNoLog) && wroteNone(a)) {
				out.fail(s, q, a, err)
				return
			}
		}
	}
	out.end()
}

// wroteNone tells an attempt whose log need not be there: it has not begun, or has
// ended before it wrote anything.
func wroteNone(a fsm.Attempt) bool { return !a.Status.Terminal() || a.LogBytes == 0 }

// logWriter holds an answer's head back until it is known whether all fits in it.
type logWriter struct {
	w      http.ResponseWriter
	ndjson bool
	next   int64
	head   bytes.Buffer
	sent   bool // the head is out
}

func (o *logWriter) line(l joblog.Line) error {
	o.next = l.Offset
	if o.ndjson {
		if err := json.NewEncoder(&o.head).Encode(l); err != nil {
			return err
		}
	} else {
		o.head.WriteString(l.Text + "\n")
	}
	if o.head.Len() < headFits {
		return nil
	}
	if !o.sent {
		o.w.Header().Set("Trailer", HeaderNextOffset)
		o.begin()
	}
	return o.flush()
}

func (o *logWriter) begin() {
	kind := "text/plain; charset=utf-8"
	if o.ndjson {
		kind = "application/x-ndjson"
	}
	o.w.Header().Set("Content-Type", kind)
	o.w.WriteHeader(http.StatusOK)
	o.sent = true
}

func (o *logWriter) flush() error {
	_, err := o.w.Write(o.head.Bytes())
	o.head.Reset()
	return err
}

func (o *logWriter) end() {
	o.w.Header().Set(HeaderNextOffset, strconv.FormatInt(o.next, 10)) // a trailer, where the head is out
	if !o.sent {
		o.begin()
	}
	_ = o.flush() // the client has gone: there is nobody to tell
}

// fail answers with the problem, or, where part of the log is out, cuts the
// connection: a log that merely ends would pass for a whole one.
func (o *logWriter) fail(s *Server, q logRequest, a fsm.Attempt, err error) {
	if o.sent {
		panic(http.ErrAbortHandler)
	}
	if errors.Is(err, errNoLog) {
		s.noLog(q.job, a).write(o.w)
		return
	}
	s.writeError(o.w, err)
}

// noLog says that the log of an attempt that has ended is nowhere.
func (s *Server) noLog(job fsm.JobID, a fsm.Attempt) *Problem {
	return problem(http.StatusNotFound, CodeNotFound, "the log of job %s, attempt %d, which ran on node %s, is on no node any more%s",
		job, a.N, s.nodeName(a.Node), s.config.LogsKept)
}
