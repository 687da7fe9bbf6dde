package executor_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
	"github.com/codepr/narwhal/supervise"
)

// newWarm has a container made ahead for each task.
func newWarm(t *testing.T) *kit {
	k := coolWarm(t, nil)
	k.warm = true
	return k
}

// coolWarm has run a job, so that it makes containers ahead.
func coolWarm(t *testing.T, change func(*executor.DockerConfig)) *kit {
	t.Helper()
	k := newDocker(t, func(c *executor.DockerConfig) {
		c.Warm, c.WarmDir = 1, filepath.Join(t.TempDir(), "warm")
		if change != nil {
			change(c)
		}
	})
	k.attempts = filepath.Join(filepath.Dir(k.docker.WarmDir), "attempts")
	if err := os.Mkdir(k.attempts, 0o755); err != nil {
		t.Fatal(err)
	}
	expect(t, k.run(t, k.task(t, "true")), fsm.Passed, "", "")
	return k
}

func (k *kit) engine() *executor.Docker { return k.ex.(*executor.Docker) }

// again is the narwhal that comes after k's, which does nothing of its own any more.
func (k *kit) again(t *testing.T) *executor.Docker {
	t.Helper()
	k.engine().Crash()
	d, err := executor.NewDocker(*k.docker, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// prepare returns when the task has claimed a container.
func (k *kit) prepare(t *testing.T, task executor.Task) (release func()) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		release := k.engine().Prepare(task)
		if claimed(t, task) {
			return release
		}
		if time.Now().After(deadline) {
			t.Fatal("no container is made ahead")
		}
	}
}

// claimant is a task that has claimed a container.
func (k *kit) claimant(t *testing.T, commands ...string) executor.Task {
	t.Helper()
	k.warm = true
	defer func() { k.warm = false }()
	return k.task(t, commands...)
}

func claimed(t *testing.T, task executor.Task) bool {
	t.Helper()
	_, err := os.Stat(filepath.Join(task.Dir, "slot.json"))
	return err == nil
}

func begun(t *testing.T, task executor.Task) bool {
	t.Helper()
	records, err := supervise.ReadJournal(filepath.Join(task.Dir, supervise.JournalFile))
	if err != nil {
		t.Fatal(err)
	}
	return supervise.Has(records, supervise.RecordBegun)
}

func name(k *kit, task executor.Task) string {
	return "narwhal-" + string(k.node) + "-" + task.Ref.Job.String() + "-1-" + task.Ref.Token.String()
}

// idle are the node's containers that no attempt has.
func idle(t *testing.T, c *client.Client, node fsm.NodeID) []container.Summary {
	t.Helper()
	found, err := c.ContainerList(t.Context(), container.ListOptions{All: true, Filters: filters.NewArgs(
		filters.Arg("label", "narwhal.node="+string(node)), filters.Arg("label", "narwhal.role=warm"))})
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(found, func(f container.Summary) bool { return !strings.Contains(f.Names[0], "-warm-") })
}

// untilIdle returns when one has been made ahead and runs.
func untilIdle(t *testing.T, c *client.Client, node fsm.NodeID) {
	t.Helper()
	running := func(f container.Summary) bool { return f.State == "running" }
	for deadline := time.Now().Add(time.Minute); !slices.ContainsFunc(idle(t, c, node), running); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no container is made ahead")
		}
	}
}

// slotName is the container that a task has claimed, before it has its name.
func slotContainer(t *testing.T, task executor.Task) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(task.Dir, "slot.json"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), `"container":"`)
	id, _, _ := strings.Cut(rest, `"`)
	return id
}

