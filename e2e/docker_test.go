package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// inBusybox asks for as little as a container gets.
const inBusybox = "image: " + busyboxImage + "\nresources: {cpu: 250m, memory: 32Mi}\n"

// TestDocker builds in containers of the real engine. What a container is made of
// is executor's to test; here it is that a file's words arrive there.
func TestDocker(t *testing.T) {
	t.Parallel()
	l, e := dockerCluster(t, lab.Options{Args: []string{"--stop-grace", "1s"}})
	t.Run("while all nodes run", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, *lab.Lab, engine){
			"what a step sees":    whatAStepSees,
			"dependencies":        dependencies,
			"labels and limits":   labelsAndLimits,
			"out of memory":       outOfMemory,
			"timeout":             containerTimeout,
			"cancel":              cancelContainers,
			"a volume goes too":   volumeGoes,
			"missing image":       missingImage,
			"default image":       defaultImage,
			"no name of an image": noImageName,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, l, e)
			})
		}
	})
	t.Run("adopted after a kill", func(t *testing.T) { adopted(t, l, e, (*lab.Node).Kill) })
	t.Run("adopted after a stop", func(t *testing.T) { adopted(t, l, e, (*lab.Node).Stop) })
	t.Run("run elsewhere", func(t *testing.T) { runElsewhere(t, l, e) })
}

func whatAStepSees(t *testing.T, l *lab.Lab, _ engine) {
	c, r := anyNode(t, l), repository(t)
	sha := commit(t, r, `
image: `+busyboxImage+`
env: {GREETING: "hello there", LEVEL: low}
resources: {cpu: 500m, memory: 48Mi}
steps:
  - name: environment
    env: {LEVEL: high}
    command: |
      echo "$GREETING, $LEVEL, $CI, $NARWHAL_REPO, $NARWHAL_COMMIT, $NARWHAL_BRANCH, $NARWHAL_JOB, $NARWHAL_ATTEMPT"
      pwd && ls narwhal.yml
  - name: limits
    command: |
      cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes
      cat /sys/fs/cgroup/cpu.max 2>/dev/null || echo $(cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us)
  - name: privileges
    command: |
      grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status
      test ! -e /var/run/docker.sock && echo no socket
      mount -t tmpfs none /mnt 2>/dev/null || echo no mount
`)
	b := ended(t, c, trigger(t, c, r, sha).ID)
	wantStatus(t, b, fsm.Passed)
	id := job(t, b, "build").ID
	text := logText(t, c, id)
	for _, want := range []string{
		fmt.Sprintf("hello there, high, true, %s, %s, main, %s, 1\n/narwhal/src\nnarwhal.yml\n", r.Name, sha, id),
		"\n50331648\n50000 100000\n", // 48Mi, and 500m of a period
		// CHOWN, DAC_OVERRIDE, FOWNER, SETGID, SETUID, NET_BIND_SERVICE: bits 0, 1, 3, 6, 7, 10
		"CapEff:\t00000000000004cb\n", "CapBnd:\t00000000000004cb\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n",
		"no socket\nno mount\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the log:\n%s", want, text)
		}
	}
}

func dependencies(t *testing.T, l *lab.Lab, e engine) {
	c, r := anyNode(t, l), repository(t)
	withAPK := e.derive(t, "sbin/apk", "#!/bin/sh\necho apk \"$@\"\nprintf '#!/bin/sh\\necho I am figlet\\n' >/bin/figlet\nchmod +x /bin/figlet\n", "")
	b := ended(t, c, trigger(t, c, r, commit(t, r, `
resources: {cpu: 500m, memory: 64Mi}
jobs:
  there:
    image: `+debianImage+`
    steps:
      - dependencies: [git, make]
        command: git --version && make --version
  missing:
    image: `+withAPK+`
    steps:
      - dependencies: [sh, figlet]
        command: figlet
  nobody:
    image: `+busyboxImage+`
    steps:
      - dependencies: [figlet]
        command: figlet
`)).ID)
	wantStatus(t, b, fsm.Errored)
	there, missing, nobody := job(t, b, "there"), job(t, b, "missing"), job(t, b, "nobody")
	if text := logText(t, c, there.ID); there.Status != fsm.Passed || !strings.Contains(text, "git version") || strings.Contains(text, "installing") {
		t.Errorf("what the image has is %s, and installed?\n%s", there.Status, text)
	}
	if text := logText(t, c, missing.ID); missing.Status != fsm.Passed || !strings.Contains(text, "apk add --no-cache figlet\n") || !strings.Contains(text, "I am figlet\n") {
		t.Errorf("what the image has not is %s:\n%s", missing.Status, text)
	}
	if nobody.Status != fsm.Errored || nobody.Cause != fsm.CauseConfig || !strings.Contains(nobody.Reason, "nothing to install figlet with") {
		t.Errorf("an image without an installer: %s (%s) %s", nobody.Status, nobody.Cause, nobody.Reason)
	}
}

