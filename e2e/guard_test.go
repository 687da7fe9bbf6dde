package e2e

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/network"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// TestJobsAreKeptOffThePorts: a job reaches its machine by its network's gateway, and
// there hears nothing of narwhal: not after narwhal was killed while the job ran, not
// while it starts again, and not from a network that the killed one has made.
func TestJobsAreKeptOffThePorts(t *testing.T) {
	t.Parallel()
	l, e := dockerCluster(t, lab.Options{Nodes: 1, Args: []string{"--warm", "0"}})
	n := l.Nodes[0]
	host := bridge(t, e) // lab nodes have loopback alone, where no job comes anyway
	must(t, n.Kill())
	must(t, n.Move(host))
	must(t, n.Start(deadline(t, patience)))
	settle(t, l)

	control, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	must(t, err)
	plain := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: patience}
	t.Cleanup(func() { _ = plain.Close() })
	go func() { _ = plain.Serve(control) }()
	request := []byte("GET /healthz HTTP/1.0\r\n\r\n")
	ports := map[string][]byte{strings.TrimPrefix(n.API, "http://"): request, n.Cluster(): clientHello(t)}
	for addr, word := range ports {
		if len(greets(t, addr, word)) == 0 {
			t.Fatalf("%s says nothing to the machine itself", addr)
		}
	}
	var knock strings.Builder
	for addr, word := range ports {
		_, port, err := net.SplitHostPort(addr)
		must(t, err)
		fmt.Fprintf(&knock, "for a in %s $gw; do if [ $(echo %s | base64 -d | nc -w 2 $a %s 2>/dev/null | wc -c) != 0 ]; then echo \"reached $a:%s\"; fi; done; ",
			host, base64.StdEncoding.EncodeToString(word), port, port)
	}
	_, port, err := net.SplitHostPort(control.Addr().String())
	must(t, err)
	steps := `
    steps:
      - command: |
          gw=$(ip route | sed -n 's/default via \([0-9.]*\).*/\1/p')
          printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 5 ` + host + ` ` + port + ` | grep -q HTTP && echo knocking
          while test ! -e go; do ` + knock.String() + `done
          ` + knock.String() + `
          echo knocked
`
	file := inBusybox + `
jobs:
  plain:` + steps + `
  beside:
    services: [{name: db, image: ` + busyboxImage + `, command: [sleep, "600"]}]` + steps
	c, r := anyNode(t, l), repository(t)
	sha := commit(t, r, file)
	for _, end := range []func() error{func() error { return nil }, n.Kill, n.Kill} {
		made := trigger(t, c, r, sha)
		names := []string{"plain", "beside"}
		for _, name := range names {
			awaitLog(t, c, running(t, c, made.ID, name).ID, "knocking\n")
		}
		b := running(t, c, made.ID, "plain")
		beside := running(t, c, made.ID, "beside")
		must(t, end())
		if !n.Running() {
			must(t, n.Start(deadline(t, patience)))
			settle(t, l)
		}
		for _, id := range []fsm.JobID{b.ID, beside.ID} {
			for _, found := range e.containers(t, id) {
				if found.Config.Labels["narwhal.role"] == "job" {
					put(t, found, "go")
				}
			}
		}
		ended := ended(t, c, made.ID)
		wantStatus(t, ended, fsm.Passed)
		for _, name := range names {
			if text := logText(t, c, job(t, ended, name).ID); strings.Contains(text, "reached") || !strings.Contains(text, "knocked") {
				t.Errorf("job %s:\n%s", name, text)
			}
		}
	}
}

// TestContainersAsTheOperatorSays: where they have their addresses from, how many
// processes they have, and that no image is pulled.
func TestContainersAsTheOperatorSays(t *testing.T) {
	t.Parallel()
	l, _ := dockerCluster(t, lab.Options{Nodes: 1, Args: []string{"--pull", "never", "--job-networks", "10.177.0.0/20", "--job-processes", "99"}})
	c := anyNode(t, l)
	const knows = "hostname -i | grep -o '^10[.]177[.]'; cat /sys/fs/cgroup/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids/pids.max"
	b := build(t, c, inBusybox+`
jobs:
  plain: {steps: [{command: "`+knows+`"}]}
  beside: {services: [{name: db, image: `+busyboxImage+`, command: [sleep, "600"]}], steps: [{command: "`+knows+`"}]}
  pulls: {image: "127.0.0.1:1/no/such:image", retry: {max: 0, when: [image_pull]}, allow_failure: true, steps: [{command: echo never}]}
`)
	wantStatus(t, b, fsm.Passed)
	for _, name := range []string{"plain", "beside"} {
		says(t, c, job(t, b, name).ID, "10.177.", "99")
	}
	if j := job(t, b, "pulls"); j.Cause != fsm.CauseImagePull || !strings.Contains(j.Reason, "the node's policy is to pull none") {
		t.Errorf("pulls: %s", outline(b))
	}
}

// bridge is the machine's address on the engine's own network.
func bridge(t *testing.T, e engine) string {
	t.Helper()
	found, err := e.api.NetworkInspect(deadline(t, patience), "bridge", network.InspectOptions{})
	must(t, err)
	if len(found.IPAM.Config) == 0 {
		t.Fatal("the engine's bridge has no addresses")
	}
	subnet, err := netip.ParsePrefix(found.IPAM.Config[0].Subnet)
	must(t, err)
	return subnet.Masked().Addr().Next().String()
}

// greets is what somebody at addr answers to a word.
func greets(t *testing.T, addr string, word []byte) []byte {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	must(t, err)
	defer func() { _ = conn.Close() }()
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = conn.Write(word)
	must(t, err)
	data := make([]byte, 1<<10)
	got, err := conn.Read(data)
	if err != nil {
		t.Logf("%s: %v", addr, err)
	}
	return data[:got]
}

// clientHello is the first word of whoever speaks TLS.
func clientHello(t *testing.T) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	go func() {
		_ = tls.Client(theirs, &tls.Config{ServerName: "narwhal", InsecureSkipVerify: true}).Handshake()
	}()
	defer func() { _ = ours.Close() }()
	data := make([]byte, 16<<10)
	got, err := ours.Read(data)
	must(t, err)
	return data[:got]
}
