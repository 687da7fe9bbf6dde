package executor_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// The catalogue of escapes and leaks: what a job tries, one test each. A job says
// "held" where it could not, and "got out" where it could.

// attempts runs the script and wants it to say nothing but what it should.
func attempts(t *testing.T, k *kit, script, want string) executor.Task {
	t.Helper()
	task := k.task(t, script)
	expect(t, k.run(t, task), fsm.Passed, "", "")
	if got := printed(t, task); got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	return task
}

const verdictOf = "; then echo got out; else echo held; fi"

func TestEscapeNodesLoopback(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	attempts(t, newDocker(t), "if nc -w 2 127.0.0.1 "+port+" < /dev/null 2>/dev/null"+verdictOf, "held\n")
}

// TestEscapeGateway: the node's ports are reached through the bridge's gateway, so
// that narwhal has to tell who knocks. Local does.
func TestEscapeGateway(t *testing.T) {
	l, err := net.Listen("tcp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	k := newDocker(t)
	peers := make(chan net.Addr, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			peers <- conn.RemoteAddr()
			_ = conn.Close()
		}
	}()
	task := k.task(t, `gw=$(ip route | sed -n 's/default via \([0-9.]*\).*/\1/p'); nc -w 2 $gw `+port+` < /dev/null || true`)
	expect(t, k.run(t, task), fsm.Passed, "", "")
	select {
	case peer := <-peers:
		if addr := netip.MustParseAddrPort(peer.String()).Addr(); !k.ex.(*executor.Docker).Local(addr) {
			t.Errorf("a job that came from %s is not known as one", addr)
		}
	default: // the machine's firewall keeps jobs out
	}
}

func TestEscapeSocketOfTheEngine(t *testing.T) {
	attempts(t, newDocker(t), "if ls /var/run/docker.sock /run/docker.sock /run/containerd 2>/dev/null"+verdictOf, "held\n")
}

func TestEscapeNetworkOfAnotherJob(t *testing.T) {
	k := newDocker(t)
	server := k.task(t, "hostname -i; echo up; sleep 600")
	server.Work.Spec.Services = []pipeline.Service{shell("db", `hostname -i > /tmp/answer; while :; do nc -l -p 9000 < /tmp/answer; done`, nil)}
	server.Work.Spec.Steps[0].Command = []string{ask("db") + "; echo up; sleep 600"}
	run := k.start(t, server)
	until(t, server, "up")
	ip := strings.Fields(printed(t, server))[0]
	for name, services := range map[string][]pipeline.Service{"without services": nil, "with services": {shell("own", "sleep 600", nil)}} {
		t.Run(name, func(t *testing.T) {
			task := k.task(t, "if nc -w 2 "+ip+" 9000 < /dev/null 2>/dev/null"+verdictOf+"; nslookup db >/dev/null 2>&1 && echo found || echo no name")
			task.Work.Spec.Services = services
			expect(t, k.run(t, task), fsm.Passed, "", "")
			if got := printed(t, task); got != "held\nno name\n" {
				t.Errorf("printed %q", got)
			}
		})
	}
	stop(t, run, time.Second)
	wait(t, run)
}

func TestEscapeCapabilities(t *testing.T) {
	attempts(t, newDocker(t), "sed -n 's/Cap\\(Prm\\|Eff\\|Bnd\\|Amb\\):\\t/\\1 /p' /proc/self/status",
		"Prm 00000000000004cb\nEff 00000000000004cb\nBnd 00000000000004cb\nAmb 0000000000000000\n")
}

// TestEscapeSetuid: a program that is root's stays the user's.
func TestEscapeSetuid(t *testing.T) {
	k := newDocker(t)
	task := k.task(t, "grep NoNewPrivs /proc/self/status; id -u; /narwhal/src/id -u")
	task.Work.Spec.Image = derive(t, "USER 1000:1000")
	busy, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("%v: run scripts/deps.sh busybox", err)
	}
	path := filepath.Join(task.Workspace, "id")
	if err := os.WriteFile(path, busy, 0o755); err != nil {
		t.Fatal(err)
	}
	task.Work.Spec.Steps[0].Command = []string{"grep NoNewPrivs /proc/self/status; id -u; ls -l suid | cut -c 4; ./suid id -u"}
	run := func() string {
		if err := os.Rename(path, filepath.Join(task.Workspace, "suid")); err != nil {
			t.Fatal(err)
		}
		r := k.start(t, task) // opens the workspace, which takes the bit
		wait(t, r)
		return printed(t, task)
	}
	if got := run(); !strings.HasPrefix(got, "NoNewPrivs:\t1\n1000\n") || strings.HasSuffix(got, "\n0\n") {
		t.Errorf("printed %q", got)
	}
}

