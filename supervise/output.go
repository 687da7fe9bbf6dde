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

	"github.com/codepr/narwhal/joblog"
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

// output is the pipe into which all steps print, stdout and stderr alike so that
// their order is kept. Its read end is never left to wait: a log that is full is
// drained all the same.
type output struct {
	log    *joblog.Writer
	read   *os.File
	write  *os.File
	null   *os.File
	buffer *[]byte
}

func openOutput(log *joblog.Writer) (*output, error) {
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
	return &output{log: log, read: read, write: write, null: null, buffer: buffers.Get().(*[]byte)}, nil
}

// files are a step's stdin, stdout and stderr. Fd makes the write end block, as
// programs expect; the read end is another matter and stays as it is.
func (o *output) files() []uintptr {
	return []uintptr{o.null.Fd(), o.write.Fd(), o.write.Fd()}
}

// interrupt makes copy look at whether the process has exited.
func (o *output) interrupt() { _ = o.read.SetReadDeadline(time.Unix(1, 0)) }

// copy takes output into the log until quiet is closed and interrupt called.
func (o *output) copy(step int, quiet <-chan struct{}) {
	timed := false
	for {
		n, err := o.read.Read(*o.buffer)
		if n > 0 {
			o.log.Write(step, (*o.buffer)[:n])
		}
		switch pending := o.log.Pending(); {
		case errors.Is(err, os.ErrDeadlineExceeded):
			o.log.Flush()
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

// settle takes what a process that has exited left in the pipe. What others go
// on to print is the next step's: no more than the pipe holds is taken.
func (o *output) settle(step int) {
	conn, err := o.read.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) {
		for taken := 0; taken < pipeSize; {
			n, err := syscall.Read(int(fd), *o.buffer)
			if n <= 0 && !errors.Is(err, syscall.EINTR) {
				return
			}
			if n > 0 {
				o.log.Write(step, (*o.buffer)[:n])
				taken += n
			}
		}
	})
	o.log.Flush()
	_ = o.read.SetReadDeadline(time.Time{})
}

// drain takes what is left once no step will print any more. It reports whether
// nobody holds the output any more.
func (o *output) drain(step int) bool {
	if o.write != nil {
		_ = o.write.Close()
		o.write = nil
	}
	_ = o.read.SetReadDeadline(time.Now().Add(drainFor))
	for {
		n, err := o.read.Read(*o.buffer)
		if n > 0 {
			o.log.Write(step, (*o.buffer)[:n])
		}
		if err != nil {
			o.log.Flush()
			return errors.Is(err, io.EOF)
		}
	}
}

func (o *output) close() {
	_ = o.read.Close()
	_ = o.null.Close()
	buffers.Put(o.buffer)
	o.buffer = nil
}
