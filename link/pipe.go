package link

import (
	"context"
	"fmt"
	"io"
	"sync"
)

// Pipe is a stream without a network: for a leader and a node in one process,
// such as a simulation. Messages cross it encoded, so that the ends share no
// memory. It breaks when ctx ends or the node's end is closed.
func Pipe(ctx context.Context) (NodeStream, Stream, error) {
	c, err := newCodec()
	if err != nil {
		return nil, nil, err
	}
	p := &pipe{ctx: ctx, codec: c, up: make(chan []byte, 1), down: make(chan []byte, 1), closed: make(chan struct{})}
	return (*nodeEnd)(p), (*leaderEnd)(p), nil
}

type pipe struct {
	ctx    context.Context // it is the pipe's life, as a gRPC stream's context is
	codec  codec
	up     chan []byte
	down   chan []byte
	once   sync.Once
	closed chan struct{}
}

type (
	nodeEnd   pipe
	leaderEnd pipe
)

func (e *nodeEnd) Send(up *Up) error { return (*pipe)(e).send(e.up, up) }

func (e *nodeEnd) Recv() (*Down, error) {
	down := new(Down)
	return down, (*pipe)(e).recv(e.down, down)
}

func (e *nodeEnd) Close() { e.once.Do(func() { close(e.closed) }) }

func (e *leaderEnd) Send(down *Down) error { return (*pipe)(e).send(e.down, down) }

func (e *leaderEnd) Recv() (*Up, error) {
	up := new(Up)
	return up, (*pipe)(e).recv(e.up, up)
}

func (p *pipe) send(to chan<- []byte, v any) error {
	data, err := p.codec.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	if len(data) > MaxMessage {
		return fmt.Errorf("send message: %d bytes are more than %d", len(data), MaxMessage)
	}
	select {
	case <-p.ctx.Done():
		return p.ctx.Err()
	case <-p.closed:
		return io.EOF
	case to <- data:
		return nil
	}
}

func (p *pipe) recv(from <-chan []byte, v any) error {
	select {
	case <-p.ctx.Done():
		return p.ctx.Err()
	case <-p.closed:
		return io.EOF
	case data := <-from:
		return p.codec.Unmarshal(data, v)
	}
}
