package executor_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	dockernetwork "github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/joblog"
	"github.com/codepr/narwhal/pipeline"
	"github.com/codepr/narwhal/supervise"
)

// hello answers every connection to port 9000 with a line.
const hello = `echo "$GREETING" > /tmp/answer; while :; do nc -l -p 9000 < /tmp/answer; done`

func shell(name, script string, ready *pipeline.Ready) pipeline.Service {
	return pipeline.Service{Name: name, Image: busybox, Command: []string{"sh", "-c", script}, Ready: ready}
}

// ask has a step ask a service by its name. Debian's static busybox finds no names
// but with nslookup.
func ask(name string) string {
	return `ip=$(nslookup ` + name + ` 2>/dev/null | sed -n 's/^Address[^:]*: *\(10[.0-9]*\).*/\1/p' | tail -n 1)
		until [ -s /tmp/got ]; do nc -w 2 "$ip" 9000 < /dev/null > /tmp/got || sleep 0.05; done; cat /tmp/got`
}

// own are narwhal's words in the log.
func own(t *testing.T, task executor.Task) string {
	t.Helper()
	lines, err := joblog.Read(filepath.Join(task.Dir, supervise.LogFile), 0, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, l := range lines {
		if l.Step < 0 {
			b.WriteString(l.Text + "\n")
		}
	}
	return b.String()
}

// things are what the engine has of a node's: containers and networks.
func things(t *testing.T, c *client.Client, node fsm.NodeID) (list []string) {
	t.Helper()
	args := filters.NewArgs(filters.Arg("label", "narwhal.node="+string(node)))
	containers, err := c.ContainerList(t.Context(), container.ListOptions{All: true, Filters: args})
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range containers {
		list = append(list, found.Names[0])
	}
	networks, err := c.NetworkList(t.Context(), dockernetwork.ListOptions{Filters: args})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range networks {
		list = append(list, n.Name)
	}
	return list
}

func TestServices(t *testing.T) {
	k, c := newDocker(t), api(t)
	task := k.task(t, ask("db"), "echo up; while [ ! -e go ]; do sleep 0.05; done")
	db := shell("db", "sleep 0.3; echo starting; touch /tmp/ready; "+hello, &pipeline.Ready{Command: []string{"test", "-e", "/tmp/ready"}, Timeout: time.Minute})
	db.Env = map[string]string{"GREETING": "hello from db"}
	task.Work.Spec.Services = []pipeline.Service{db, shell("idle", "sleep 600", nil)}
	run := k.start(t, task)
	until(t, task, "up")
	args := filters.NewArgs(filters.Arg("label", "narwhal.token="+task.Ref.Token.String()), filters.Arg("label", "narwhal.role=service"))
	found, err := c.ContainerList(t.Context(), container.ListOptions{Filters: args})
	if err != nil || len(found) != 2 {
		t.Fatalf("services: %v, %v", found, err)
	}
	for _, label := range []string{"narwhal.cluster", "narwhal.node", "narwhal.build", "narwhal.job", "narwhal.attempt"} {
		if found[0].Labels[label] == "" {
			t.Errorf("a service has no label %s", label)
		}
	}
	touch(t, filepath.Join(task.Workspace, "go"))
	expect(t, wait(t, run), fsm.Passed, "", "")
	if got := printed(t, task); !strings.HasPrefix(got, "hello from db\n") {
		t.Errorf("printed %q", got)
	}
	if left := things(t, c, k.node); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestServiceThatIsNotReady(t *testing.T) {
	k, c := newDocker(t), api(t)
	probe := func(d time.Duration) *pipeline.Ready { return &pipeline.Ready{Command: []string{"false"}, Timeout: d} }
	for name, one := range map[string]struct {
		service pipeline.Service
		message string
		word    string
	}{
		"it dies":      {shell("db", "echo no such table; exit 3", probe(time.Minute)), "service db ended with exit code 3 before it was ready", "no such table"},
		"it dies late": {shell("db", "sleep 1.5; echo no disk; exit 4", probe(time.Minute)), "service db ended with exit code 4 before it was ready", "no disk"},
		"it takes too long": {shell("db", "echo replaying; sleep 600", probe(4*time.Second)),
			"service db was not ready within 4s: its ready command", "replaying"},
		"it dies before its port is open": {shell("db", "sleep 1; echo no port; exit 5", &pipeline.Ready{Port: 9000, Timeout: time.Minute}),
			"service db ended with exit code 5 before it was ready", "no port"},
	} {
		t.Run(name, func(t *testing.T) {
			task := k.task(t, "echo not reached")
			task.Work.Spec.Services = []pipeline.Service{one.service}
			expect(t, k.run(t, task), fsm.Errored, fsm.CauseFailure, one.message)
			if got := printed(t, task); got != "" {
				t.Errorf("printed %q", got)
			}
			if got := own(t, task); !strings.Contains(got, "service db: "+one.word) {
				t.Errorf("its last words are not in the log:\n%s", got)
			}
		})
	}
	task := k.task(t, "echo not reached")
	task.Work.Spec.Services = []pipeline.Service{{Name: "db", Image: busybox, Command: []string{"no-such-program"}}}
	expect(t, k.run(t, task), fsm.Errored, "", "service db of image "+busybox)
	if left := things(t, c, k.node); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestServiceOpensItsPort(t *testing.T) {
	k := newDocker(t)
	task := k.task(t, ask("db"))
	db := shell("db", "sleep 1; "+hello, &pipeline.Ready{Port: 9000, Timeout: time.Minute})
	db.Env = map[string]string{"GREETING": "open"}
	task.Work.Spec.Services = []pipeline.Service{db}
	expect(t, k.run(t, task), fsm.Passed, "", "")
	if got := printed(t, task); got != "open\n" {
		t.Errorf("printed %q", got)
	}
}

// TestServicesShareTheJobsMemory: what a job and its services have together is what
// the job asked for. Where the engine leaves groups to systemd each of them has as
// much, which is what docs/isolation.md says.
func TestServicesShareTheJobsMemory(t *testing.T) {
	e, err := executor.Detect(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	k := newDocker(t)
	const hog = "dd if=/dev/zero bs=100M count=1" // holds it all
	task := k.task(t, hog+" > /dev/null")
	task.Work.Spec.Resources.Memory = 150 << 20
	expect(t, k.run(t, task), fsm.Passed, "", "")
	task = k.task(t, hog+" > /dev/null")
	task.Work.Spec.Resources.Memory = 150 << 20
	task.Work.Spec.Services = []pipeline.Service{shell("db", hog+" | { read -n 1 x; touch /tmp/full; sleep 600; }",
		&pipeline.Ready{Command: []string{"test", "-e", "/tmp/full"}, Timeout: time.Minute})}
	if o := k.run(t, task); (o.Status == fsm.Passed) != (e.CgroupDriver != "cgroupfs") {
		t.Errorf("with the driver %s, job and service together: %+v", e.CgroupDriver, o)
	}
}

// TestManyNetworks: the engine's own pools are enough for 31. Its 128 containers take
// minutes.
func TestManyNetworks(t *testing.T) {
	k, c := newDocker(t), api(t)
	const count = 64
	tasks := make([]executor.Task, count)
	runs := make([]executor.Run, count)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	errs := make([]error, count)
	for i := range count {
		tasks[i] = k.task(t, "echo up; while [ ! -e go ]; do sleep 0.5; done")
		tasks[i].Work.Spec.Resources.Memory = 40 << 20
		tasks[i].Work.Spec.Timeout = 10 * time.Minute
		tasks[i].Work.Spec.Services = []pipeline.Service{shell("db", "sleep 6000", nil)}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			runs[i], errs[i] = k.ex.Start(t.Context(), tasks[i])
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		until(t, task, "up")
	}
	if nets, err := k.ex.(*executor.Docker).Networks(t.Context()); err != nil || len(nets) < count {
		t.Errorf("%d networks, %v", len(nets), err)
	}
	for _, task := range tasks {
		touch(t, filepath.Join(task.Workspace, "go"))
	}
	for i := range count {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			o, err := runs[i].Wait(ctx)
			if err != nil || o.Status != fsm.Passed {
				errs[i] = fmt.Errorf("job %d: %+v, %w", i, o, err)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	if left := things(t, c, k.node); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// TestSubnetsOfOthers: a network that somebody else has made in the pool is gone
// around, and so is one that this machine has.
func TestSubnetsOfOthers(t *testing.T) {
	c := api(t)
	taken := "narwhal-test-" + string(newNode())
	_, err := c.NetworkCreate(t.Context(), taken, dockernetwork.CreateOptions{
		Driver: "bridge", IPAM: &dockernetwork.IPAM{Config: []dockernetwork.IPAMConfig{{Subnet: "10.214.0.0/22"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.NetworkRemove(context.Background(), taken); err != nil {
			t.Error(err)
		}
	})
	pool := netip.MustParsePrefix("10.214.0.0/21")
	k := newDocker(t, func(c *executor.DockerConfig) { c.ServicePool = pool })
	task := k.task(t, "hostname -i")
	expect(t, k.run(t, task), fsm.Passed, "", "")
	addr, err := netip.ParseAddr(strings.TrimSpace(printed(t, task)))
	if err != nil || !netip.MustParsePrefix("10.214.4.0/22").Contains(addr) {
		t.Errorf("its address is %s, %v", addr, err)
	}
	// The pool is full now: the node's network has the other half.
	task = k.task(t, "true")
	task.Work.Spec.Services = []pipeline.Service{shell("db", "sleep 600", nil)}
	if _, err := k.ex.Start(t.Context(), task); err == nil || !strings.Contains(err.Error(), "no addresses are left") {
		t.Errorf("in a full pool: %v", err)
	}
}

func TestLocal(t *testing.T) {
	k, c := newDocker(t), api(t)
	d := k.ex.(*executor.Docker)
	task := k.task(t, "hostname -i; echo up; sleep 600")
	task.Work.Spec.Services = []pipeline.Service{shell("db", "sleep 600", nil)}
	run := k.start(t, task)
	until(t, task, "up")
	addr := netip.MustParseAddr(strings.Fields(printed(t, task))[0])
	fresh, err := executor.NewDocker(*k.docker, logger(t)) // after a restart
	if err != nil {
		t.Fatal(err)
	}
	if fresh.Local(addr) {
		t.Error("it can't know yet")
	}
	if _, err := fresh.Networks(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]*executor.Docker{"the one who started it": d, "the next": fresh} {
		if !d.Local(addr) || !d.Local(netip.AddrFrom16(addr.As16())) {
			t.Errorf("%s takes %s for somebody else's", name, addr)
		}
		for _, other := range []string{"127.0.0.1", "192.0.2.9", "::1", "fe80::1"} {
			if d.Local(netip.MustParseAddr(other)) {
				t.Errorf("%s takes %s for a job's", name, other)
			}
		}
	}
	stop(t, run, time.Second)
	wait(t, run)
	if d.Local(addr) {
		t.Error("its network is gone, and the address may be anybody's")
	}
	if err := fresh.Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.NetworkInspect(t.Context(), "narwhal-"+string(k.node), dockernetwork.InspectOptions{}); !errdefs.IsNotFound(err) {
		t.Errorf("a job with services has no use for the node's network: %v", err)
	}
}

// TestServiceThatEndsBeforeTheJob: nothing waits for it, and a job that fails for want of
// it would not know why.
func TestServiceThatEndsBeforeTheJob(t *testing.T) {
	k := newDocker(t)
	const untilGone = "while nc -w 1 db 9000 < /dev/null 2>/dev/null; do sleep 0.1; done; sleep 1; exit 4"
	task := k.task(t, untilGone)
	task.Work.Spec.Services = []pipeline.Service{shell("db", "echo no disk >&2; exit 7", nil), shell("other", "sleep 600", nil)}
	expect(t, k.run(t, task), fsm.Failed, fsm.CauseFailure, "step s0: exit code 4; service db ended with exit code 7 while the job ran")
	untilOwn(t, task, "service db: no disk")

	task = k.task(t, untilGone)
	task.Work.Spec.Resources.Memory = 64 << 20
	task.Work.Spec.Services = []pipeline.Service{shell("db", "exec tail /dev/zero", nil)}
	expect(t, k.run(t, task), fsm.Failed, fsm.CauseFailure, "service db used more than the job's memory limit and was killed while the job ran")

	task = k.task(t, "sleep 1") // who has what it wants is not told
	task.Work.Spec.Services = []pipeline.Service{shell("db", "exit 7", nil)}
	expect(t, k.run(t, task), fsm.Passed, "", "")
}