func TestEscapeSeccomp(t *testing.T) {
	attempts(t, newDocker(t), "sed -n 's/Seccomp:\\t//p' /proc/self/status; if unshare -U true 2>/dev/null"+verdictOf, "2\nheld\n")
}

func TestEscapeForkBomb(t *testing.T) {
	k := newDocker(t, func(c *executor.DockerConfig) { c.Pids = 64 })
	task := k.task(t, "i=0; while [ $i -lt 200 ]; do sleep 100 & i=$((i+1)); done; echo got out")
	o := k.run(t, task)
	if o.Status == fsm.Passed || strings.Contains(printed(t, task), "got out") {
		t.Errorf("200 processes were started: %+v", o)
	}
}

func TestEscapeMemoryAndSwap(t *testing.T) {
	k := newDocker(t)
	task := k.task(t, "dd if=/dev/zero of=/dev/null bs=100M count=1; echo got out")
	task.Work.Spec.Resources.Memory = 64 << 20
	o := k.run(t, task)
	expect(t, o, fsm.Failed, fsm.CauseOOM, "64 MiB")
	if o.PeakMemory < 48<<20 || o.PeakMemory > 64<<20 {
		t.Errorf("its peak is said to be %d bytes", o.PeakMemory)
	}
}

func TestEscapeMaskedPaths(t *testing.T) {
	attempts(t, newDocker(t), `for f in /proc/kcore /proc/keys /proc/timer_list /sys/firmware/x; do if [ -s $f ]`+verdictOf+`; done
		for f in /proc/sys/kernel/core_pattern /proc/sys/vm/drop_caches /proc/sys/kernel/hostname; do if (echo 1 > $f) 2>/dev/null`+verdictOf+`; done
		if mkdir /sys/fs/cgroup/memory/x /sys/fs/cgroup/x 2>/dev/null`+verdictOf, strings.Repeat("held\n", 8))
}

func TestEscapeProgramOfNarwhal(t *testing.T) {
	attempts(t, newDocker(t), "if (echo x >> /narwhal/bin/narwhal) 2>/dev/null || rm -f /narwhal/bin/narwhal 2>/dev/null"+verdictOf, "held\n")
}

func TestEscapeFolderOfAnotherAttempt(t *testing.T) {
	k := newDocker(t)
	other := k.task(t, "true")
	attempts(t, k, "if ls /narwhal/job/../../.. | grep -q "+filepath.Base(other.Dir)+" || ls "+other.Dir+" 2>/dev/null"+verdictOf, "held\n")
}

func TestEscapeDevices(t *testing.T) {
	attempts(t, newDocker(t), "if mknod /tmp/disk b 254 0 2>/dev/null"+verdictOf+"; ls /dev | grep -E '^(sd|vd|nvme|mem|kmsg|fuse|kvm)' || echo none", "held\nnone\n")
}

func TestEscapeMount(t *testing.T) {
	attempts(t, newDocker(t), "if mount -t tmpfs none /mnt 2>/dev/null || mount -t proc none /tmp 2>/dev/null || umount /narwhal/job/spec.json 2>/dev/null"+verdictOf, "held\n")
}

// TestEscapeSupervisor: its memory, environment and descriptors are not for the
// steps, which run as the same user.
func TestEscapeSupervisor(t *testing.T) {
	attempts(t, newDocker(t), "for f in environ mem maps; do if cat /proc/1/$f >/dev/null 2>&1"+verdictOf+"; done; for f in /proc/1/fd/*; do [ -e $f ] && echo got out $f; done; echo held",
		strings.Repeat("held\n", 4))
}