func labelsAndLimits(t *testing.T, l *lab.Lab, e engine) {
	c, r := anyNode(t, l), repository(t)
	made := trigger(t, c, r, commit(t, r, inBusybox+"steps: [{command: while test ! -e go; do sleep 0.1; done}]\n"))
	j := running(t, c, made.ID, "build")
	seen := e.container(t, j.ID)
	want := map[string]string{
		"narwhal.cluster": e.cluster, "narwhal.node": string(j.Node), "narwhal.build": strconv.FormatUint(uint64(made.ID), 10),
		"narwhal.job": j.ID.String(), "narwhal.attempt": "1",
	}
	for name, value := range want {
		if seen.Config.Labels[name] != value {
			t.Errorf("label %s is %q, want %q", name, seen.Config.Labels[name], value)
		}
	}
	if token := seen.Config.Labels["narwhal.token"]; len(token) != 29 || strings.Trim(token, "-0") == "" {
		t.Errorf("label narwhal.token is %q", token)
	}
	host := seen.HostConfig
	if host.Privileged || !slices.Equal(host.CapDrop, []string{"ALL"}) || !slices.Contains(host.SecurityOpt, "no-new-privileges") {
		t.Errorf("privileged %v, drops %v, options %v", host.Privileged, host.CapDrop, host.SecurityOpt)
	}
	if host.Memory != 32<<20 || host.MemorySwap != 32<<20 || host.NanoCPUs != 250e6 || host.PidsLimit == nil || *host.PidsLimit <= 0 {
		t.Errorf("limits %+v", host.Resources)
	}
	if host.NetworkMode != container.NetworkMode("narwhal-"+string(j.Node)) || len(host.PortBindings) != 0 {
		t.Errorf("it is on network %s, with the ports %v", host.NetworkMode, host.PortBindings)
	}
	put(t, seen, "go")
	wantStatus(t, ended(t, c, made.ID), fsm.Passed)
	if left := e.containers(t, j.ID); len(left) != 0 {
		t.Errorf("%d containers are left after the build", len(left))
	}
}

func outOfMemory(t *testing.T, l *lab.Lab, _ engine) {
	c, r := anyNode(t, l), repository(t)
	b := ended(t, c, trigger(t, c, r, commit(t, r, `
image: `+busyboxImage+`
resources: {cpu: 500m, memory: 64Mi}
steps:
  - {name: modest, command: echo modest}
  - {name: greedy, command: exec tail /dev/zero}
  - {name: later, command: echo later}
`)).ID)
	wantStatus(t, b, fsm.Failed)
	j := job(t, b, "build")
	if b.Cause != fsm.CauseOOM || j.Cause != fsm.CauseOOM || !strings.Contains(j.Reason, "memory limit of 64") || len(j.Attempts) != 1 {
		t.Errorf("want oom, its limit and no second attempt: %s", outline(b))
	}
	a := j.Attempts[0]
	if steps := a.Steps; len(steps) != 3 || steps[0].Status != fsm.Passed || steps[1].Cause != fsm.CauseOOM || steps[2].Status != fsm.Skipped {
		t.Errorf("steps %+v", a.Steps)
	}
	if a.PeakMemory < 32<<20 || a.PeakMemory > 64<<20 {
		t.Errorf("the peak of a job that used all of its 64 MiB is told as %d bytes", a.PeakMemory)
	}
}

func containerTimeout(t *testing.T, l *lab.Lab, e engine) {
	c, r := anyNode(t, l), repository(t)
	b := ended(t, c, trigger(t, c, r, commit(t, r, inBusybox+"timeout: 1s\nsteps: [{command: sleep 600}, {command: echo later}]\n")).ID)
	wantStatus(t, b, fsm.Failed)
	if j := job(t, b, "build"); j.Cause != fsm.CauseTimeout || len(e.containers(t, j.ID)) != 0 {
		t.Errorf("want timeout and no container: %s", outline(b))
	}
}

