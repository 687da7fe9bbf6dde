package link

import (
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/codepr/narwhal/fsm"
)

var (
	// ErrNotLeader is returned when the node that was dialled does not lead; by
	// a Handler to say so.
	ErrNotLeader = errors.New("this node is not the leader")
	// ErrRefused is returned when a peer is not who it says it is, or speaks out
	// of turn.
	ErrRefused = errors.New("peer refused")
)

// Stream is the leader's end of a node's stream. One goroutine may send while
// another receives.
type Stream interface {
	Send(*Down) error
	// Recv returns io.EOF when the node has closed the stream.
	Recv() (*Up, error)
}

// NodeStream is the node's end. One goroutine may send while another receives.
type NodeStream interface {
	Send(*Up) error
	Recv() (*Down, error)
	// Close breaks the stream: a Send or Recv that waits returns. It may be
	// called at any time and more than once.
	Close()
}

const (
	serviceName = "narwhal.Link"
	streamName  = "Stream"
	methodName  = "/" + serviceName + "/" + streamName
)

var streamDesc = grpc.StreamDesc{StreamName: streamName, ServerStreams: true, ClientStreams: true}

// greeted lets a node's stream through to the leader once its Hello has shown
// that it is whom its certificate says.
type greeted struct {
	inner Stream
	peer  fsm.NodeID
	done  bool // only Recv reads and writes it
}

func (g *greeted) Send(d *Down) error { return g.inner.Send(d) }

func (g *greeted) Recv() (*Up, error) {
	up, err := g.inner.Recv()
	if err != nil {
		return nil, err
	}
	switch first := !g.done; {
	case first && up.Hello == nil:
		return nil, fmt.Errorf("%w: %s did not begin with a hello", ErrRefused, g.peer)
	case first && up.Hello.Node.ID != g.peer:
		return nil, fmt.Errorf("%w: the certificate is node %s's, the hello node %q's", ErrRefused, g.peer, up.Hello.Node.ID)
	case !first && up.Hello != nil:
		return nil, fmt.Errorf("%w: %s said hello twice", ErrRefused, g.peer)
	}
	g.done = true
	return up, nil
}

// toStatus gives an error the code that crosses the wire.
func toStatus(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNotLeader):
		return status.Error(codes.FailedPrecondition, err.Error())
	case errors.Is(err, ErrRefused):
		return status.Error(codes.PermissionDenied, err.Error())
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Unknown, err.Error())
}

// fromStatus gives the code back its sentinel.
func fromStatus(err error) error {
	switch status.Code(err) {
	case codes.FailedPrecondition:
		return fmt.Errorf("%w: %s", ErrNotLeader, status.Convert(err).Message())
	case codes.PermissionDenied:
		return fmt.Errorf("%w: %s", ErrRefused, status.Convert(err).Message())
	default:
		return err
	}
}

// nodeStream is the node's end over gRPC.
type nodeStream struct {
	grpc  grpc.ClientStream
	close func()
	once  sync.Once
	heard chan struct{} // closed with the first message
}

func (s *nodeStream) Send(up *Up) error { return s.grpc.SendMsg(up) }

func (s *nodeStream) Recv() (*Down, error) {
	down := new(Down)
	if err := s.grpc.RecvMsg(down); err != nil {
		return nil, fromStatus(err)
	}
	s.once.Do(func() { close(s.heard) })
	return down, nil
}

func (s *nodeStream) Close() { s.close() }

// wireStream is the leader's end over gRPC.
type wireStream struct{ grpc grpc.ServerStream }

func (s wireStream) Send(down *Down) error { return s.grpc.SendMsg(down) }

func (s wireStream) Recv() (*Up, error) {
	up := new(Up)
	if err := s.grpc.RecvMsg(up); err != nil {
		return nil, err
	}
	return up, nil
}
