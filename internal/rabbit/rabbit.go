// Package rabbit starts real RabbitMQ brokers for tests, on loopback, with files
// of their own, by way of scripts/rabbitmq.sh. It owns their processes and ends
// them; it knows nothing of what is in a broker. Start reading at Start.
package rabbit

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// Broker is a RabbitMQ that a test may kill and start again. Its queues survive
// both.
type Broker struct {
	script string
	dir    string
	port   int
}

// Start starts a broker and returns its URL; it ends with the test. It fails the
// test where RabbitMQ is not installed. A start takes about eight seconds: have
// the subtests of one test share a broker.
func Start(tb testing.TB) (url string, b *Broker) {
	tb.Helper()
	_, file, _, _ := runtime.Caller(0)
	b = &Broker{
		script: filepath.Join(filepath.Dir(file), "..", "..", "scripts", "rabbitmq.sh"),
		dir:    tb.TempDir(),
		port:   freePort(tb),
	}
	tb.Cleanup(func() {
		if _, err := b.run("kill"); err != nil {
			tb.Error(err)
		}
		if tb.Failed() {
			tb.Logf("end of the broker's log:\n%s", b.logTail())
		}
	})
	return b.Restart(tb), b
}

// Kill ends the broker by SIGKILL.
func (b *Broker) Kill(tb testing.TB) { b.must(tb, "kill") }

// Stop ends the broker in order.
func (b *Broker) Stop(tb testing.TB) { b.must(tb, "stop") }

// Restart starts the broker again, on the same port and with the same queues, and
// returns its URL when it takes connections.
func (b *Broker) Restart(tb testing.TB) string {
	tb.Helper()
	return b.must(tb, "start")
}

// Control runs a command of rabbitmqctl's on the broker.
func (b *Broker) Control(tb testing.TB, args ...string) {
	tb.Helper()
	if _, err := b.run("ctl", args...); err != nil {
		tb.Fatal(err)
	}
}

func (b *Broker) must(tb testing.TB, action string) string {
	tb.Helper()
	out, err := b.run(action)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

func (b *Broker) run(action string, args ...string) (string, error) {
	cmd := exec.Command(b.script, append([]string{action, b.dir, strconv.Itoa(b.port)}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s RabbitMQ: %w: %s", action, err, stderr.String())
	}
	return strings.TrimSpace(stdout.String()), nil
}

func (b *Broker) logTail() string {
	data, err := os.ReadFile(filepath.Join(b.dir, "rabbit.log"))
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-400000):])
}

// freePort finds a port below those that the kernel hands out by itself: while the broker
// is down a client that dials one of these can be given it as its own, and then talks to
// itself (RFC 9293, 3.5, simultaneous open) and keeps the broker from starting.
func freePort(tb testing.TB) int {
	tb.Helper()
	for range 50 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 11000+rand.IntN(20000))) //nolint:gosec // any will do
		if err == nil {
			defer func() { _ = l.Close() }()
			return l.Addr().(*net.TCPAddr).Port
		}
	}
	tb.Fatal("found no free port in 50 tries")
	return 0
}
