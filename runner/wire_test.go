package runner

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/link"
)

// onlyLeader is a cluster whose leader never changes.
type onlyLeader struct{}

func (onlyLeader) Leader() (fsm.NodeID, bool) { return "n1", true }

func (onlyLeader) Changed() <-chan struct{} { return nil }

// TestOverTheWire runs jobs over the real link: gRPC on mutual TLS, and a
// connection that breaks in the middle.
func TestOverTheWire(t *testing.T) {
	n := newNode(t)
	certificate, pool := selfSigned(t)
	server, err := link.NewServer(n.leader, func(c net.Conn) string {
		return c.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.Run(ctx, ln); err != nil {
			t.Errorf("server: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	var mu sync.Mutex
	var conns []net.Conn
	client, err := link.NewClient(link.ClientConfig{Leaders: onlyLeader{}, Log: slog.New(slog.DiscardHandler),
		Dial: func(ctx context.Context, _ fsm.NodeID) (net.Conn, error) {
			d := tls.Dialer{Config: &tls.Config{Certificates: []tls.Certificate{certificate}, RootCAs: pool, ServerName: "node"}}
			conn, err := d.DialContext(ctx, "tcp", ln.Addr().String())
			mu.Lock()
			defer mu.Unlock()
			conns = append(conns, conn)
			return conn, err
		}})
	if err != nil {
		t.Fatal(err)
	}
	n.adjust = func(c *Config) { c.Leader = client }
	n.start()
	before, across := ref(1, 1, 7), ref(2, 1, 8)
	n.leader.want(job(before), job(across))
	n.m.awaitRun(t, before)
	n.m.awaitRun(t, across)
	n.m.exit(before, passed())
	n.leader.awaitOutcome(t, before)
	mu.Lock()
	_ = conns[0].Close()
	mu.Unlock()
	n.m.exit(across, passed())
	if o := n.leader.awaitOutcome(t, across); o.Status != fsm.Passed {
		t.Errorf("outcome is %+v", o)
	}
	n.settled()
	n.end()
}

func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "n1"}, DNSNames: []string{"node"},
		IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
