package executor_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	dockernetwork "github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/client"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
	"github.com/codepr/narwhal/supervise"
)

func api(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.NewClientWithOpts(client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// derive makes an image of busybox with a change, such as "USER 1000".
func derive(t *testing.T, change string) string {
	t.Helper()
	c, name := api(t), "narwhal/test:"+string(newNode())
	made, err := c.ContainerCreate(t.Context(), &container.Config{Image: busybox}, nil, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.ContainerCommit(t.Context(), made.ID, container.CommitOptions{Reference: name, Changes: []string{change}})
	if err := errors.Join(err, c.ContainerRemove(t.Context(), made.ID, container.RemoveOptions{Force: true})); err != nil {
		t.Fatal(err)
	}
	dropImage(t, c, name)
	return name
}

func dropImage(t *testing.T, c *client.Client, name string) {
	t.Cleanup(func() {
		if _, err := c.ImageRemove(context.Background(), name, image.RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	})
}

func TestDetect(t *testing.T) {
	e, err := executor.Detect(t.Context(), "")
	if err != nil || e.CPU < 1000 || e.Memory < 1<<28 || e.API == "" || e.OS != "linux" {
		t.Errorf("got %+v, %v", e, err)
	}
	if _, err := executor.Detect(t.Context(), "unix:///no/such.sock"); err == nil || !strings.Contains(err.Error(), "/no/such.sock") {
		t.Errorf("got %v", err)
	}
}

func TestProgramMustBeStatic(t *testing.T) {
	cfg := executor.DockerConfig{Binary: "/bin/ls", Cluster: cluster, Node: newNode()}
	if _, err := executor.NewDocker(cfg, logger(t)); err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=0") {
		t.Errorf("got %v", err)
	}
}

func TestContainerIsConfined(t *testing.T) {
	k := newDocker(t)
	objects := filepath.Join(k.attempts, "objects")
	if err := os.MkdirAll(objects, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(objects, "pack"), []byte("borrowed\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	task := k.task(t, `grep -E 'Cap(Eff|Bnd)|NoNewPrivs|Seccomp:' /proc/self/status; ls /narwhal /narwhal/job
		cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max /proc/self/oom_score_adj
		cat `+objects+`/pack`,
		"touch /narwhal/bin/narwhal || touch /narwhal/job/spec.json || touch "+objects+"/x || echo read-only",
		"ln -sf /etc/passwd /narwhal/job/log || rm -f /narwhal/job/journal || mv /narwhal/job/log /tmp || echo held",
		"mount -t tmpfs none /mnt || echo no mount", "ls /var/run/docker.sock || echo no socket")
	task.ObjectsDir = objects
	expect(t, k.run(t, task), fsm.Passed, "", "")
	got := printed(t, task)
	for _, want := range []string{
		"CapBnd:\t00000000000004cb", "CapEff:\t00000000000004cb", "NoNewPrivs:\t1", "Seccomp:\t2",
		"bin\njob\nsrc\n", "in\njournal\nlog\nout\nsock\nspec.json\n", "\n268435456\n2048\n900\n", "borrowed\n",
		"\nread-only\n", "\nheld\n", "\nno mount\n", "\nno socket\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
}

func TestOutOfMemory(t *testing.T) {
	k := newDocker(t)
	for name, command := range map[string]string{
		"the step itself": "exec tail /dev/zero",
		"a child":         "tail /dev/zero || exit 7",
	} {
		t.Run(name, func(t *testing.T) {
			task := k.task(t, "echo first", command)
			task.Work.Spec.Resources.Memory = 64 << 20
			o := k.run(t, task)
			expect(t, o, fsm.Failed, fsm.CauseOOM, "step s1: it used more than its memory limit of 64 MiB")
			if len(o.Steps) != 2 {
				t.Errorf("steps %+v", o.Steps)
			}
		})
	}
	task := k.task(t, "tail /dev/zero || echo got over it")
	task.Work.Spec.Resources.Memory = 64 << 20
	expect(t, k.run(t, task), fsm.Passed, "", "")
}

func TestForkBombIsContained(t *testing.T) {
	k := newDocker(t, func(c *executor.DockerConfig) { c.Pids = 64 })
	task := k.task(t, "f() { f | f & }; f; sleep 0.5; echo over")
	task.Work.Spec.Timeout = 10 * time.Second
	if o := k.run(t, task); !o.Status.Terminal() {
		t.Errorf("got %+v", o)
	}
	expect(t, k.run(t, k.task(t, "echo next")), fsm.Passed, "", "")
}

func TestImageThatCannotBeHad(t *testing.T) {
	k := newDocker(t)
	task := k.task(t, "true")
	task.Work.Spec.Image = "127.0.0.1:1/no/such:image"
	o := k.run(t, task)
	expect(t, o, fsm.Errored, fsm.CauseImagePull, "connection refused")
	task = k.task(t, "true")
	task.Work.Spec.Image = "Not A Name"
	expect(t, k.run(t, task), fsm.Errored, fsm.CauseConfig, "invalid reference format")
}

func TestImageWithoutShell(t *testing.T) {
	c, name := api(t), "narwhal/test:"+string(newNode())
	var empty bytes.Buffer
	w := tar.NewWriter(&empty)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755}), w.Close()); err != nil {
		t.Fatal(err)
	}
	done, err := c.ImageImport(t.Context(), image.ImportSource{Source: &empty, SourceName: "-"}, name, image.ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&bytes.Buffer{}).ReadFrom(done); err != nil {
		t.Fatal(err)
	}
	_ = done.Close()
	dropImage(t, c, name)
	k := newDocker(t)
	task := k.task(t, "true")
	task.Work.Spec.Image = name
	expect(t, k.run(t, task), fsm.Errored, fsm.CauseConfig, "image "+name+" has no sh in its PATH: a step needs a shell")
}

func TestImageWithAUserOfItsOwn(t *testing.T) {
	k := newDocker(t)
	task := k.task(t, "id -u; echo more >> given; mkdir -p dir/x; ./run.sh; touch /root/x || echo no root", "cat given")
	task.Work.Spec.Image = derive(t, "USER 1000:1000")
	if err := os.Mkdir(filepath.Join(task.Workspace, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"given": 0o600, "run.sh": 0o700} {
		if err := os.WriteFile(filepath.Join(task.Workspace, name), []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(task.Workspace, "link")); err != nil {
		t.Fatal(err)
	}
	expect(t, k.run(t, task), fsm.Passed, "", "")
	if got := printed(t, task); !strings.HasPrefix(got, "1000\n") || !strings.HasSuffix(got, "#!/bin/sh\nmore\n") {
		t.Errorf("printed %q", got)
	}
	if info, err := os.Stat("/etc/passwd"); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("/etc/passwd: %v, %v", info.Mode(), err)
	}
}

func TestOrphansAreReaped(t *testing.T) {
	k := newDocker(t)
	task := k.task(t, "for i in 1 2 3 4 5 6 7 8; do (true &) ; done; sleep 0.3; ps -o stat= | grep -c Z || true")
	expect(t, k.run(t, task), fsm.Passed, "", "")
	if got := printed(t, task); got != "0\n" {
		t.Errorf("zombies: %q", got)
	}
}

func TestJobsCannotReachEachOther(t *testing.T) {
	k := newDocker(t)
	server := k.task(t, `(while :; do nc -l -p 9000 < /dev/null; done) &
		until nc -w 2 $(hostname -i) 9000 < /dev/null 2>/dev/null; do :; done
		hostname -i; echo up; wait`)
	run := k.start(t, server)
	until(t, server, "up")
	ip := regexp.MustCompile(`\d+\.\d+\.\d+\.\d+`).FindString(printed(t, server))
	caller := k.task(t, "nc -w 2 "+ip+" 9000 < /dev/null && echo reached || echo not reached")
	expect(t, k.run(t, caller), fsm.Passed, "", "")
	if got := printed(t, caller); !strings.HasSuffix(got, "not reached\n") {
		t.Errorf("from one job to another (%s): %q", ip, got)
	}
	stop(t, run, time.Second)
	wait(t, run)
}

func TestAdoptAfterItsNarwhalIsGone(t *testing.T) {
	for name, end := range map[string]struct {
		command string
		status  fsm.Status
	}{
		"still running": {"echo up; i=0; while [ ! -e go ]; do echo $i; i=$((i+1)); sleep 0.02; done; echo end", fsm.Passed},
		"ended since":   {"echo up; echo end; exit 3", fsm.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			k := newDocker(t)
			task := k.task(t, end.command)
			k.startElsewhere(t, task)
			if err := k.ex.Sweep(t.Context(), func(ref fsm.AttemptRef) bool { return ref == task.Ref }); err != nil {
				t.Fatal(err)
			}
			run, err := k.ex.Adopt(t.Context(), task)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(task.Workspace, "go"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			o := wait(t, run)
			if o.Status != end.status {
				t.Errorf("got %+v", o)
			}
			lines := strings.Split(strings.TrimSpace(printed(t, task)), "\n")
			for i, line := range lines[1 : len(lines)-1] {
				if line != fmt.Sprint(i) {
					t.Fatalf("the log has a gap: line %d is %q", i, line)
				}
			}
			if lines[len(lines)-1] != "end" {
				t.Errorf("the log ends with %q", lines[len(lines)-1])
			}
			// Whoever asks once more, the container being gone, hears the same.
			again, err := k.ex.Adopt(t.Context(), task)
			if err != nil {
				t.Fatal(err)
			}
			if o2 := wait(t, again); o2.Status != o.Status || o2.LogBytes != o.LogBytes {
				t.Errorf("first %+v, then %+v", o, o2)
			}
			if _, err := k.ex.Adopt(t.Context(), k.task(t, "true")); !errors.Is(err, executor.ErrGone) {
				t.Errorf("an attempt that never was: %v", err)
			}
		})
	}
}

func TestNetworkGoesWithTheLastContainer(t *testing.T) {
	k, c := newDocker(t), api(t)
	d, network := k.ex.(*executor.Docker), "narwhal-"+string(k.node)
	task := k.task(t, "echo up; sleep 600")
	r := k.start(t, task)
	until(t, task, "up")
	if err := d.RemoveNetwork(t.Context()); err != nil {
		t.Errorf("while a container runs: %v", err)
	}
	if _, err := c.NetworkInspect(t.Context(), network, dockernetwork.InspectOptions{}); err != nil {
		t.Errorf("what the container is on: %v", err)
	}
	if err := r.Stop(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	wait(t, r)
	if err := d.RemoveNetwork(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := c.NetworkInspect(t.Context(), network, dockernetwork.InspectOptions{}); !errdefs.IsNotFound(err) {
		t.Errorf("without a container: %v", err)
	}
	expect(t, k.run(t, k.task(t, "echo again")), fsm.Passed, "", "")
}

func TestSweepTouchesOnlyItsOwn(t *testing.T) {
	k, other := newDocker(t), newDocker(t)
	c := api(t)
	foreign := func(labels map[string]string) string {
		made, err := c.ContainerCreate(t.Context(), &container.Config{Image: busybox, Labels: labels}, nil, nil, nil, "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.ContainerRemove(context.Background(), made.ID, container.RemoveOptions{Force: true}); err != nil {
				t.Error(err)
			}
		})
		return made.ID
	}
	ids := []string{
		foreign(nil),
		foreign(map[string]string{"narwhal.cluster": "another", "narwhal.node": string(k.node)}),
		foreign(map[string]string{"narwhal.node": string(k.node)}),
		foreign(map[string]string{"narwhal.cluster": cluster, "narwhal.node": string(other.node)}),
	}
	kept, swept := k.task(t, "echo up; sleep 600"), k.task(t, "echo up; sleep 600")
	keptRun := k.start(t, kept)
	sweptRun := k.start(t, swept)
	until(t, kept, "up")
	until(t, swept, "up")
	if err := k.ex.Sweep(t.Context(), func(ref fsm.AttemptRef) bool { return ref == kept.Ref }); err != nil {
		t.Fatal(err)
	}
	expect(t, wait(t, sweptRun), fsm.Errored, fsm.CauseNodeLost, "")
	for _, id := range ids {
		if _, err := c.ContainerInspect(t.Context(), id); err != nil {
			t.Errorf("a container that is not ours: %v", err)
		}
	}
	if _, err := k.ex.Adopt(t.Context(), kept); err != nil {
		t.Errorf("the one that is kept: %v", err)
	}
	if err := k.ex.Sweep(t.Context(), none); err != nil {
		t.Fatal(err)
	}
	expect(t, wait(t, keptRun), fsm.Errored, fsm.CauseNodeLost, "")
}

func TestStoppedFromOutside(t *testing.T) {
	k, c := newDocker(t), api(t)
	grace := 10
	for what, end := range map[string]func(id string) error{
		"stopped": func(id string) error {
			return c.ContainerStop(t.Context(), id, container.StopOptions{Timeout: &grace})
		},
		"killed": func(id string) error { return c.ContainerKill(t.Context(), id, "SIGKILL") },
	} {
		task := k.task(t, "trap 'echo tidied; exit 1' TERM; echo up; sleep 600 & wait")
		run := k.start(t, task)
		until(t, task, "up")
		if err := end(name(k, task)); err != nil {
			t.Fatal(err)
		}
		expect(t, wait(t, run), fsm.Errored, fsm.CauseNodeLost, "")
		if tidied := strings.Contains(printed(t, task), "tidied"); tidied != (what == "stopped") {
			t.Errorf("%s: tidied %v", what, tidied)
		}
	}
}

// TestStepsContainerStoppedFromOutside: it is told from one that a step has stopped.
func TestStepsContainerStoppedFromOutside(t *testing.T) {
	k, c := newDocker(t), api(t)
	task := k.task(t, "echo up; sleep 600")
	task.Work.Spec.Steps[0].Image = derive(t, "ENV MARK=another")
	run := k.start(t, task)
	until(t, task, "up")
	grace := 10
	if err := c.ContainerStop(t.Context(), name(k, task)+"-satellite-s1", container.StopOptions{Timeout: &grace}); err != nil {
		t.Fatal(err)
	}
	expect(t, wait(t, run), fsm.Errored, fsm.CauseNodeLost, "")
	task = k.task(t, "kill -37 1; sleep 600")
	task.Work.Spec.Steps[0].Image = derive(t, "ENV MARK=third")
	expect(t, k.run(t, task), fsm.Failed, fsm.CauseFailure, "it stopped itself")
}

// TestStoppedByItself: neither narwhal nor the engine stopped it, and the node is not
// lost by what a step does. A signal that other programs use does nothing.
func TestStoppedByItself(t *testing.T) {
	const message = "it stopped itself"
	k := newDocker(t)
	expect(t, k.run(t, k.task(t, "kill -37 1; sleep 600", "echo never")), fsm.Failed, fsm.CauseFailure, message)
	task := k.task(t, "echo up; sleep 600")
	run := k.start(t, task)
	until(t, task, "up")
	if err := supervise.AskStop(t.Context(), filepath.Join(task.Dir, supervise.SocketsDir, supervise.ControlSocket), 0); err != nil { // as a step may
		t.Fatal(err)
	}
	expect(t, wait(t, run), fsm.Failed, fsm.CauseFailure, message)
	beside := k.task(t, "kill -TERM 1; kill -TERM -1 || kill -HUP -1 || echo on")
	beside.Work.Spec.Steps = append(beside.Work.Spec.Steps, pipeline.Step{Name: "beside", Image: derive(t, "ENV MARK=another"), Command: []string{"kill -TERM 1; kill -TERM -1 || echo on"}})
	for range 2 {
		expect(t, k.run(t, beside), fsm.Passed, "", "")
	}
}

// TestStopWhatAnEarlierVersionStarted: its containers heed another signal.
func TestStopWhatAnEarlierVersionStarted(t *testing.T) {
	k, c := newDocker(t), api(t)
	task := k.task(t, "echo up; sleep 600")
	k.startElsewhere(t, task)
	id := name(k, task)
	found, err := c.ContainerInspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	removeContainer(t, id)
	found.Config.Hostname, found.Config.StopSignal = "", "SIGTERM"
	found.Config.Entrypoint = []string{"sh", "-c", "trap 'touch told; exit 0' TERM; touch up; while :; do sleep 0.05; done"}
	if _, err := c.ContainerCreate(t.Context(), found.Config, found.HostConfig, nil, nil, id); err != nil {
		t.Fatal(err)
	}
	if err := c.ContainerStart(t.Context(), id, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	untilThere(t, filepath.Join(task.Workspace, "up"))
	run, err := k.ex.Adopt(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	stop(t, run, time.Hour)
	wait(t, run)
	if _, err := os.Stat(filepath.Join(task.Workspace, "told")); err != nil {
		t.Error(err)
	}
}

// TestEngineGoesAway has the engine behind a socket that can be shut.
func TestEngineGoesAway(t *testing.T) {
	gate := openGate(t)
	k := newDocker(t, func(c *executor.DockerConfig) { c.Host = "unix://" + gate.path })
	task := k.task(t, "echo up; while [ ! -e go ]; do sleep 0.05; done; echo end")
	run := k.start(t, task)
	until(t, task, "up")
	ended := make(chan fsm.Outcome, 1)
	go func() {
		o, err := run.Wait(t.Context())
		if err != nil {
			t.Error(err)
		}
		ended <- o
	}()
	gate.shut()
	if err := os.WriteFile(filepath.Join(task.Workspace, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	until(t, task, "end")
	select {
	case o := <-ended:
		t.Fatalf("it ended without an engine: %+v", o)
	default:
	}
	if _, err := k.ex.Start(t.Context(), k.task(t, "true")); err == nil {
		t.Error("something was started without an engine")
	}
	gate.open()
	select {
	case o := <-ended:
		expect(t, o, fsm.Passed, "", "")
	case <-time.After(time.Minute):
		t.Fatal("it did not come back")
	}
}

type gate struct {
	path   string
	t      *testing.T
	mu     sync.Mutex
	listen net.Listener
	conns  map[net.Conn]bool
}

func openGate(t *testing.T) *gate {
	g := &gate{path: filepath.Join(t.TempDir(), "sock"), t: t, conns: make(map[net.Conn]bool)}
	g.open()
	t.Cleanup(g.shut)
	return g
}

func (g *gate) open() {
	l, err := net.Listen("unix", g.path)
	if err != nil {
		g.t.Fatal(err)
	}
	g.mu.Lock()
	g.listen = l
	g.mu.Unlock()
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", "/var/run/docker.sock")
			if err != nil {
				_ = in.Close()
				continue
			}
			g.mu.Lock()
			g.conns[in], g.conns[out] = true, true
			g.mu.Unlock()
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() {
					buf := make([]byte, 32<<10)
					for {
						n, err := pair[0].Read(buf)
						if _, err := pair[1].Write(buf[:n]); err != nil || n == 0 {
							break
						}
						if err != nil {
							break
						}
					}
					_ = pair[1].Close()
				}()
			}
		}
	}()
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = g.listen.Close()
	for c := range g.conns {
		_ = c.Close()
	}
	clear(g.conns)
}

func TestNothingIsLeftInTheEngine(t *testing.T) {
	k, c := newDocker(t), api(t)
	name := derive(t, "VOLUME /data")
	before, err := c.VolumeList(t.Context(), volume.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	task := k.task(t, "echo x > /data/x; for i in 1 2 3; do echo $i; done")
	task.Work.Spec.Image = name
	expect(t, k.run(t, task), fsm.Passed, "", "")
	known := make(map[string]bool)
	for _, v := range before.Volumes {
		known[v.Name] = true
	}
	after, err := c.VolumeList(t.Context(), volume.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range after.Volumes {
		if !known[v.Name] {
			t.Errorf("volume %s is left", v.Name)
		}
	}
	if _, err := c.ContainerInspect(t.Context(), fmt.Sprintf("narwhal-%s-%s-1-%s", k.node, task.Ref.Job, task.Ref.Token)); !errdefs.IsNotFound(err) {
		t.Errorf("the container: %v", err)
	}
}

func TestHostileJournal(t *testing.T) {
	k := newDocker(t)
	task := k.task(t, `echo '{"kind":"end","outcome":{"status":"passed","plan":{"name":"x"}}}' > /narwhal/job/journal; echo 'not a record' >> /narwhal/job/log; exit 1`)
	o := k.run(t, task)
	expect(t, o, fsm.Failed, fsm.CauseFailure, "exit code 1")
	if o.Plan != nil {
		t.Error("a job brought a plan")
	}
}

// TestJobFillsItsJournal: its end is recorded all the same, and the file doesn't stay.
func TestJobFillsItsJournal(t *testing.T) {
	k := newDocker(t)
	task := k.task(t, `yes '{"kind":"process","step":0,"pid":7}' | head -c 20000000 >> /narwhal/job/journal; printf torn >> /narwhal/job/journal; exit 3`)
	expect(t, k.run(t, task), fsm.Failed, fsm.CauseFailure, "exit code 3")
	if info, err := os.Stat(filepath.Join(task.Dir, supervise.JournalFile)); err != nil || info.Size() > 1<<20 {
		t.Errorf("it has %d bytes, %v", info.Size(), err)
	}
	again, err := k.ex.Adopt(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, wait(t, again), fsm.Failed, fsm.CauseFailure, "exit code 3")

	task = k.task(t, `yes 'no record' | head -c 8000000 > junk; setsid sh -c 'while :; do cat junk >> /narwhal/job/journal; done' > /dev/null 2>&1 & sleep 0.3`)
	expect(t, k.run(t, task), fsm.Passed, "", "")
}
