package supervise

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	pipeSize = 256 << 10
	// flushAfter is how long half a line waits for its other half.
	flushAfter = 100 * time.Millisecond
	// drainFor is how long what has been killed is given to let go of the output.
	drainFor = 300 * time.Millisecond
)

// buffers are kept between jobs: a short job should not cost a large one.
var buffers = sync.Pool{New: func() any { b := make([]byte, pipeSize); return &b }}

// sink takes what a step prints: its stream of the log, or the way there from
// another container.
type sink interface {
	Write(p []byte)
	Pending() bool // a line has not ended
	Flush()        // as if it had
	Close()
}

// output is the pipe into which a step prints, stdout and stderr alike so that
// their order is kept. Its read end is never left to wait: a log that is full is
// drained all the same.
type output struct {
	sink   sink
	read   *os.File
	write  *os.File // nil once the step has ended
	null   *os.File
	buffer *[]byte
}

func openOutput(to sink) (*output, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, fmt.Errorf("open output: %w", err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		_ = null.Close()
		return nil, fmt.Errorf("open output: %w", err)
	}
	// A larger pipe saves switches; where a user has too many, the usual one does.
	_, _ = unix.FcntlInt(write.Fd(), unix.F_SETPIPE_SZ, pipeSize)
	return &output{sink: to, read: read, write: write, null: null, buffer: buffers.Get().(*[]byte)}, nil
}

// files are a step's stdin, stdout and stderr. Fd makes the write end block, as
// programs expect; the read end is another matter and stays as it is.
func (o *output) files() []uintptr {
	return []uintptr{o.null.Fd(), o.write.Fd(), o.write.Fd()}
}

// interrupt makes copy look at whether it is to return.
func (o *output) interrupt() { _ = o.read.SetReadDeadline(time.Unix(1, 0)) }

// copy hands output on until nobody holds the pipe any more, or quiet is closed
// and interrupt called.
func (o *output) copy(quiet <-chan struct{}) {
	timed := false
	for {
		n, err := o.read.Read(*o.buffer)
		if n > 0 {
			o.sink.Write((*o.buffer)[:n])
		}
		switch pending := o.sink.Pending(); {
		case errors.Is(err, os.ErrDeadlineExceeded):
			o.sink.Flush()
			timed = false
			_ = o.read.SetReadDeadline(time.Time{})
		case err != nil:
			return
		case pending:
			timed = true
			_ = o.read.SetReadDeadline(time.Now().Add(flushAfter))
		case timed:
			timed = false
			_ = o.read.SetReadDeadline(time.Time{})
		}
		// After the deadline was set: an interrupt that it overwrote is seen here.
		select {
		case <-quiet:
			return
		default:
		}
	}
}

// settle takes what a process that has exited left in the pipe. What others go on
// to print comes later: no more than the pipe holds is taken. It reports whether
// nobody holds the pipe any more.
func (o *output) settle() (ended bool) {
	conn, err := o.read.SyscallConn()
	if err != nil {
		return true
	}
	_ = conn.Control(func(fd uintptr) {
		for taken := 0; taken < pipeSize; {
			n, err := syscall.Read(int(fd), *o.buffer)
			if n <= 0 && !errors.Is(err, syscall.EINTR) {
				ended = err == nil
				return
			}
			if n > 0 {
				o.sink.Write((*o.buffer)[:n])
				taken += n
			}
		}
	})
	o.sink.Flush()
	_ = o.read.SetReadDeadline(time.Time{})
	return ended
}

// finish gives the pipe up on behalf of the step, which has ended. It reports
// whether nobody else holds it: then it is closed.
func (o *output) finish() bool {
	_ = o.write.Close()
	o.write = nil
	if !o.settle() {
		return false
	}
	o.close()
	return true
}

// drain takes what is left until a time. It reports whether nobody holds the
// output any more.
func (o *output) drain(until time.Time) bool {
	_ = o.read.SetReadDeadline(until)
	for {
		n, err := o.read.Read(*o.buffer)
		if n > 0 {
			o.sink.Write((*o.buffer)[:n])
		}
		if err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}

func (o *output) close() {
	if o.write != nil {
		_ = o.write.Close()
	}
	_ = o.read.Close()
	_ = o.null.Close()
	o.sink.Close()
	buffers.Put(o.buffer)
	o.buffer = nil
}
