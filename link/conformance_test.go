package link

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// transport opens one stream from node to a leader that runs h, and runs session on it.
type transport func(t *testing.T, node string, h Handler, session Session) error

func transports() map[string]transport {
	return map[string]transport{"pipe": overPipe, "tls": overTLS}
}

func overPipe(t *testing.T, node string, h Handler, session Session) error {
	ctx, cancel := context.WithCancel(t.Context())
	ns, ls, err := Pipe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var served error
	ended := make(chan struct{})
	wg.Go(func() {
		defer close(ended)
		defer ns.Close()
		served = fromStatus(toStatus(Greet(ctx, h, fsm.NodeID(node), ls)))
	})
	err = session(ctx, ns)
	if err != nil {
		ns.Close()
		<-ended // a refusal reaches the node over gRPC; here it is asked for
		if served != nil {
			return served
		}
	}
	return err
}

func overTLS(t *testing.T, node string, h Handler, session Session) error {
	net := newTLSNet(t, "leader", node)
	addr := net.serve(t, "leader", h)
	c := net.client(t, node, map[fsm.NodeID]string{"leader": addr}, newFixed("leader"))
	_, err := c.withLeader(t.Context(), "leader", session)
	return err
}

type handlerFunc func(ctx context.Context, peer fsm.NodeID, s Stream) error

func (f handlerFunc) Serve(ctx context.Context, peer fsm.NodeID, s Stream) error {
	return f(ctx, peer, s)
}

func hello(id string) *Up { return &Up{Hello: &Hello{Node: fsm.Node{ID: fsm.NodeID(id)}}} }

func TestConformance(t *testing.T) {
	for name, open := range transports() {
		t.Run(name, func(t *testing.T) {
			t.Run("carries everything", func(t *testing.T) { carriesEverything(t, open) })
			t.Run("keeps order", func(t *testing.T) { keepsOrder(t, open) })
			t.Run("refuses", func(t *testing.T) { refuses(t, open) })
			t.Run("not leader", func(t *testing.T) { notLeader(t, open) })
			t.Run("close unblocks", func(t *testing.T) { closeUnblocks(t, open) })
			t.Run("size limit", func(t *testing.T) { sizeLimit(t, open) })
		})
	}
}

