package checkout

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxObject   = 16 << 20        // bytes of an object that is read into memory
	maxReaders  = 16              // processes kept, over all mirrors
	readerIdle  = 5 * time.Minute // until an idle one is ended
	readerLimit = 30 * time.Second
)

var errTooBig = fmt.Errorf("it is larger than %d MiB", maxObject>>20)

// reader is one `git cat-file --batch-command` that is kept, so that looking up
// an object costs no fork. It is used by one caller at a time.
type reader struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func (g git) startReader(gitDir string) (*reader, error) {
	cmd, _ := g.command(call{gitDir: gitDir}, []string{"cat-file", "--batch-command", "--follow-symlinks"})
	in, errIn := cmd.StdinPipe()
	out, errOut := cmd.StdoutPipe()
	if err := errors.Join(errIn, errOut); err != nil {
		return nil, fmt.Errorf("start git cat-file: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start git cat-file: %w", err)
	}
	return &reader{cmd: cmd, in: in, out: bufio.NewReaderSize(out, 64<<10)}, nil
}

// stop ends the process and waits for it. It is asked once.
func (r *reader) stop() {
	_ = r.in.Close()
	killGroup(r.cmd.Process.Pid)
	_ = r.cmd.Wait() // killed: its status says nothing
}

// header reads an answer's first line: "<oid> <kind> <size>" or, where there is
// no such object, fs.ErrNotExist. With --follow-symlinks some answers carry
// that many bytes more, which are read too.
func (r *reader) header() (kind string, size int64, err error) {
	line, err := r.out.ReadString('\n')
	if err != nil {
		return "", 0, fmt.Errorf("git cat-file ended: %w", err)
	}
	line = strings.TrimSuffix(line, "\n")
	for _, word := range []string{"symlink", "dangling", "loop", "notdir"} {
		if n, found := strings.CutPrefix(line, word+" "); found {
			if extra, err := strconv.ParseInt(n, 10, 64); err == nil {
				if _, err := io.CopyN(io.Discard, r.out, extra+1); err != nil {
					return "", 0, fmt.Errorf("git cat-file ended: %w", err)
				}
				return "", 0, fs.ErrNotExist
			}
		}
	}
	if strings.HasSuffix(line, " missing") || strings.HasSuffix(line, " ambiguous") {
		return "", 0, fs.ErrNotExist
	}
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return "", 0, fmt.Errorf("git cat-file answered %q", line)
	}
	size, err = strconv.ParseInt(fields[2], 10, 64)
	return fields[1], size, err
}

// body reads what follows a header of contents.
func (r *reader) body(size int64) ([]byte, error) {
	if size > maxObject {
		return nil, errTooBig
	}
	data := make([]byte, size+1)
	if _, err := io.ReadFull(r.out, data); err != nil {
		return nil, fmt.Errorf("git cat-file ended: %w", err)
	}
	return data[:size], nil
}

// pool bounds the readers of all mirrors: the one that was used longest ago
// goes first. The zero value is ready.
type pool struct {
	mu     sync.Mutex
	recent []*mirror // those with a reader, least recent first
	closed bool
}

// touch says that m's reader was used just now, and gives the mirror whose
// reader has to go for it, or nil.
func (p *pool) touch(m *mirror) (victim *mirror, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, false
	}
	if n := len(p.recent); n > 0 && p.recent[n-1] == m {
		return nil, true
	}
	p.drop(m)
	p.recent = append(p.recent, m)
	if len(p.recent) > maxReaders {
		victim = p.recent[0]
		p.recent = p.recent[1:]
	}
	return victim, true
}

func (p *pool) forget(m *mirror) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(m)
}

func (p *pool) drop(m *mirror) {
	for i, other := range p.recent {
		if other == m {
			p.recent = append(p.recent[:i:i], p.recent[i+1:]...)
			return
		}
	}
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recent, p.closed = nil, true
}

// withReader lends the mirror's reader to fn, and starts it where there is
// none. A reader that broke is ended; a dead one is replaced once.
func (m *mirror) withReader(ctx context.Context, fn func(*reader) error) error {
	victim, open := m.pool.touch(m)
	if !open {
		return errors.New("mirrors are closed")
	}
	if victim != nil {
		victim.stopReader()
	}
	m.readMu.Lock()
	defer m.readMu.Unlock()
	for try := 0; ; try++ {
		fresh := m.reader == nil
		if fresh {
			r, err := m.git.startReader(m.dir)
			if err != nil {
				return err
			}
			m.reader = r
		}
		err := m.lend(ctx, fn)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			m.idleAfter(readerIdle)
			return err
		}
		m.endReader()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if fresh || try > 0 || errors.Is(err, errTooBig) {
			return err
		}
	}
}

// lend runs fn; when ctx ends or git hangs the reader is killed under it.
func (m *mirror) lend(ctx context.Context, fn func(*reader) error) error {
	ctx, cancel := context.WithTimeout(ctx, readerLimit)
	defer cancel()
	pid := m.reader.cmd.Process.Pid
	stop := context.AfterFunc(ctx, func() { killGroup(pid) })
	defer stop()
	return fn(m.reader)
}

// idleAfter ends the reader when it has not been used for that long.
func (m *mirror) idleAfter(d time.Duration) {
	if m.idle == nil {
		m.idle = time.AfterFunc(d, m.stopReader)
		return
	}
	m.idle.Reset(d)
}

// stopReader ends the reader, if there is one, and waits for its user.
func (m *mirror) stopReader() {
	m.pool.forget(m)
	m.readMu.Lock()
	defer m.readMu.Unlock()
	m.endReader()
}

func (m *mirror) endReader() {
	if m.idle != nil {
		m.idle.Stop()
	}
	if m.reader != nil {
		m.reader.stop()
		m.reader = nil
	}
}
