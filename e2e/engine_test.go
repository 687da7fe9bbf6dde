package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	docker "github.com/docker/docker/client"
	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// The images that scripts/images.sh makes.
const (
	busyboxImage = "narwhal/busybox:test"
	debianImage  = "narwhal/debian:local"
)

// engine is what the real Docker engine has of one cluster.
type engine struct {
	api     *docker.Client
	cluster string // its ID
	made    *made
}

// made counts the containers that the engine makes, by cluster and job, while a test
// runs: the engine itself remembers some hundred events, of all tests together.
type made struct {
	mu     sync.Mutex
	counts map[[2]string]int
	broken error
}

// countMade counts from now on.
func countMade(t *testing.T, api *docker.Client) *made {
	t.Helper()
	m := &made{counts: make(map[[2]string]int)}
	ctx, cancel := context.WithCancel(context.Background())
	messages, errs := api.Events(ctx, events.ListOptions{Since: stamp(time.Now()), Filters: filters.NewArgs(
		filters.Arg("type", string(events.ContainerEventType)), filters.Arg("event", string(events.ActionCreate)))})
	var counting sync.WaitGroup
	counting.Go(func() {
		for {
			select {
			case e := <-messages:
				m.mu.Lock()
				m.counts[[2]string{e.Actor.Attributes["narwhal.cluster"], e.Actor.Attributes["narwhal.job"]}]++
				m.mu.Unlock()
			case err := <-errs:
				m.mu.Lock()
				m.broken = err
				m.mu.Unlock()
				return
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		counting.Wait()
	})
	return m
}

// dockerCluster starts nodes that run jobs in containers. At the test's end they
// are stopped in order, and then nothing of theirs may be left in the engine.
func dockerCluster(t *testing.T, opts lab.Options) (*lab.Lab, engine) {
	t.Helper()
	api, err := docker.NewClientWithOpts(docker.WithAPIVersionNegotiation())
	must(t, err)
	t.Cleanup(func() { _ = api.Close() })
	e := engine{api: api, made: countMade(t, api)}
	for _, name := range []string{busyboxImage, debianImage} {
		if _, err := api.ImageInspect(deadline(t, patience), name); err != nil {
			t.Fatalf("%v; run scripts/images.sh busybox debian", err)
		}
	}
	opts.Executor = "docker"
	l := cluster(t, opts)
	status, err := anyNode(t, l).Status(deadline(t, patience))
	must(t, err)
	e.cluster = status.ClusterID
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		var stops errgroup.Group
		for _, n := range l.Nodes {
			stops.Go(n.Stop)
		}
		if err := stops.Wait(); err != nil {
			t.Error(err)
		}
		if err := e.empty(ctx); err != nil {
			t.Error(err)
		}
	})
	return l, e
}

// empty tells what the cluster has left, and removes it: it is not to make other
// tests fail too.
func (e engine) empty(ctx context.Context) error {
	var errs []error
	found, err := e.api.ContainerList(ctx, container.ListOptions{All: true, Filters: e.labelled()})
	errs = append(errs, err)
	for _, c := range found {
		errs = append(errs, fmt.Errorf("container %.12s of job %s is left (%s)", c.ID, c.Labels["narwhal.job"], c.Status),
			e.api.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true, RemoveVolumes: true}))
	}
	networks, err := e.api.NetworkList(ctx, network.ListOptions{Filters: e.labelled()})
	errs = append(errs, err)
	for _, n := range networks {
		errs = append(errs, fmt.Errorf("network %s is left", n.Name), e.api.NetworkRemove(ctx, n.ID))
	}
	return errors.Join(errs...)
}

// labelled are the filters for what is the cluster's, and has more labels.
func (e engine) labelled(more ...string) filters.Args {
	args := filters.NewArgs(filters.Arg("label", "narwhal.cluster="+e.cluster))
	for _, l := range more {
		args.Add("label", l)
	}
	return args
}

// containers are those of a job that are there now, whatever their state.
func (e engine) containers(t *testing.T, id fsm.JobID) []container.InspectResponse {
	t.Helper()
	found, err := e.api.ContainerList(deadline(t, patience), container.ListOptions{All: true, Filters: e.labelled("narwhal.job=" + id.String())})
	must(t, err)
	var all []container.InspectResponse
	for _, c := range found {
		seen, err := e.api.ContainerInspect(deadline(t, patience), c.ID)
		if errdefs.IsNotFound(err) { // the list may be behind when one is removed
			continue
		}
		must(t, err)
		all = append(all, seen)
	}
	return all
}

// container is a job's only one.
func (e engine) container(t *testing.T, id fsm.JobID) container.InspectResponse {
	t.Helper()
	all := e.containers(t, id)
	if len(all) != 1 {
		t.Fatalf("job %s has %d containers, want 1", id, len(all))
	}
	return all[0]
}

// created is how many containers the engine has ever made for a job.
func (e engine) created(t *testing.T, id fsm.JobID) int {
	t.Helper()
	e.made.mu.Lock()
	defer e.made.mu.Unlock()
	if e.made.broken != nil {
		t.Fatal(e.made.broken)
	}
	return e.made.counts[[2]string{e.cluster, id.String()}]
}

// stamp is a time as the engine's events take it.
func stamp(at time.Time) string { return fmt.Sprintf("%d.%09d", at.Unix(), at.Nanosecond()) }

// mounted is where something of a container lies on this machine.
func mounted(t *testing.T, c container.InspectResponse, destination string) string {
	t.Helper()
	for _, m := range c.Mounts {
		if m.Destination == destination {
			return m.Source
		}
	}
	t.Fatalf("container %.12s has no %s: %+v", c.ID, destination, c.Mounts)
	return ""
}

// put makes an empty file in a container's workspace, for a step that waits for it.
func put(t *testing.T, c container.InspectResponse, name string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(mounted(t, c, "/narwhal/src"), name), nil, 0o644))
}

// derive makes an image from busybox's, with one more program and a change of its
// settings, both optional. It goes with the test.
func (e engine) derive(t *testing.T, program, text, change string) string {
	t.Helper()
	ctx := deadline(t, patience)
	name := "narwhal/e2e:" + strings.ToLower(filepath.Base(t.TempDir())) + fmt.Sprint(time.Now().UnixNano())
	made, err := e.api.ContainerCreate(ctx, &container.Config{Image: busyboxImage}, nil, nil, nil, "")
	must(t, err)
	if program != "" {
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		must(t, w.WriteHeader(&tar.Header{Name: program, Mode: 0o755, Size: int64(len(text))}))
		_, err := io.WriteString(w, text)
		must(t, errors.Join(err, w.Close()))
		must(t, e.api.CopyToContainer(ctx, made.ID, "/", &archive, container.CopyToContainerOptions{}))
	}
	var changes []string
	if change != "" {
		changes = append(changes, change)
	}
	_, err = e.api.ContainerCommit(ctx, made.ID, container.CommitOptions{Reference: name, Changes: changes})
	must(t, errors.Join(err, e.api.ContainerRemove(ctx, made.ID, container.RemoveOptions{Force: true})))
	t.Cleanup(func() {
		if _, err := e.api.ImageRemove(context.Background(), name, image.RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	})
	return name
}
