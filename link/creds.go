package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc/credentials"

	"github.com/codepr/narwhal/fsm"
)

// tlsConn is what a connection must be: one that was dialled or accepted under
// mutual TLS, shaken hands or about to.
type tlsConn interface {
	net.Conn
	Handshake() error
	ConnectionState() tls.ConnectionState
}

var errNotTLS = errors.New("connection is not TLS")

// given are credentials for connections that are TLS already: they add no layer
// and pass on whose certificate it is. The node's end needs no peer: its dialler
// has checked whom it reached.
type given struct{ peer func(net.Conn) string }

// proved is what a connection has proved.
type proved struct {
	credentials.TLSInfo
	peer fsm.NodeID
}

func (g given) ClientHandshake(_ context.Context, _ string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return g.shake(raw)
}

func (g given) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return g.shake(raw)
}

// shake runs under the deadline that gRPC, or dialOnce, has set on raw.
func (g given) shake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, ok := raw.(tlsConn)
	if !ok {
		return nil, nil, errNotTLS
	}
	if err := conn.Handshake(); err != nil {
		return nil, nil, fmt.Errorf("shake hands with %s: %w", raw.RemoteAddr(), err)
	}
	info := proved{TLSInfo: credentials.TLSInfo{
		State:          conn.ConnectionState(),
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}}
	if g.peer != nil {
		info.peer = fsm.NodeID(g.peer(conn))
	}
	return conn, info, nil
}

func (given) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

func (g given) Clone() credentials.TransportCredentials { return g }

func (given) OverrideServerName(string) error { return nil }
