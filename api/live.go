package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// live is an answer that is written while it comes about. What is written in quick
// succession is flushed together, so that a long log costs few packets, and a
// client that does not read for writeWithin is given up.
type live struct {
	control *http.ResponseController
	w       http.ResponseWriter
	wake    chan struct{} // something is to be flushed, one slot
	done    chan struct{}
	loop    sync.WaitGroup

	mu  sync.Mutex // over w
	err error
}

// newLive sends the headers. While nothing comes, ping is written at each pause; an
// empty one writes nothing. close must be called before the handler returns.
func newLive(w http.ResponseWriter, ping string, pause time.Duration) *live {
	l := &live{control: http.NewResponseController(w), w: w, wake: make(chan struct{}, 1), done: make(chan struct{})}
	w.WriteHeader(http.StatusOK)
	l.loop.Go(func() { l.run(ping, pause) })
	l.nudge()
	return l
}

func (l *live) run(ping string, pause time.Duration) {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		select {
		case <-l.wake:
			ticker.Reset(pause)
		case <-ticker.C:
			if ping != "" {
				_ = l.put([]byte(ping)) // it is remembered, and ends the stream with the next write
			}
		case <-l.done:
			l.flush()
			return
		}
		l.flush()
	}
}

func (l *live) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	_ = l.control.SetWriteDeadline(time.Now().Add(writeWithin)) // a writer without deadlines, such as a test's
	l.err = l.control.Flush()
}

func (l *live) nudge() {
	select {
	case l.wake <- struct{}{}:
	default: // a flush is due already
	}
}

func (l *live) put(data []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	_ = l.control.SetWriteDeadline(time.Now().Add(writeWithin))
	_, l.err = l.w.Write(data)
	return l.err
}

// json writes a value as a line.
func (l *live) json(v any) error {
	var buf bytes.Buffer
	if err := json.NewEncoder(&buf).Encode(v); err != nil {
		return err
	}
	defer l.nudge()
	return l.put(buf.Bytes())
}

// event writes a server-sent event; the ID may be empty.
func (l *live) event(name, id string, v any) error {
	data, err := json.Marshal(v) // one line: JSON escapes line feeds
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	if id != "" {
		buf.WriteString("id: " + id + "\n")
	}
	buf.WriteString("event: " + name + "\ndata: ")
	buf.Write(data)
	buf.WriteString("\n\n")
	defer l.nudge()
	return l.put(buf.Bytes())
}

func (l *live) close() {
	close(l.done)
	l.loop.Wait()
}

// newEvents begins a stream of server-sent events.
func (s *Server) newEvents(w http.ResponseWriter) *live {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // a proxy in front is not to hold it back
	l := newLive(w, ": still here\n\n", s.config.StreamPing)
	_ = l.put([]byte("retry: 500\n\n")) // browsers would wait some seconds; an error ends the stream with the next write
	return l
}
