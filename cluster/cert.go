package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"time"
)

// Certificates never run out, and are valid for a machine whose clock stands at
// 1970 too: they name a node, its membership is the log's and the gossip's
// business. RFC 5280 gives the year 9999 for "no end".
var (
	certFrom  = time.Date(1970, 1, 1, 0, 0, 1, 0, time.UTC)
	certUntil = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// uriScheme is the scheme of the URI in a node's certificate:
// narwhal://CLUSTER/NODE.
const uriScheme = "narwhal"

func nodeURI(clusterID, nodeID string) *url.URL {
	return &url.URL{Scheme: uriScheme, Host: clusterID, Path: "/" + nodeID}
}

// certNames reads the cluster and node that a certificate claims.
func certNames(cert *x509.Certificate) (clusterID, nodeID string) {
	for _, u := range cert.URIs {
		if u.Scheme == uriScheme {
			return u.Host, strings.TrimPrefix(u.Path, "/")
		}
	}
	return "", ""
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("marshal key: %w", err)
	}
	return key, der, nil
}

func newCA(clusterID string) (certDER, keyDER []byte, err error) {
	key, keyDER, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: "narwhal cluster " + clusterID},
		NotBefore:             certFrom,
		NotAfter:              certUntil,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	certDER, err = x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, fmt.Errorf("make CA: %w", err)
	}
	return certDER, keyDER, nil
}

// newRequest is a newcomer's certificate request; its key never leaves it.
func newRequest(nodeID string, key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: nodeID}}, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return der, nil
}

// signRequest makes nodeID's certificate for the key that signed the request.
func signRequest(id *Identity, nodeID string, requestDER []byte) ([]byte, error) {
	request, err := x509.ParseCertificateRequest(requestDER)
	if err != nil {
		return nil, fmt.Errorf("parse certificate request: %w", err)
	}
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("check certificate request: %w", err)
	}
	ca, err := x509.ParseCertificate(id.CACert)
	if err != nil {
		return nil, fmt.Errorf("parse CA: %w", err)
	}
	caKey, err := x509.ParseECPrivateKey(id.CAKey)
	if err != nil {
		return nil, fmt.Errorf("parse CA key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: newSerial(),
		Subject:      pkix.Name{CommonName: nodeID},
		URIs:         []*url.URL{nodeURI(id.ClusterID, nodeID)},
		NotBefore:    certFrom,
		NotAfter:     certUntil,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, request.PublicKey, caKey)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of %s: %w", nodeID, err)
	}
	return der, nil
}

func newSerial() *big.Int { return new(big.Int).SetBytes(randomBytes(16)) }

// credentials are a node's certificate and what it checks others' with.
type credentials struct {
	clusterID string
	roots     *x509.CertPool
	cert      tls.Certificate
}

func newCredentials(id *Identity) (*credentials, error) {
	ca, err := x509.ParseCertificate(id.CACert)
	if err != nil {
		return nil, fmt.Errorf("parse CA: %w", err)
	}
	key, err := x509.ParseECPrivateKey(id.Key)
	if err != nil {
		return nil, fmt.Errorf("parse node key: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	// The CA goes along, for newcomers who know it by its digest only.
	return &credentials{clusterID: id.ClusterID, roots: roots,
		cert: tls.Certificate{Certificate: [][]byte{id.Cert, id.CACert}, PrivateKey: key}}, nil
}

// verify is the whole check of a peer, on both sides: signed by this cluster's
// CA, and the node that was meant where one was. The standard check is off
// because its error could not name the two clusters; this one is always called,
// there being no session tickets.
func (c *credentials) verify(wantNode string) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errors.New("the peer showed no certificate")
		}
		leaf := state.PeerCertificates[0]
		clusterID, nodeID := certNames(leaf)
		_, err := leaf.Verify(x509.VerifyOptions{Roots: c.roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		switch {
		case err != nil && clusterID != "" && clusterID != c.clusterID:
			return foreignError(c.clusterID, clusterID)
		case err != nil:
			return fmt.Errorf("check peer's certificate: %w", err)
		case clusterID != c.clusterID || nodeID == "":
			return foreignError(c.clusterID, clusterID)
		case wantNode != "" && nodeID != wantNode:
			return fmt.Errorf("node %s answered instead of %s", nodeID, wantNode)
		}
		return nil
	}
}

// client is the configuration of a connection to wantNode, or to any member
// where it is empty.
func (c *credentials) client(alpn, wantNode string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{c.cert},
		NextProtos:             []string{alpn},
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true, // VerifyConnection does it: see verify
		VerifyConnection:       c.verify(wantNode),
	}
}

// server is the configuration for members that want one of the protocols.
func (c *credentials) server(alpns []string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{c.cert},
		NextProtos:             alpns,
		SessionTicketsDisabled: true,
		ClientAuth:             tls.RequireAnyClientCert, // VerifyConnection checks it: see verify
		VerifyConnection:       c.verify(""),
	}
}

// newcomers is the configuration for those who have no certificate yet.
func (c *credentials) newcomers() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{c.cert},
		NextProtos:             []string{alpnJoin},
		SessionTicketsDisabled: true,
	}
}

func foreignError(ours, theirs string) error {
	return fmt.Errorf("%w: the peer is of cluster %s, this node of %s", ErrForeign, orDefault(theirs, "(none)"), ours)
}
