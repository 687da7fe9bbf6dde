package cluster

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// memConn is one end of a connection in memory. Writes never block, which is
// what keeps virtual time from standing still while a lock is held.
type memConn struct {
	net           *Memory
	local, remote net.Addr
	in, out       *memQueue
}

// newMemPipe makes both ends. The network's lock must be held.
func newMemPipe(n *Memory, a, b net.Addr) (*memConn, *memConn) {
	ab, ba := newMemQueue(), newMemQueue()
	x := &memConn{net: n, local: a, remote: b, in: ba, out: ab}
	y := &memConn{net: n, local: b, remote: a, in: ab, out: ba}
	n.conns[x], n.conns[y] = struct{}{}, struct{}{}
	return x, y
}

func (c *memConn) Read(b []byte) (int, error)  { return c.in.read(b) }
func (c *memConn) Write(b []byte) (int, error) { return c.out.write(b) }

func (c *memConn) Close() error {
	c.net.mu.Lock()
	delete(c.net.conns, c)
	c.net.mu.Unlock()
	c.out.close(io.EOF)       // the other end reads what is there, then its end
	c.in.close(net.ErrClosed) // and can write no more
	return nil
}

func (c *memConn) LocalAddr() net.Addr                { return c.local }
func (c *memConn) RemoteAddr() net.Addr               { return c.remote }
func (c *memConn) SetDeadline(t time.Time) error      { return c.in.setDeadline(t) }
func (c *memConn) SetReadDeadline(t time.Time) error  { return c.in.setDeadline(t) }
func (c *memConn) SetWriteDeadline(_ time.Time) error { return nil }

// memQueue is one direction of a connection.
type memQueue struct {
	mu       sync.Mutex
	cond     *sync.Cond
	data     []byte
	err      error // set once closed
	expired  bool
	deadline *time.Timer
}

func newMemQueue() *memQueue {
	q := &memQueue{}
	q.cond = sync.NewCond(&q.mu)
	return q
}

func (q *memQueue) read(b []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		switch {
		case q.expired:
			return 0, os.ErrDeadlineExceeded
		case errors.Is(q.err, net.ErrClosed):
			return 0, net.ErrClosed
		case len(q.data) > 0:
			n := copy(b, q.data)
			q.data = q.data[n:]
			return n, nil
		case q.err != nil:
			return 0, q.err
		}
		q.cond.Wait()
	}
}

func (q *memQueue) write(b []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return 0, net.ErrClosed
	}
	q.data = append(q.data, b...)
	q.cond.Broadcast()
	return len(b), nil
}

func (q *memQueue) close(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil || errors.Is(err, net.ErrClosed) {
		q.err = err
	}
	if q.deadline != nil {
		q.deadline.Stop()
	}
	q.cond.Broadcast()
}

func (q *memQueue) setDeadline(t time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.deadline != nil {
		q.deadline.Stop()
		q.deadline = nil
	}
	q.expired = false
	if t.IsZero() || errors.Is(q.err, net.ErrClosed) {
		return nil
	}
	wait := time.Until(t)
	if wait <= 0 {
		q.expired = true
		q.cond.Broadcast()
		return nil
	}
	var timer *time.Timer
	timer = time.AfterFunc(wait, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.deadline == timer {
			q.expired = true
			q.cond.Broadcast()
		}
	})
	q.deadline = timer
	return nil
}
