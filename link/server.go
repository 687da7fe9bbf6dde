package link

import (
	"context"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/codepr/narwhal/fsm"
)

// Handler is the leader's side of a stream. Serve is called once a stream, and
// the stream ends when it returns: with ErrNotLeader where this node does not
// lead. ctx ends with the stream. The first message is a Hello, and its node is
// peer: another one is refused before Serve sees it.
type Handler interface {
	Serve(ctx context.Context, peer fsm.NodeID, s Stream) error
}

// Server is the leader's end. Every node runs one: the handler refuses while
// another leads.
type Server struct {
	grpc *grpc.Server
}

// NewServer makes a server. peer tells whose certificate a connection has
// shown; empty is refused. It starts nothing.
func NewServer(h Handler, peer func(net.Conn) string) (*Server, error) {
	c, err := newCodec()
	if err != nil {
		return nil, err
	}
	s := grpc.NewServer(
		grpc.Creds(given{peer: peer}),
		grpc.ForceServerCodec(c),
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxSendMsgSize(MaxMessage),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveTime / 2, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
	)
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: serviceName,
		HandlerType: (*Handler)(nil),
		Streams: []grpc.StreamDesc{{
			StreamName: streamName, ServerStreams: true, ClientStreams: true, Handler: serveStream,
		}},
	}, h)
	return &Server{grpc: s}, nil
}

// Run accepts streams from ln until ctx ends. When it returns, every handler
// has, and ln is closed.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	stop := context.AfterFunc(ctx, s.grpc.Stop)
	defer stop()
	err := s.grpc.Serve(ln)
	s.grpc.Stop() // waits for the handlers, also when it has been called before
	if ctx.Err() != nil || errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("serve node streams: %w", err)
	}
	return nil
}

func serveStream(srv any, grpcStream grpc.ServerStream) error {
	ctx := grpcStream.Context()
	p, _ := peer.FromContext(ctx)
	if p == nil {
		return status.Error(codes.Internal, "stream without a peer")
	}
	info, _ := p.AuthInfo.(proved)
	return toStatus(Greet(ctx, srv.(Handler), info.peer, wireStream{grpcStream}))
}

// Greet hands a stream to h, guarded as a Server guards it: the peer has a name
// and the first message is its Hello. It is for transports other than gRPC.
func Greet(ctx context.Context, h Handler, peer fsm.NodeID, s Stream) error {
	if peer == "" {
		return fmt.Errorf("%w: it has shown no node's certificate", ErrRefused)
	}
	return h.Serve(ctx, peer, &greeted{inner: s, peer: peer})
}