// cancelContainers cancels a job that ends itself at TERM, and one that has to be
// killed.
func cancelContainers(t *testing.T, l *lab.Lab, e engine) {
	c, r := anyNode(t, l), repository(t)
	made := trigger(t, c, r, commit(t, r, inBusybox+`
jobs:
  polite:
    steps:
      - command: |
          trap 'echo polite got TERM; exit 0' TERM
          echo ready
          while :; do sleep 0.1; done
      - command: echo later
  deaf:
    steps:
      - command: |
          trap 'echo deaf got TERM' TERM
          echo ready
          while :; do sleep 0.1 || true; done
`))
	names := []string{"polite", "deaf"}
	var jobs []api.Job
	for _, name := range names {
		j := running(t, c, made.ID, name)
		awaitLog(t, c, j.ID, "ready\n")
		jobs = append(jobs, j)
	}
	_, err := c.CancelBuild(deadline(t, patience), made.ID)
	must(t, err)
	wantStatus(t, ended(t, c, made.ID), fsm.Canceled)
	for i, j := range jobs {
		text := logText(t, c, j.ID)
		if strings.Count(text, names[i]+" got TERM\n") != 1 || strings.Contains(text, "later\n") {
			t.Errorf("want one TERM in the log of %s, and no later step:\n%s", names[i], text)
		}
		if left := e.containers(t, j.ID); len(left) != 0 {
			t.Errorf("the container of %s is left", names[i])
		}
	}
}

// volumeGoes builds in an image that has a volume: the engine makes one without a
// name for each container.
func volumeGoes(t *testing.T, l *lab.Lab, e engine) {
	c, r := anyNode(t, l), repository(t)
	made := trigger(t, c, r, commit(t, r, "image: "+e.derive(t, "", "", "VOLUME /data")+`
resources: {cpu: 250m, memory: 32Mi}
steps: [{command: echo kept > /data/x; while test ! -e go; do sleep 0.1; done}]
`))
	seen := e.container(t, running(t, c, made.ID, "build").ID)
	at := slices.IndexFunc(seen.Mounts, func(m container.MountPoint) bool { return m.Type == mount.TypeVolume })
	if at < 0 {
		t.Fatalf("it has no volume: %+v", seen.Mounts)
	}
	put(t, seen, "go")
	wantStatus(t, ended(t, c, made.ID), fsm.Passed)
	if _, err := e.api.VolumeInspect(deadline(t, patience), seen.Mounts[at].Name); !errdefs.IsNotFound(err) {
		t.Errorf("volume %s is left: %v", seen.Mounts[at].Name, err)
	}
}

// missingImage takes two retries, after 5 and 20 s.
func missingImage(t *testing.T, l *lab.Lab, _ engine) {
	c, r := anyNode(t, l), repository(t)
	const name = "127.0.0.1:1/no/such:image"
	b := ended(t, c, trigger(t, c, r, commit(t, r, "image: "+name+"\nsteps: [{command: echo never}]\n")).ID)
	wantStatus(t, b, fsm.Errored)
	if j := job(t, b, "build"); j.Cause != fsm.CauseImagePull || len(j.Attempts) != 3 || !strings.Contains(j.Reason, "pull image "+name) {
		t.Errorf("want three attempts, and the image's name: %s", outline(b))
	}
	if !strings.Contains(b.Reason, name) {
		t.Errorf("the build's reason is %q", b.Reason)
	}
}

// defaultImage is that of a file which names none. This machine has no ubuntu and
// no registry, so it is enough that it is asked for.
func defaultImage(t *testing.T, l *lab.Lab, _ engine) {
	c, r := anyNode(t, l), repository(t)
	made := trigger(t, c, r, commit(t, r, "labels: {nowhere: \"yes\"}\nsteps: [{command: echo never}]\n"))
	b := until(t, c, made.ID, "it is planned", func(b api.Build) bool { _, ok := find(b, "build"); return ok })
	if j := job(t, b, "build"); j.Image != "ubuntu" {
		t.Errorf("the image is %q", j.Image)
	}
	_, err := c.CancelBuild(deadline(t, patience), made.ID)
	must(t, err)
}

func noImageName(t *testing.T, l *lab.Lab, _ engine) {
	c, r := anyNode(t, l), repository(t)
	b := ended(t, c, trigger(t, c, r, commit(t, r, "image: \"Not/A/Name:\"\nsteps: [{command: echo never}]\n")).ID)
	wantStatus(t, b, fsm.Errored)
	if b.Cause != fsm.CauseConfig || !strings.Contains(b.Reason, "Not/A/Name:") {
		t.Errorf("want config, and what is wrong: %s", outline(b))
	}
}

// waits has two steps that each wait for a file.
const waits = inBusybox + `
steps:
  - command: |
      echo first begun
      while test ! -e go-1; do sleep 0.1; done
      echo first done
  - command: |
      echo second begun
      while test ! -e go-2; do sleep 0.1; done
      echo second done
`

