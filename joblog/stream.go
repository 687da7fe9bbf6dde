package joblog

import (
	"bytes"

	"github.com/codepr/narwhal/joblog/mask"
)

// Stream is what one step prints. Several may be written to at a time: their
// lines mix, and are never cut for each other's sake.
type Stream struct {
	w       *Writer
	step    int
	partial []byte       // the line that has not ended, without its prefix
	flushed bool         // what came before partial was taken for a line by Flush
	mask    *mask.Stream // nil masks nothing
}

// Stream begins the output of a step.
func (w *Writer) Stream(step int) *Stream {
	s := &Stream{w: w, step: step}
	if w.mask != nil {
		s.mask = w.mask.Stream()
	}
	return s
}

// Write appends what the step printed. A line that has not ended waits for its
// end or for Flush. When the log has reached its limit, or can't be written, p is
// taken and dropped: a step never waits for its log.
func (s *Stream) Write(p []byte) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.w.full() {
		s.partial = nil
		return
	}
	if s.mask == nil {
		s.lines(p)
	} else {
		s.w.clear = s.mask.Append(s.w.clear[:0], p)
		s.lines(s.w.clear)
	}
	s.w.send()
}

func (s *Stream) lines(p []byte) {
	if len(p) == 0 {
		return
	}
	prefix := s.w.prefix(s.step)
	for len(p) > 0 {
		line, rest, ended := bytes.Cut(p, []byte{'\n'})
		p = rest
		if len(s.partial) > 0 || !ended {
			s.partial = append(s.partial, line...)
			line = s.partial
		}
		for len(line) > MaxLine {
			n := runeStart(line, MaxLine)
			s.w.emit(prefix, line[:n])
			line = line[n:]
		}
		if !ended {
			s.partial = append(s.partial[:0], line...)
			continue
		}
		if len(line) > 0 || !s.flushed { // else it only ends what was flushed
			s.w.emit(prefix, line)
		}
		s.partial, s.flushed = s.partial[:0], false
	}
}

// Pending reports whether a line waits for its end. What may be the beginning of
// a secret doesn't count: it waits for whatever comes.
func (s *Stream) Pending() bool {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return len(s.partial) > 0
}

// Flush writes the line that has not ended as if it had.
func (s *Stream) Flush() {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.endLine()
	s.w.send()
}

// Close ends the output, with what was held back of it.
func (s *Stream) Close() {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.mask != nil {
		s.w.clear = s.mask.Close(s.w.clear[:0])
		s.lines(s.w.clear)
	}
	s.endLine()
	s.w.send()
}

func (s *Stream) endLine() {
	if len(s.partial) > 0 {
		s.w.emit(s.w.prefix(s.step), s.partial)
		s.partial, s.flushed = s.partial[:0], true
	}
}
