package executor_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/client"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
	"github.com/codepr/narwhal/supervise"
)

// unbegun is a job whose container is as it was before its narwhal told it to begin,
// and not started. That narwhal is gone. change may make it another version's.
func unbegun(t *testing.T, k *kit, c *client.Client, change func(*executor.Task, *container.Config, *container.HostConfig)) (executor.Task, string) {
	t.Helper()
	task := withSecrets(t, k)
	task.Work.Spec.Steps[1].Command[0] = `[ "${#OTHER}" = 14 ] && echo up; while [ ! -e go ]; do sleep 0.02; done`
	k.startElsewhere(t, task)
	id := name(k, task)
	found, err := c.ContainerInspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	removeContainer(t, id)
	for _, file := range []string{supervise.JournalFile, supervise.LogFile} {
		if err := os.Truncate(filepath.Join(task.Dir, file), 0); err != nil {
			t.Fatal(err)
		}
	}
	found.Config.Hostname = ""
	if change != nil {
		change(&task, found.Config, found.HostConfig)
	}
	if _, err := c.ContainerCreate(t.Context(), found.Config, found.HostConfig, nil, nil, id); err != nil {
		t.Fatal(err)
	}
	return task, id
}

// waits starts the container and returns when its supervisor waits for its job.
func waits(t *testing.T, c *client.Client, task executor.Task, id string) (socket string) {
	t.Helper()
	if err := c.ContainerStart(t.Context(), id, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(task.Dir, supervise.SocketsDir, supervise.WarmSocket)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := supervise.Waiting(ctx, socket); err != nil {
		t.Fatal(err)
	}
	return socket
}

// TestAdoptBeforeItBegan: narwhal ended between making a job's container and handing it
// the secrets. The next one does, whatever the first had come to, and once.
func TestAdoptBeforeItBegan(t *testing.T) {
	for at, reach := range map[string]func(*testing.T, *client.Client, executor.Task, string){
		"made":    func(*testing.T, *client.Client, executor.Task, string) {},
		"started": func(t *testing.T, c *client.Client, task executor.Task, id string) { waits(t, c, task, id) },
		"half told": func(t *testing.T, c *client.Client, task executor.Task, id string) {
			mumble(t, waits(t, c, task, id))
		},
		"told, and nobody heard": func(t *testing.T, c *client.Client, task executor.Task, id string) {
			if err := supervise.Begin(t.Context(), waits(t, c, task, id), task.Secrets); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(at, func(t *testing.T) {
			k, c := newDocker(t), api(t)
			task, id := unbegun(t, k, c, nil)
			reach(t, c, task, id)
			if err := k.ex.Sweep(t.Context(), func(ref fsm.AttemptRef) bool { return ref == task.Ref }); err != nil {
				t.Fatal(err)
			}
			run, err := k.ex.Adopt(t.Context(), task)
			if err != nil {
				t.Fatal(err)
			}
			until(t, task, "up")
			touch(t, filepath.Join(task.Workspace, "go"))
			expect(t, wait(t, run), fsm.Passed, "", "")
			if got := printed(t, task); strings.Count(got, "up\n") != 1 {
				t.Errorf("printed %q", got)
			}
		})
	}
}

// TestAdoptWhatCannotBegin: of a job that waits for secrets that this narwhal hasn't,
// or that has stopped waiting, nothing is left, and it can be started anew.
func TestAdoptWhatCannotBegin(t *testing.T) {
	for at, reach := range map[string]func(*testing.T, *client.Client, *executor.Task, string){
		"without the secrets": func(t *testing.T, c *client.Client, task *executor.Task, id string) {
			waits(t, c, *task, id)
			task.Secrets = nil
		},
		"made, without the secrets": func(_ *testing.T, _ *client.Client, task *executor.Task, _ string) { task.Secrets = nil },
		"after it has waited": func(t *testing.T, c *client.Client, task *executor.Task, id string) {
			waits(t, c, *task, id)
			grace := 0
			if err := c.ContainerStop(t.Context(), id, container.StopOptions{Timeout: &grace}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(at, func(t *testing.T) {
			k, c := newDocker(t), api(t)
			task, id := unbegun(t, k, c, nil)
			reach(t, c, &task, id)
			nothingToAdopt(t, k, c, task, id)
		})
	}
}

func nothingToAdopt(t *testing.T, k *kit, c *client.Client, task executor.Task, id string) {
	t.Helper()
	if _, err := k.ex.Adopt(t.Context(), task); !errors.Is(err, executor.ErrGone) {
		t.Errorf("adopted: %v", err)
	}
	if _, err := c.ContainerInspect(t.Context(), id); err == nil {
		t.Error("the container is left")
	}
	if began, err := task.Began(); err != nil || began {
		t.Errorf("began %v, %v", began, err)
	}
}

// TestAdoptBeforeItBeganAndStopped: a job that somebody has stopped never begins.
func TestAdoptBeforeItBeganAndStopped(t *testing.T) {
	k, c := newDocker(t), api(t)
	task, id := unbegun(t, k, c, nil)
	waits(t, c, task, id)
	if err := supervise.Note(filepath.Join(task.Dir, supervise.JournalFile), supervise.Record{Kind: supervise.RecordStop}); err != nil {
		t.Fatal(err)
	}
	run, err := k.ex.Adopt(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, wait(t, run), fsm.Canceled, fsm.CauseCanceled, "before it began")
	if _, err := c.ContainerInspect(t.Context(), id); err == nil || printed(t, task) != "" {
		t.Errorf("the container is left (%v), printed %q", err, printed(t, task))
	}
}

// TestAdoptFromAVersionWithSecretFiles: versions of narwhal before this one left the
// secrets in a file in memory. What runs goes on; what was not started is started anew.
func TestAdoptFromAVersionWithSecretFiles(t *testing.T) {
	memory := t.TempDir()
	k, c := newDocker(t, func(c *executor.DockerConfig) { c.SecretDir = memory }), api(t)
	file := filepath.Join(memory, "narwhal-"+string(k.node))
	asBefore := func(task *executor.Task, config *container.Config, host *container.HostConfig) {
		if err := os.MkdirAll(file, 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(file, task.Ref.Job.String()+"_1_"+task.Ref.Token.String())
		if err := errors.Join(os.WriteFile(path, []byte(`{"TOKEN": "s3cr3t-t0k3n", "OTHER": "an other value"}`), 0o600), os.Chmod(path, 0o666)); err != nil {
			t.Fatal(err)
		}
		config.Entrypoint = slices.DeleteFunc(config.Entrypoint, func(arg string) bool { return arg == "--warm" })
		host.Mounts = append(host.Mounts, mount.Mount{Type: mount.TypeBind, Source: path, Target: "/narwhal/job/secrets"})
	}
	task, id := unbegun(t, k, c, asBefore)
	if err := c.ContainerStart(t.Context(), id, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, task, "up")
	run, err := k.ex.Adopt(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	touch(t, filepath.Join(task.Workspace, "go"))
	expect(t, wait(t, run), fsm.Passed, "", "")

	task, id = unbegun(t, k, c, asBefore)
	nothingToAdopt(t, k, c, task, id)
	if err := k.ex.Sweep(t.Context(), none); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(memory, "*")); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestTooManySecrets: what can't be handed on is the job's error, before it begins.
func TestTooManySecrets(t *testing.T) {
	k, c := newDocker(t), api(t)
	task := k.task(t, "echo never")
	task.Secrets = make(map[string]string)
	for _, n := range []string{"A", "B", "C"} {
		task.Secrets[n] = strings.Repeat("x", 400<<10)
	}
	expect(t, k.run(t, task), fsm.Errored, fsm.CauseConfig, "1024 KiB")
	if left := things(t, c, k.node); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestSecretsWithServicesAndSatellites: the container that is handed the secrets is the
// last of several, and a service that never comes up is told of as ever.
func TestSecretsWithServicesAndSatellites(t *testing.T) {
	k := newDocker(t)
	task := withSecrets(t, k)
	task.Work.Spec.Steps[1].Image = derive(t, "ENV MARK=another")
	task.Work.Spec.Services = []pipeline.Service{shell("db", hello, nil)}
	expect(t, k.run(t, task), fsm.Passed, "", "")
	if got := printed(t, task); !strings.Contains(got, "there\n") || strings.Contains(got, "an other value") {
		t.Errorf("printed %q", got)
	}
	task = withSecrets(t, k)
	task.Work.Spec.Services = []pipeline.Service{shell("db", "exit 3", &pipeline.Ready{Port: 9, Timeout: 20 * time.Second})}
	expect(t, k.run(t, task), fsm.Errored, fsm.CauseFailure, "service db ended with exit code 3")
}