// adopted ends the node that a job runs on and starts it again. The job's first
// step ends, and its second begins, while no narwhal is there.
func adopted(t *testing.T, l *lab.Lab, e engine, end func(*lab.Node) error) {
	c, r := anyNode(t, l), repository(t)
	made := trigger(t, c, r, commit(t, r, waits))
	j := running(t, c, made.ID, "build")
	awaitLog(t, c, j.ID, "first begun\n")
	before, n := e.container(t, j.ID), nodeOf(t, l, j.Node)
	must(t, end(n))

	put(t, before, "go-1")
	file := mounted(t, before, "/narwhal/job/log")
	await(t, "the second step to begin without narwhal", func(context.Context) (bool, error) {
		data, err := os.ReadFile(file)
		return bytes.Contains(data, []byte("second begun")), err
	})
	must(t, n.Start(deadline(t, patience)))
	settle(t, l)
	c = anyNode(t, l)
	awaitLog(t, c, j.ID, "second begun\n")
	if after := e.container(t, j.ID); after.ID != before.ID || after.State.StartedAt != before.State.StartedAt || !after.State.Running {
		t.Fatalf("container %.12s has become %.12s, %+v", before.ID, after.ID, after.State)
	}
	put(t, before, "go-2")
	b := ended(t, c, made.ID)
	wantStatus(t, b, fsm.Passed)
	if j := job(t, b, "build"); len(j.Attempts) != 1 || len(j.Attempts[0].Steps) != 2 {
		t.Errorf("want one attempt with two steps: %s", outline(b))
	}
	if made := e.created(t, j.ID); made != 1 {
		t.Errorf("the engine has made %d containers for job %s", made, j.ID)
	}
	if text := logText(t, c, j.ID); said(text) != "first begun, first done, second begun, second done" {
		t.Errorf("the log has a gap, or repeats:\n%s", text)
	}
}

// runElsewhere kills the node that a job runs on. Its container runs on, while the
// job is run again on another node; when the node is back the container goes.
func runElsewhere(t *testing.T, l *lab.Lab, e engine) {
	c, r := anyNode(t, l), repository(t)
	made := trigger(t, c, r, commit(t, r, waits))
	j := running(t, c, made.ID, "build")
	awaitLog(t, c, j.ID, "first begun\n")
	old, n := e.container(t, j.ID), nodeOf(t, l, j.Node)
	must(t, n.Kill())
	c = anyNode(t, l)
	b := until(t, c, made.ID, "the second attempt runs", func(b api.Build) bool {
		j, ok := find(b, "build")
		return ok && len(j.Attempts) == 2 && j.Status == fsm.Running
	})
	j = job(t, b, "build")
	if lost := j.Attempts[0]; lost.Cause != fsm.CauseNodeLost || j.Attempts[1].Node == lost.Node {
		t.Errorf("want node_lost, and another node: %s", outline(b))
	}
	for _, seen := range e.containers(t, j.ID) {
		if !seen.State.Running {
			t.Errorf("container %.12s of attempt %s has ended", seen.ID, seen.Config.Labels["narwhal.attempt"])
		}
		put(t, seen, "go-1")
		if seen.ID != old.ID {
			put(t, seen, "go-2")
		}
	}
	b = ended(t, c, made.ID)
	wantStatus(t, b, fsm.Passed)
	if text := logText(t, c, j.ID); said(text) != "first begun, first done, second begun, second done" {
		t.Errorf("the second attempt's log:\n%s", text)
	}
	if left := e.container(t, j.ID); left.ID != old.ID {
		t.Fatalf("container %.12s is left, want the dead node's", left.ID)
	}
	must(t, n.Start(deadline(t, patience)))
	await(t, "the superseded container to go", func(context.Context) (bool, error) {
		return len(e.containers(t, j.ID)) == 0, fmt.Errorf("it is there")
	})
	// By the client that saw the end: a node that has just started may be behind, and
	// waits for the index that the client has seen.
	now, err := c.Build(deadline(t, patience), made.ID)
	must(t, err)
	if now.Status != fsm.Passed || now.EndedAt != b.EndedAt || len(job(t, now, "build").Attempts) != 2 {
		t.Errorf("the build has changed after its end: %s", outline(now))
	}
	if made := e.created(t, j.ID); made != 2 {
		t.Errorf("the engine has made %d containers for two attempts", made)
	}
}

// awaitLog waits until a job has printed a text.
func awaitLog(t *testing.T, c *client.Client, id fsm.JobID, text string) {
	t.Helper()
	await(t, fmt.Sprintf("job %s to print %q", id, text), func(ctx context.Context) (bool, error) {
		var log bytes.Buffer
		err := c.ReadLog(ctx, id, 0, &log)
		return strings.Contains(log.String(), text), err
	})
}

// said are the lines of a log of the job waits.
func said(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "first ") || strings.HasPrefix(line, "second ") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, ", ")
}

func nodeOf(t *testing.T, l *lab.Lab, id fsm.NodeID) *lab.Node {
	t.Helper()
	for _, n := range l.Nodes {
		if n.ID == id {
			return n
		}
	}
	t.Fatalf("no node is %s", id)
	return nil
}