// TestEscapeSecretsAfterwards: nothing of how the secrets came is left, neither their
// values nor a file in memory to write to.
func TestEscapeSecretsAfterwards(t *testing.T) {
	memory := t.TempDir()
	k := newDocker(t, func(c *executor.DockerConfig) { c.SecretDir = memory })
	task := k.task(t, `if [ -e /narwhal/job/secrets ] || ls /narwhal/job/sock | grep -v control.sock || grep /narwhal/job/secrets /proc/mounts`+verdictOf+`
		[ -z "$TOKEN" ] && echo not mine; echo up; while [ ! -e go ]; do sleep 0.05; done`)
	task.Work.Spec.Steps[0].Secrets = nil
	task.Secrets = map[string]string{"TOKEN": "s3cr3t-t0k3n"}
	run := k.start(t, task)
	until(t, task, "up")
	if files, err := filepath.Glob(filepath.Join(memory, "*")); err != nil || len(files) != 0 {
		t.Errorf("in memory: %v, %v", files, err)
	}
	touch(t, filepath.Join(task.Workspace, "go"))
	expect(t, wait(t, run), fsm.Passed, "", "")
	if got := printed(t, task); got != "held\nnot mine\nup\n" {
		t.Errorf("printed %q", got)
	}
}

// TestEscapePlantedLinks: what a job leaves in its folders is not followed when the
// node stops, adopts or removes it.
func TestEscapePlantedLinks(t *testing.T) {
	k := newDocker(t)
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("whole"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(filepath.Dir(victim), "s"))
	if err != nil {
		t.Fatal(err)
	}
	knocked := make(chan bool, 1)
	go func() {
		if conn, err := l.Accept(); err == nil {
			knocked <- true
			_ = conn.Close()
		}
	}()
	task := k.task(t, `for f in in journal log spec.json; do ln -sf `+victim+` /narwhal/job/$f 2>/dev/null && [ -L /narwhal/job/$f ] && echo got out $f; done
		ln -s `+victim+` /narwhal/job/out/artifacts.tar.zst; ln -s `+victim+` link
		rm -f /narwhal/job/sock/control.sock; ln -s `+l.Addr().String()+` /narwhal/job/sock/control.sock; echo up; sleep 600`)
	run := k.start(t, task)
	until(t, task, "up")
	stop(t, run, time.Second)
	expect(t, wait(t, run), fsm.Canceled, fsm.CauseCanceled, "")
	if _, err := k.ex.Adopt(t.Context(), task); err != nil {
		t.Error(err)
	}
	_ = l.Close()
	select {
	case <-knocked:
		t.Error("the node followed a link to another socket")
	default:
	}
	if got := printed(t, task); got != "up\n" {
		t.Errorf("printed %q", got)
	}
	if err := os.RemoveAll(task.Dir); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(victim); err != nil || string(data) != "whole" {
		t.Errorf("the file behind a link: %q, %v", data, err)
	}
}

// TestEscapeDisk: where the storage driver can, a container's own files have a limit.
func TestEscapeDisk(t *testing.T) {
	e, err := executor.Detect(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	k := newDocker(t)
	task := k.task(t, "dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null; echo got out")
	task.Work.Spec.Resources.Disk = 32 << 20
	o := k.run(t, task)
	if got := printed(t, task); e.DiskLimit == strings.Contains(got, "got out") {
		t.Errorf("the engine limits disks: %t; printed %q, %+v", e.DiskLimit, got, o)
	}
}

// TestEngineSaysWhatItPromises: who reads this wants to know what isolation is worth.
func TestEngineSaysWhatItPromises(t *testing.T) {
	e, err := executor.Detect(t.Context(), "")
	if err != nil || !e.Seccomp || e.CgroupDriver == "" {
		t.Fatalf("got %+v, %v", e, err)
	}
	want := "         0          0 4294967295\n"
	k := newDocker(t)
	task := k.task(t, "cat /proc/self/uid_map")
	expect(t, k.run(t, task), fsm.Passed, "", "")
	if got := printed(t, task); (got == want) == (e.UserNS || e.Rootless) {
		t.Errorf("user namespaces: %t, rootless: %t, and a job's is %q", e.UserNS, e.Rootless, got)
	}
}