// TestWarmContainerIsTheJobs: its limits, its confinement and its end.
func TestWarmContainerIsTheJobs(t *testing.T) {
	k, c := coolWarm(t, nil), api(t)
	task := k.claimant(t, `grep -E 'Cap(Eff|Bnd)|NoNewPrivs|Seccomp:' /proc/self/status; ls /narwhal/job /narwhal/job/sock
		cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us
		cat /sys/fs/cgroup/pids/pids.max /proc/self/oom_score_adj; echo $A`)
	task.Work.Spec.Resources = pipeline.Resources{CPU: 500, Memory: 96 << 20}
	task.Secrets = map[string]string{"A": "quite secret"}
	task.Work.Spec.Secrets = []string{"A"}
	k.warm = true
	expect(t, k.run(t, task), fsm.Passed, "", "")
	got := printed(t, task)
	for _, want := range []string{
		"CapBnd:\t00000000000004cb", "CapEff:\t00000000000004cb", "NoNewPrivs:\t1", "Seccomp:\t2",
		"in\njournal\nlog\nout\nsock\nspec.json\n", "\ncontrol.sock\n", "\n100663296\n100663296\n50000\n2048\n900\n", "***",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	for _, not := range []string{"warm.sock", "quite secret"} {
		if strings.Contains(got, not) {
			t.Errorf("%q is in:\n%s", not, got)
		}
	}
	if _, err := c.ContainerInspect(t.Context(), name(k, task)); err == nil {
		t.Error("its container is left")
	}
	if claimed(t, task) {
		t.Error("the slot's file is left")
	}
	oom := k.task(t, "echo first", "tail /dev/zero")
	oom.Work.Spec.Resources.Memory = 64 << 20
	expect(t, k.run(t, oom), fsm.Failed, fsm.CauseOOM, "step s1: it used more than its memory limit of 64 MiB")
	more := k.task(t, "cat /sys/fs/cgroup/memory/memory.limit_in_bytes")
	more.Work.Spec.Resources.Memory = 512 << 20
	expect(t, k.run(t, more), fsm.Passed, "", "")
	if got := printed(t, more); got != "536870912\n" {
		t.Errorf("limit %q", got)
	}
}

// TestWarmContainerOfAnotherUser: the image's user is not root.
func TestWarmContainerOfAnotherUser(t *testing.T) {
	k := coolWarm(t, nil)
	image := derive(t, "USER 1000:1000")
	var task executor.Task
	for _, ahead := range []bool{false, true} { // the first one has it made for the second
		task = k.task(t, "id -u; cat given; echo more > made")
		task.Work.Spec.Image = image
		if ahead {
			if err := os.RemoveAll(task.Dir); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(k.prepare(t, task))
		}
		if err := os.WriteFile(filepath.Join(task.Workspace, "given"), []byte("given\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		expect(t, k.run(t, task), fsm.Passed, "", "")
	}
	if got := printed(t, task); got != "1000\ngiven\n" || !begun(t, task) {
		t.Errorf("begun %v, printed %q", begun(t, task), got)
	}
}

// TestOneWarmContainerForTwo: the second has none, and runs all the same.
func TestOneWarmContainerForTwo(t *testing.T) {
	k := coolWarm(t, nil)
	first := k.claimant(t, "hostname")
	second := k.task(t, "hostname")
	if err := os.RemoveAll(second.Dir); err != nil {
		t.Fatal(err)
	}
	k.engine().Prepare(second)() // while the next one is not made, since none is before a start has ended
	if claimed(t, second) {
		t.Fatal("both have it")
	}
	if err := os.MkdirAll(second.Workspace, 0o755); err != nil {
		t.Fatal(err)
	}
	runs := []executor.Run{k.start(t, first), k.start(t, second)}
	for _, r := range runs {
		expect(t, wait(t, r), fsm.Passed, "", "")
	}
	if a, b := printed(t, first), printed(t, second); a == b || !begun(t, first) || begun(t, second) {
		t.Errorf("first in %q, second in %q", a, b)
	}
}

// TestWarmContainerThatDoesNotFit is left for one that does.
func TestWarmContainerThatDoesNotFit(t *testing.T) {
	for what, change := range map[string]func(*testing.T, *executor.Task){
		"another image":    func(t *testing.T, task *executor.Task) { task.Work.Spec.Image = derive(t, "ENV X=Y") },
		"objects since":    func(t *testing.T, task *executor.Task) { task.ObjectsDir = t.TempDir() },
		"another checkout": func(t *testing.T, task *executor.Task) { replace(t, task.Workspace) },
		"with a service": func(_ *testing.T, task *executor.Task) {
			task.Work.Spec.Services = []pipeline.Service{shell("db", "sleep 60", nil)}
		},
		"whose engine forgot": func(t *testing.T, task *executor.Task) { removeContainer(t, slotContainer(t, *task)) },
	} {
		t.Run(what, func(t *testing.T) {
			k, c := coolWarm(t, nil), api(t)
			task := k.claimant(t, "ls /narwhal/job/sock; cat file")
			id := slotContainer(t, task)
			change(t, &task)
			if err := os.WriteFile(filepath.Join(task.Workspace, "file"), []byte("of the checkout\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			expect(t, k.run(t, task), fsm.Passed, "", "")
			if got := printed(t, task); begun(t, task) || !strings.HasSuffix(got, "of the checkout\n") || strings.Contains(got, "warm.sock") {
				t.Errorf("begun %v, printed %q", begun(t, task), got)
			}
			if _, err := c.ContainerInspect(t.Context(), id); err == nil {
				t.Error("the container is left")
			}
		})
	}
}

func replace(t *testing.T, dir string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
}

func removeContainer(t *testing.T, id string) {
	t.Helper()
	if err := api(t).ContainerRemove(t.Context(), id, container.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
}

// TestNarwhalEndsWithAWarmContainer has it end at each point between the claim and
// the beginning. Nothing of what was not begun is left, and it can be begun anew.
func TestNarwhalEndsWithAWarmContainer(t *testing.T) {
	limit := container.UpdateConfig{Resources: container.Resources{Memory: 64 << 20, MemorySwap: 64 << 20}}
	rename := func(t *testing.T, c *client.Client, k *kit, task executor.Task) {
		if err := c.ContainerRename(t.Context(), slotContainer(t, task), name(k, task)); err != nil {
			t.Fatal(err)
		}
	}
	for at, reach := range map[string]func(*testing.T, *client.Client, *kit, executor.Task){
		"claimed": func(*testing.T, *client.Client, *kit, executor.Task) {},
		"limited": func(t *testing.T, c *client.Client, _ *kit, task executor.Task) {
			if _, err := c.ContainerUpdate(t.Context(), slotContainer(t, task), limit); err != nil {
				t.Fatal(err)
			}
		},
		"named": rename,
		"named, its folder's file torn": func(t *testing.T, c *client.Client, k *kit, task executor.Task) {
			rename(t, c, k, task)
			if err := os.WriteFile(filepath.Join(task.Dir, "slot.json"), []byte(`{"sl`), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"half told": func(t *testing.T, c *client.Client, k *kit, task executor.Task) {
			rename(t, c, k, task)
			mumble(t, filepath.Join(task.Dir, supervise.SocketsDir, supervise.WarmSocket))
		},
	} {
		t.Run(at, func(t *testing.T) {
			k, c := coolWarm(t, nil), api(t)
			task := k.claimant(t, "echo once")
			id := slotContainer(t, task)
			reach(t, c, k, task)
			next := k.again(t)
			if err := next.Sweep(t.Context(), func(ref fsm.AttemptRef) bool { return ref == task.Ref }); err != nil {
				t.Fatal(err)
			}
			if _, err := next.Adopt(t.Context(), task); !errors.Is(err, executor.ErrGone) {
				t.Fatalf("adopted: %v", err)
			}
			if _, err := c.ContainerInspect(t.Context(), id); err == nil {
				t.Error("the container is left")
			}
			if began, err := task.Began(); err != nil || began || claimed(t, task) {
				t.Errorf("began %v, %v", began, err)
			}
			replace(t, task.Workspace)
			run, err := next.Start(t.Context(), task)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, wait(t, run), fsm.Passed, "", "")
			if got := printed(t, task); got != "once\n" {
				t.Errorf("printed %q", got)
			}
		})
	}
}

// mumble tells half of what is to begin.
func mumble(t *testing.T, socket string) {
	t.Helper()
	folder, err := os.Open(filepath.Dir(socket))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = folder.Close() }()
	// A socket's path must be short.
	conn, err := net.Dial("unix", fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), filepath.Base(socket)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte(`{"secrets":{"A":`)); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

// TestAdoptAWarmContainer: one that has begun goes on, one of which nobody knows
// whether it had is lost.
func TestAdoptAWarmContainer(t *testing.T) {
	k, c := coolWarm(t, nil), api(t)
	task := k.claimant(t, "echo up; while [ ! -e go ]; do sleep 0.02; done; echo end")
	k.start(t, task)
	until(t, task, "up")
	next := k.again(t)
	if err := next.Sweep(t.Context(), func(ref fsm.AttemptRef) bool { return ref == task.Ref }); err != nil {
		t.Fatal(err)
	}
	run, err := next.Adopt(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	touch(t, filepath.Join(task.Workspace, "go"))
	expect(t, wait(t, run), fsm.Passed, "", "")
	if got := printed(t, task); got != "up\nend\n" {
		t.Errorf("printed %q", got)
	}
	again, err := next.Adopt(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, wait(t, again), fsm.Passed, "", "")

	k = coolWarm(t, nil)
	task = k.claimant(t, "echo never")
	id := slotContainer(t, task)
	if err := errors.Join(c.ContainerRename(t.Context(), id, name(k, task)), c.ContainerKill(t.Context(), id, "KILL")); err != nil {
		t.Fatal(err)
	}
	if run, err = k.again(t).Adopt(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	expect(t, wait(t, run), fsm.Errored, fsm.CauseNodeLost, "")
}

// TestAdoptAWarmContainerOfAKilledNarwhal: of what the killed one had made ahead, only
// the job is left.
func TestAdoptAWarmContainerOfAKilledNarwhal(t *testing.T) {
	k := newDocker(t, func(c *executor.DockerConfig) { c.Warm, c.WarmDir = 1, filepath.Join(t.TempDir(), "warm") })
	k.attempts = filepath.Join(filepath.Dir(k.docker.WarmDir), "attempts")
	first, task := k.task(t, "true"), k.task(t, "echo up; while [ ! -e go ]; do sleep 0.02; done; echo end")
	k.first = &first
	c := api(t)
	k.ready = func() { untilIdle(t, c, k.node) }
	k.startElsewhere(t, task)
	if !begun(t, task) {
		t.Fatal("it did not run in a container that was made ahead")
	}
	if err := k.ex.Sweep(t.Context(), func(ref fsm.AttemptRef) bool { return ref == task.Ref }); err != nil {
		t.Fatal(err)
	}
	if got := idle(t, c, k.node); len(got) > 0 {
		t.Errorf("left: %v", got)
	}
	run, err := k.ex.Adopt(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	touch(t, filepath.Join(task.Workspace, "go"))
	expect(t, wait(t, run), fsm.Passed, "", "")
	if got := printed(t, task); got != "up\nend\n" {
		t.Errorf("printed %q", got)
	}
	if left := things(t, c, k.node); len(left) > 1 { // the node's network
		t.Errorf("left: %v", left)
	}
}

// TestSweepOfWarmContainers: what an earlier narwhal has made ahead goes, what this
// one has stays, and so does what runs.
func TestSweepOfWarmContainers(t *testing.T) {
	k, c := coolWarm(t, nil), api(t)
	foreign, err := c.ContainerCreate(t.Context(), &container.Config{Image: busybox, Labels: map[string]string{
		"narwhal.cluster": "another", "narwhal.node": string(k.node), "narwhal.role": "warm", "narwhal.slot": "x"}}, nil, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	defer removeContainer(t, foreign.ID)
	kept := k.claimant(t, "echo up; sleep 600")
	keptRun := k.start(t, kept)
	until(t, kept, "up")
	swept := k.claimant(t, "echo up; sleep 600")
	sweptRun := k.start(t, swept)
	until(t, swept, "up")
	waiting := k.claimant(t, "echo mine") // claimed, not begun
	mine := func(ref fsm.AttemptRef) bool { return ref == kept.Ref || ref == waiting.Ref }
	if err := k.ex.Sweep(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	expect(t, wait(t, sweptRun), fsm.Errored, fsm.CauseNodeLost, "")
	k.warm = true
	expect(t, k.run(t, waiting), fsm.Passed, "", "")
	free := k.task(t, "true")
	id := slotContainer(t, free)
	if err := k.again(t).Sweep(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ContainerInspect(t.Context(), id); err == nil {
		t.Error("what an earlier narwhal has made ahead is left")
	}
	if _, err := c.ContainerInspect(t.Context(), foreign.ID); err != nil {
		t.Errorf("a container that is not ours: %v", err)
	}
	if left, err := os.ReadDir(k.docker.WarmDir); err != nil && !errors.Is(err, os.ErrNotExist) || len(left) > 0 {
		t.Errorf("left of folders: %v, %v", left, err)
	}
	stop(t, keptRun, 0)
	expect(t, wait(t, keptRun), fsm.Canceled, fsm.CauseCanceled, "")
}

// TestNothingWarmIsLeft after a release, and after the end.
func TestNothingWarmIsLeft(t *testing.T) {
	k, c := coolWarm(t, nil), api(t)
	task := k.task(t, "true")
	if err := os.RemoveAll(task.Dir); err != nil {
		t.Fatal(err)
	}
	release := k.prepare(t, task)
	id := slotContainer(t, task)
	release()
	for deadline := time.Now().Add(time.Minute); claimed(t, task); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is not let go")
		}
	}
	if _, err := c.ContainerInspect(t.Context(), id); err == nil {
		t.Error("what was let go is left")
	}
	k.claimant(t, "true") // never begun
	if err := k.engine().RemoveNetwork(t.Context()); err != nil {
		t.Error(err)
	}
	if left := things(t, c, k.node); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if _, err := os.Stat(k.docker.WarmDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left of folders: %v", err)
	}
}

// TestFullNodeMakesNothingAhead while its jobs have all that it offers.
func TestFullNodeMakesNothingAhead(t *testing.T) {
	k := coolWarm(t, func(c *executor.DockerConfig) { c.Offer = pipeline.Resources{CPU: 2000, Memory: 1 << 30} })
	c := api(t)
	first := k.claimant(t, "echo up; sleep 600")
	first.Work.Spec.Resources.CPU = 2000
	run := k.start(t, first)
	until(t, first, "up")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if got := idle(t, c, k.node); len(got) > 0 {
		t.Errorf("made ahead on a full node: %v", got)
	}
	stop(t, run, 0)
	if _, err := run.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	k.claimant(t, "true") // now there is one
}

// TestDeafWarmContainer is one that doesn't answer before the start is given up.
func TestDeafWarmContainer(t *testing.T) {
	k, c := coolWarm(t, nil), api(t)
	task := k.claimant(t, "echo never")
	id := slotContainer(t, task)
	if err := c.ContainerPause(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if _, err := k.ex.Start(ctx, task); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if _, err := c.ContainerInspect(t.Context(), id); err == nil {
		t.Error("the container is left")
	}
	if got := printed(t, task); got != "" || begun(t, task) || claimed(t, task) {
		t.Errorf("printed %q", got)
	}
}

// TestNoRoomForWarmContainers: what is made ahead goes, and comes again with room.
func TestNoRoomForWarmContainers(t *testing.T) {
	k, c := coolWarm(t, nil), api(t)
	untilIdle(t, c, k.node)
	k.engine().Stock(false)
	for deadline := time.Now().Add(time.Minute); len(idle(t, c, k.node)) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what is made ahead stays where there is no room for it")
		}
	}
	expect(t, k.run(t, k.task(t, "true")), fsm.Passed, "", "") // which uses the image once more
	if got := idle(t, c, k.node); len(got) > 0 {
		t.Errorf("made ahead without room: %v", got)
	}
	k.engine().Stock(true)
	untilIdle(t, c, k.node)
}
