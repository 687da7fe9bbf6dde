package executor_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/client"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
)

// daemon is a Docker engine of the test's own, which touches nothing of the
// machine's. It has its own network namespace: one that is told to have no default
// bridge removes the machine's.
type daemon struct {
	t       *testing.T
	dir     string
	options []string
	process *exec.Cmd
}

func newDaemon(t *testing.T, options ...string) *daemon {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("a second engine takes root")
	}
	for _, tool := range []string{"dockerd", "nsenter", "ip"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("there is no %s: run scripts/deps.sh docker", tool)
		}
	}
	dir, err := os.MkdirTemp("", "nd") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{t: t, dir: dir, options: options}
	t.Cleanup(d.clean)
	if out, err := exec.CommandContext(t.Context(), "ip", "netns", "add", d.net()).CombinedOutput(); err != nil {
		t.Fatalf("make network namespace: %v: %s", err, out)
	}
	d.start()
	c := d.client()
	defer func() { _ = c.Close() }()
	saved, err := api(t).ImageSave(t.Context(), []string{busybox})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = saved.Close() }()
	loaded, err := c.ImageLoad(t.Context(), saved)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, loaded.Body); err != nil {
		t.Fatal(err)
	}
	_ = loaded.Body.Close()
	if _, err := c.ImageInspect(t.Context(), busybox); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *daemon) host() string { return "unix://" + filepath.Join(d.dir, "sock") }

// net is the name of its network namespace.
func (d *daemon) net() string { return "narwhal-" + filepath.Base(d.dir) }

func (d *daemon) client() *client.Client {
	c, err := client.NewClientWithOpts(client.WithHost(d.host()), client.WithAPIVersionNegotiation())
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

// start returns when the engine answers.
func (d *daemon) start() {
	d.t.Helper()
	in := func(name string) string { return filepath.Join(d.dir, name) }
	// What one that was killed leaves would keep the next from starting.
	for _, name := range []string{"pid", "exec/containerd/containerd.pid"} {
		if err := os.RemoveAll(in(name)); err != nil {
			d.t.Fatal(err)
		}
	}
	if err := os.WriteFile(in("config.json"), []byte("{}"), 0o600); err != nil { // not the machine's
		d.t.Fatal(err)
	}
	args := append([]string{"--config-file", in("config.json"), "--data-root", in("data"), "--exec-root", in("exec"), "--pidfile", in("pid"), "-H", d.host(),
		"--iptables=false", "--ip6tables=false", "--ip-forward=false", "--bridge=none"}, d.options...)
	log, err := os.OpenFile(in("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	d.process = exec.Command("nsenter", append([]string{"--net=/run/netns/" + d.net(), "dockerd"}, args...)...)
	d.process.Stderr = log
	err = d.process.Start()
	_ = log.Close()
	if err != nil {
		d.t.Fatal(err)
	}
	c := d.client()
	defer func() { _ = c.Close() }()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if _, err = c.Ping(context.Background()); err == nil {
			return
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(in("log"))
			d.t.Fatalf("the engine doesn't start: %v\n%s", err, text)
		}
	}
}

func (d *daemon) kill() {
	_ = d.process.Process.Kill()
	_ = d.process.Wait() // it says that it was killed
}

// clean ends the engine in an orderly way, and whatever a killed one has left.
func (d *daemon) clean() {
	if d.process != nil && d.process.ProcessState == nil {
		if err := d.process.Process.Signal(os.Interrupt); err != nil {
			d.t.Error(err)
		}
		_ = d.process.Wait()
	}
	if procs, err := filepath.Glob("/proc/[0-9]*/cmdline"); err == nil {
		for _, path := range procs {
			data, err := os.ReadFile(path)
			if err != nil || !strings.Contains(string(data), d.dir+"/") {
				continue
			}
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && pid != os.Getpid() {
				if p, err := os.FindProcess(pid); err == nil {
					_ = p.Kill()
				}
			}
		}
	}
	if out, err := exec.Command("ip", "netns", "delete", d.net()).CombinedOutput(); err != nil {
		d.t.Errorf("remove network namespace: %v: %s", err, out)
	}
	var err error
	for range 100 { // mounts go with the processes that hold them
		d.unmount()
		if err = os.RemoveAll(d.dir); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	d.t.Error(err)
}

func (d *daemon) unmount() {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], d.dir+"/") {
			_ = exec.Command("umount", "-l", fields[1]).Run()
		}
	}
}

// TestEngineIsKilled has jobs run while their engine is killed and started again.
func TestEngineIsKilled(t *testing.T) {
	for name, c := range map[string]struct {
		options []string
		ends    func(fsm.Outcome) bool
	}{
		"with live-restore": {[]string{"--live-restore"}, func(o fsm.Outcome) bool { return o.Status == fsm.Passed }},
		// The engine ends what it finds. That is no failure of the job.
		"without": {nil, func(o fsm.Outcome) bool { return o.Status == fsm.Errored && o.Cause == fsm.CauseNodeLost }},
	} {
		t.Run(name, func(t *testing.T) {
			engine := newDaemon(t, c.options...)
			k := newDocker(t, func(c *executor.DockerConfig) { c.Host = engine.host() })
			type job struct {
				task executor.Task
				run  executor.Run
			}
			var jobs []job
			for range 3 {
				task := k.task(t, "echo up; i=0; while [ ! -e go ]; do echo $i; i=$((i+1)); sleep 0.05; done; echo end")
				run := k.start(t, task)
				until(t, task, "up")
				jobs = append(jobs, job{task, run})
			}
			outcomes := make(chan fsm.Outcome, len(jobs))
			for _, j := range jobs {
				go func() {
					o, err := j.run.Wait(t.Context())
					if err != nil {
						t.Error(err)
					}
					outcomes <- o
				}()
			}
			engine.kill()
			if c.options != nil {
				touch(t, filepath.Join(jobs[0].task.Workspace, "go")) // one ends meanwhile
				until(t, jobs[0].task, "end")
			}
			engine.start()
			for _, j := range jobs {
				touch(t, filepath.Join(j.task.Workspace, "go"))
			}
			for range jobs {
				select {
				case o := <-outcomes:
					if !c.ends(o) {
						t.Errorf("got %+v", o)
					}
				case <-time.After(2 * time.Minute):
					t.Fatal("a job did not end")
				}
			}
			if c.options == nil {
				return
			}
			for _, j := range jobs {
				lines := strings.Split(strings.TrimSpace(printed(t, j.task)), "\n")
				for i, line := range lines[1 : len(lines)-1] {
					if line != strconv.Itoa(i) {
						t.Fatalf("the log has a gap: line %d is %q", i, line)
					}
				}
			}
		})
	}
}
