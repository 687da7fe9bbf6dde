package supervise

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// What a job's first process and a satellite tell each other, a frame each: a byte
// for the kind, four for the length, and so many bytes.
const (
	frameRun   = 'r' // to the satellite: an order
	frameStop  = 's' // a time.Duration, the grace; 0 ends an earlier one
	frameLeave = 'l' // no order comes any more

	frameOutput = 'o' // from it: what the step printed
	frameFlush  = 'f' // half a line has waited long enough
	frameSay    = 'n' // narwhal's own words
	framePid    = 'p' // of what runs
	frameResult = 'e' // the report of an order
)

// maxFrame bounds a frame, in bytes: commands and environment are in one.
const maxFrame = 8 << 20

// order is a try of a step.
type order struct {
	Task    Task     `json:"task"` // without steps
	Step    Step     `json:"step"`
	Index   int      `json:"index"`
	Secrets []string `json:"secrets,omitempty"` // KEY=VALUE
}

// report is what became of an order.
type report struct {
	Status    fsm.Status    `json:"status"`
	Cause     fsm.Cause     `json:"cause,omitempty"`
	Exit      int           `json:"exit"`
	Message   string        `json:"message,omitempty"`
	CPU       time.Duration `json:"cpu"`
	Peak      int64         `json:"peak"`
	Container int64         `json:"container"` // what the container has used at most, in bytes
}

// wire sends frames. Several may at a time.
type wire struct {
	mu  sync.Mutex
	to  io.Writer
	buf []byte
}

func (w *wire) send(kind byte, payload []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf[:0], kind)
	w.buf = binary.BigEndian.AppendUint32(w.buf, uint32(len(payload)))
	w.buf = append(w.buf, payload...)
	_, err := w.to.Write(w.buf)
	return err
}

func (w *wire) tell(kind byte, what any) error {
	payload, err := json.Marshal(what)
	if err != nil {
		return err
	}
	if len(payload) > maxFrame {
		return fmt.Errorf("it has %d bytes, more than %d", len(payload), maxFrame)
	}
	return w.send(kind, payload)
}

// frames reads what a wire sends.
type frames struct {
	in  *bufio.Reader
	buf []byte
}

// next gives a frame, which stays until the next call.
func (f *frames) next() (kind byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(f.in, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("a frame of %d bytes", n)
	}
	if uint32(cap(f.buf)) < n {
		f.buf = make([]byte, n)
	}
	f.buf = f.buf[:n]
	_, err = io.ReadFull(f.in, f.buf)
	return head[0], f.buf, err
}

// wireSink sends what a step prints.
type wireSink struct {
	wire *wire
	half bool // the last byte did not end a line
}

func (s *wireSink) Write(p []byte) {
	if len(p) > 0 {
		s.half = p[len(p)-1] != '\n'
		_ = s.wire.send(frameOutput, p) // nobody is left who would read it
	}
}

func (s *wireSink) Pending() bool { return s.half }

func (s *wireSink) Flush() {
	if s.half {
		s.half = false
		_ = s.wire.send(frameFlush, nil)
	}
}

func (s *wireSink) Close() {}
