package supervise_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/supervise"
)

func TestServices(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	j := newJob(t, "echo ran")
	j.task.Services = []supervise.Service{{Name: "127.0.0.1", Port: port}}
	expect(t, j.run(t.Context()), fsm.Passed, "", 0, "")
	if !strings.Contains(j.said(), "service 127.0.0.1 takes connections") {
		t.Errorf("narwhal said %q", j.said())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	j = newJob(t, "echo ran")
	j.task.Services = []supervise.Service{{Name: "127.0.0.1", Port: port, Timeout: time.Second}}
	o := j.run(t.Context())
	expect(t, o, fsm.Errored, "", 0, "service 127.0.0.1 did not take connections on port")
	if !strings.Contains(o.Message, "within 1s") || !strings.Contains(o.Message, "refused") || j.printed() != "" || statuses(o) != "skipped" {
		t.Errorf("%+v, printed %q", o, j.printed())
	}
	j.task.Services[0].Timeout, j.task.Timeout = time.Hour, 100*time.Millisecond
	expect(t, j.run(t.Context()), fsm.Failed, fsm.CauseTimeout, 0, "the job took longer")
}

// TestServiceThatComesLate takes connections only after it was dialled in vain.
func TestServiceThatComesLate(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	j := newJob(t, "echo ran")
	j.task.Services = []supervise.Service{{Name: "127.0.0.1", Port: port}}
	late := make(chan net.Listener)
	go func() {
		time.Sleep(150 * time.Millisecond)
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Error(err)
		}
		late <- l
	}()
	expect(t, j.run(t.Context()), fsm.Passed, "", 0, "")
	_ = (<-late).Close()
}