func carriesEverything(t *testing.T, open transport) {
	at := time.Date(2026, 11, 24, 8, 0, 0, 123456789, time.UTC)
	ref := fsm.AttemptRef{Job: fsm.JobID{Build: 42, Seq: 1}, N: 2, Token: fsm.Token{Epoch: 1, Index: 77}}
	job := &pipeline.Job{Name: "test", Env: map[string]string{"A": "b"}, Timeout: time.Hour, OnNodeLoss: pipeline.NodeLossFail,
		Resources: pipeline.Resources{CPU: 500, Memory: 1 << 30}, Steps: []pipeline.Step{{Name: "s", Command: []string{"x"}}}}
	outcome := &fsm.Outcome{Status: fsm.Failed, Cause: fsm.CauseFailure, ExitCode: 3, Message: "no", LogBytes: 9,
		Steps: []fsm.StepResult{{Name: "s", Status: fsm.Failed, ExitCode: 3, StartedAt: at, EndedAt: at}},
		Plan:  &pipeline.Pipeline{Name: "p", Jobs: []pipeline.Job{*job}}}
	up := &Up{
		Hello:   &Hello{Node: fsm.Node{ID: "n1", Incarnation: 3, Labels: map[string]string{"os": "linux"}, JoinedAt: at}, Runs: []fsm.AttemptRef{ref}, Have: []string{"a/b"}},
		Beat:    &Beat{Seq: 1, Load: Load{CPU: 1.5, Memory: 2, Disk: 3, Running: 4}, Have: []string{"a/b"}},
		Reports: []Report{{ID: 1, Ref: ref, Started: true}, {ID: 2, Ref: ref, Outcome: outcome}},
	}
	down := &Down{Beat: 1, Acks: []Ack{{ID: 1}, {ID: 2, Stale: true}}, Desired: &Wanted{Index: 9, Attempts: []Assignment{
		{Ref: ref, Work: &Work{Kind: fsm.KindRun, Name: "test", Commit: fsm.Commit{Repo: "a/b", SHA: "ab", Event: fsm.EventPush}, Spec: job}},
		{Ref: ref, Cancel: true}}}}
	var got *Up
	err := open(t, "n1", handlerFunc(func(_ context.Context, peer fsm.NodeID, s Stream) error {
		if peer != "n1" {
			t.Errorf("peer is %s", peer)
		}
		var err error
		if got, err = s.Recv(); err != nil {
			return err
		}
		return errors.Join(s.Send(down), drain(s))
	}), func(_ context.Context, s NodeStream) error {
		if err := s.Send(up); err != nil {
			return err
		}
		back, err := s.Recv()
		if err == nil && !reflect.DeepEqual(back, down) {
			t.Errorf("down: got %+v, want %+v", back, down)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, up) {
		t.Errorf("up: got %+v, want %+v", got, up)
	}
}

// drain waits for the node to end the stream.
func drain(s Stream) error {
	for {
		if _, err := s.Recv(); err != nil {
			return nil
		}
	}
}

func keepsOrder(t *testing.T, open transport) {
	const n = 200
	err := open(t, "n1", handlerFunc(func(_ context.Context, _ fsm.NodeID, s Stream) error {
		for want := uint64(0); want < n; want++ {
			up, err := s.Recv()
			if err != nil {
				return err
			}
			if up.Beat.Seq != want {
				t.Errorf("beat %d arrived as %d", want, up.Beat.Seq)
			}
			if err := s.Send(&Down{Beat: up.Beat.Seq + 1}); err != nil {
				return err
			}
		}
		return drain(s)
	}), func(_ context.Context, s NodeStream) error {
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() {
			for i := range uint64(n) {
				up := &Up{Beat: &Beat{Seq: i}}
				if i == 0 {
					up.Hello = hello("n1").Hello
				}
				if err := s.Send(up); err != nil {
					t.Errorf("send %d: %v", i, err)
					return
				}
			}
		})
		for want := uint64(1); want <= n; want++ {
			down, err := s.Recv()
			if err != nil {
				return err
			}
			if down.Beat != want {
				t.Errorf("answer %d arrived as %d", want, down.Beat)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func refuses(t *testing.T, open transport) {
	for name, ups := range map[string][]*Up{
		"another node's name": {hello("n2")},
		"no hello":            {{Beat: &Beat{Seq: 1}}},
		"hello twice":         {hello("n1"), hello("n1")},
	} {
		err := open(t, "n1", handlerFunc(func(_ context.Context, _ fsm.NodeID, s Stream) error {
			for {
				if _, err := s.Recv(); err != nil {
					return err
				}
			}
		}), func(_ context.Context, s NodeStream) error {
			for _, up := range ups {
				if err := s.Send(up); err != nil {
					break
				}
			}
			_, err := s.Recv()
			return err
		})
		if !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	called := false
	err := open(t, "", handlerFunc(func(context.Context, fsm.NodeID, Stream) error {
		called = true
		return nil
	}), func(_ context.Context, s NodeStream) error {
		_ = s.Send(hello(""))
		_, err := s.Recv()
		return err
	})
	if !errors.Is(err, ErrRefused) || called {
		t.Errorf("a peer without a name: %v, handler called: %v", err, called)
	}
}

func notLeader(t *testing.T, open transport) {
	err := open(t, "n1", handlerFunc(func(context.Context, fsm.NodeID, Stream) error { return ErrNotLeader }),
		func(_ context.Context, s NodeStream) error {
			_, err := s.Recv()
			return err
		})
	if !errors.Is(err, ErrNotLeader) {
		t.Errorf("got %v", err)
	}
}

func closeUnblocks(t *testing.T, open transport) {
	err := open(t, "n1", handlerFunc(func(_ context.Context, _ fsm.NodeID, s Stream) error { return drain(s) }),
		func(_ context.Context, s NodeStream) error {
			var wg sync.WaitGroup
			defer wg.Wait()
			wg.Go(s.Close)
			_, err := s.Recv()
			s.Close()
			return err
		})
	if err == nil {
		t.Error("Recv went on after Close")
	}
}

func sizeLimit(t *testing.T, open transport) {
	err := open(t, "n1", handlerFunc(func(_ context.Context, _ fsm.NodeID, s Stream) error { return drain(s) }),
		func(_ context.Context, s NodeStream) error {
			up := hello("n1")
			up.Hello.Have = []string{strings.Repeat("x", MaxMessage)}
			return s.Send(up)
		})
	if err == nil {
		t.Error("a message above the limit was sent")
	}
}

// tlsNet is a little cluster's certificates and loopback listeners.
type tlsNet struct {
	pool  *x509.CertPool
	certs map[string]tls.Certificate
}

func newTLSNet(t *testing.T, names ...string) *tlsNet {
	t.Helper()
	caKey := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	caTemplate := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true,
		BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	ca := must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, caTemplate, caTemplate, &caKey.PublicKey, caKey))))
	n := &tlsNet{pool: x509.NewCertPool(), certs: map[string]tls.Certificate{}}
	n.pool.AddCert(ca)
	for i, name := range names {
		key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		der := must(x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(int64(i + 2)),
			Subject: pkix.Name{CommonName: name}, DNSNames: []string{"node"}, NotAfter: time.Now().Add(time.Hour)}, ca, &key.PublicKey, caKey))
		n.certs[name] = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
	return n
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// serve runs a server until the test ends and gives its address.
func (n *tlsNet) serve(t *testing.T, name string, h Handler) string {
	t.Helper()
	s := must(NewServer(h, func(c net.Conn) string {
		return c.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName
	}))
	ln := must(tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{n.certs[name]},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: n.pool, MinVersion: tls.VersionTLS13}))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Run(ctx, ln); err != nil {
			t.Errorf("server: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return ln.Addr().String()
}

func (n *tlsNet) client(t *testing.T, node string, addrs map[fsm.NodeID]string, leaders Leaders) *Client {
	t.Helper()
	return must(NewClient(ClientConfig{Leaders: leaders, Log: slog.New(slog.DiscardHandler),
		Dial: func(ctx context.Context, id fsm.NodeID) (net.Conn, error) {
			d := tls.Dialer{Config: &tls.Config{Certificates: []tls.Certificate{n.certs[node]}, RootCAs: n.pool, ServerName: "node"}}
			return d.DialContext(ctx, "tcp", addrs[id])
		}}))
}
