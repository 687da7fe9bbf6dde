package cluster

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"
)

// joinRequest is what a newcomer sends once it knows the cluster by its CA.
type joinRequest struct {
	Secret  []byte `cbor:"1,keyasint"`
	NodeID  string `cbor:"2,keyasint"`
	Request []byte `cbor:"3,keyasint"` // certificate request, DER
	speaker
}

// speaker is what both sides say of their version.
type speaker struct {
	Protocol uint32 `cbor:"11,keyasint,omitempty"`
	Oldest   uint32 `cbor:"12,keyasint,omitempty"`
	Version  string `cbor:"13,keyasint,omitempty"`
	Name     string `cbor:"14,keyasint,omitempty"`
}

func speakerOf(o Offer) speaker {
	return speaker{o.Protocol, o.Oldest, cut(o.Version, 32), cut(o.Name, 63)}
}

func (s speaker) offer() Offer {
	return Offer{Protocol: s.Protocol, Oldest: s.Oldest, Version: s.Version, Name: s.Name}
}

// joinAnswer carries the cluster, or why not.
type joinAnswer struct {
	Refused    string   `cbor:"1,keyasint,omitempty"`
	ClusterID  string   `cbor:"2,keyasint,omitempty"`
	Generation uint64   `cbor:"3,keyasint,omitempty"`
	CACert     []byte   `cbor:"4,keyasint,omitempty"`
	CAKey      []byte   `cbor:"5,keyasint,omitempty"`
	Cert       []byte   `cbor:"6,keyasint,omitempty"`
	GossipKey  []byte   `cbor:"7,keyasint,omitempty"`
	APISecret  []byte   `cbor:"8,keyasint,omitempty"`
	Peers      []string `cbor:"9,keyasint,omitempty"`
	speaker
}

const (
	refusedToken = "token" // codes, not texts: they cross the wire
	refusedOften = "often"
	refusedApart = "protocol"
)

// joiner asks the hosts in turn, for ever, to let this node in.
type joiner struct {
	cfg   Config
	log   *slog.Logger
	port  string // this node's own, to notice that it asks itself
	token token
	id    *Identity // filled in by a success
	key   *ecdsa.PrivateKey
}

func newJoiner(cfg Config, port string, log *slog.Logger) (*joiner, error) {
	token, err := parseToken(cfg.Token)
	if err != nil {
		return nil, err
	}
	key, keyDER, err := newKey()
	if err != nil {
		return nil, err
	}
	return &joiner{cfg: cfg, log: log, port: port, token: token, key: key, id: &Identity{NodeID: newNodeID(), Key: keyDER}}, nil
}

// run returns the peers that the cluster named. It gives up only on an answer
// that will not change: a refused token, another cluster, itself.
func (j *joiner) run(ctx context.Context) ([]string, error) {
	delay, told := 100*time.Millisecond, time.Time{}
	for {
		var last error
		for _, host := range j.cfg.Join {
			peers, err := j.ask(ctx, host)
			if err == nil {
				return peers, nil
			}
			if errors.Is(err, ErrTokenRefused) || errors.Is(err, ErrForeign) || errors.Is(err, ErrJoinSelf) || errors.Is(err, ErrProtocol) {
				return nil, fmt.Errorf("join %s: %w", host, err)
			}
			last = fmt.Errorf("%s: %w", host, err)
		}
		if time.Since(told) >= 10*time.Second {
			told = time.Now()
			j.log.Warn("waiting to be let into the cluster", "join", strings.Join(j.cfg.Join, ","), "err", last)
		}
		if !wait(ctx, delay) {
			return nil, fmt.Errorf("join %s: %w", strings.Join(j.cfg.Join, ","), ctx.Err())
		}
		delay = min(2*delay, 5*time.Second)
	}
}

func (j *joiner) ask(ctx context.Context, host string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*handshakeTimeout)
	defer cancel()
	raw, err := j.cfg.Network.Dial(ctx, host)
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	if hostOf(raw.LocalAddr()) == hostOf(raw.RemoteAddr()) && portOf(raw.RemoteAddr()) == j.port {
		return nil, ErrJoinSelf
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	conn := tls.Client(raw, &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{alpnJoin},
		InsecureSkipVerify: true, // VerifyConnection knows the CA by the token's digest
		VerifyConnection:   j.verify,
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("handshake: %w", err)
	}
	request, err := newRequest(j.id.NodeID, j.key)
	if err != nil {
		return nil, err
	}
	if err := writeMessage(conn, joinRequest{Secret: j.token.secret, NodeID: j.id.NodeID, Request: request, speaker: speakerOf(j.cfg.Offer)}); err != nil {
		return nil, err
	}
	var answer joinAnswer
	if err := readMessage(conn, &answer); err != nil {
		return nil, err
	}
	return answer.Peers, j.take(answer)
}

// verify checks the host before the secret is sent: its CA is the token's, and
// has signed it.
func (j *joiner) verify(state tls.ConnectionState) error {
	leaf := state.PeerCertificates[0]
	for _, ca := range state.PeerCertificates[1:] {
		if caDigest(ca.Raw) != j.token.digest {
			continue
		}
		roots := x509.NewCertPool()
		roots.AddCert(ca)
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
			return fmt.Errorf("check host's certificate: %w", err)
		}
		return nil
	}
	clusterID, _ := certNames(leaf)
	return fmt.Errorf("%w: the host is of cluster %s, the token is not", ErrForeign, orDefault(clusterID, "(none)"))
}

func (j *joiner) take(a joinAnswer) error {
	if err := j.cfg.Offer.reaches(a.offer()); err != nil && a.Refused == "" {
		return err // the host's version does not know that
	}
	switch a.Refused {
	case "":
	case refusedToken:
		return ErrTokenRefused
	case refusedApart:
		if err := j.cfg.Offer.reaches(a.offer()); err != nil {
			return err
		}
		return fmt.Errorf("%w: the host (narwhal %s) says so", ErrProtocol, a.Version)
	case refusedOften:
		return errors.New("the host refuses tries for a while: too many wrong tokens")
	default:
		return fmt.Errorf("the host refused: %s", a.Refused)
	}
	if caDigest(a.CACert) != j.token.digest || a.ClusterID == "" || len(a.GossipKey) != 32 || len(a.Cert) == 0 {
		return errors.New("the host's answer is incomplete")
	}
	j.id.ClusterID, j.id.Generation = a.ClusterID, a.Generation
	j.id.CACert, j.id.CAKey, j.id.Cert = a.CACert, a.CAKey, a.Cert
	j.id.GossipKey, j.id.APISecret, j.id.JoinSecret = a.GossipKey, a.APISecret, j.token.secret
	return nil
}

func portOf(a net.Addr) string {
	_, port, _ := net.SplitHostPort(a.String())
	return port
}
