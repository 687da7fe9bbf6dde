package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
	"golang.org/x/sys/unix"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// within is how long after a crash nothing may be left whose attempt does not live.
const within = 60 * time.Second

// TestNoLeftovers kills narwhal while jobs with services run, and the container of
// one of them. When narwhal is back nothing is left of the dead attempts in the
// engine nor on the disk, and nothing has happened to the one that lives, nor to what
// is another cluster's or somebody else's.
func TestNoLeftovers(t *testing.T) {
	t.Parallel()
	l, e := dockerCluster(t, lab.Options{Nodes: 1, Args: []string{"--stop-grace", "1s"}})
	n, c, r := l.Nodes[0], anyNode(t, l), repository(t)
	const file = `
services: [{name: web, image: ` + busyboxImage + `, command: [httpd, -f, -p, "8080"], ready: {port: 8080, timeout: 60s}}]
steps: [{command: echo begun; while test ! -e go; do sleep 0.1; done}]
`
	dying := trigger(t, c, r, commit(t, r, inBusybox+file))
	living := trigger(t, c, r, commit(t, r, inBusybox+"env: {B: b}"+file))
	dies, lives := running(t, c, dying.ID, "build"), running(t, c, living.ID, "build")
	for _, j := range []fsm.JobID{dies.ID, lives.ID} {
		awaitLog(t, c, j, "begun\n")
	}
	before := idsOf(e.containers(t, lives.ID))
	must(t, n.Kill())
	dead := e.labelled("narwhal.job="+dies.ID.String(), "narwhal.role=job")
	found, err := e.api.ContainerList(deadline(t, patience), container.ListOptions{Filters: dead})
	must(t, err)
	if len(found) != 1 {
		t.Fatalf("job %s has %d containers of its own", dies.ID, len(found))
	}
	must(t, e.api.ContainerKill(deadline(t, patience), found[0].ID, "KILL"))
	labels := map[string]string{
		"narwhal.cluster": e.cluster, "narwhal.node": string(n.ID), "narwhal.build": "99", "narwhal.job": "99.1",
		"narwhal.attempt": "1", "narwhal.token": "00000001-00000000000000000001",
	}
	orphan := e.plant(t, labels)
	other := maps.Clone(labels)
	other["narwhal.cluster"] = "another"
	kept := []planted{e.plant(t, other), e.plant(t, nil)}
	garbage := litter(t, n)

	must(t, n.Start(deadline(t, patience)))
	limit := deadline(t, within)
	gone := func(what string, look func(context.Context) error) {
		t.Helper()
		must(t, lab.Await(limit, what, func(ctx context.Context) (bool, error) {
			err := look(ctx)
			return err == nil, err
		}))
	}
	gone("what is nobody's to go", func(ctx context.Context) error { return orphan.left(ctx, e) })
	gone("what a killed process left on the disk to go", func(context.Context) error { return there(garbage) })
	gone("the dead attempt to go", func(ctx context.Context) error {
		return e.attemptLeft(ctx, n, fsm.AttemptRef{Job: dies.ID, N: 1})
	})
	for _, p := range kept {
		if err := p.whole(deadline(t, patience), e); err != nil {
			t.Errorf("what is not ours has been touched: %v", err)
		}
	}
	settle(t, l)
	c = anyNode(t, l)
	_, _ = c.CancelBuild(deadline(t, patience), dying.ID) // for a second attempt, if there is one: else it has ended
	if after := idsOf(e.containers(t, lives.ID)); !slices.Equal(after, before) {
		t.Fatalf("the containers %v of the job that lives have become %v", before, after)
	}
	must(t, os.WriteFile(filepath.Join(n.Dir, "attempts", lives.ID.String()+"-1", "src", "go"), nil, 0o644))
	wantStatus(t, ended(t, c, living.ID), fsm.Passed)
	ended(t, c, dying.ID)
	// The workspace goes once the result is on its way.
	gone("what the one that lived has left to go", func(ctx context.Context) error {
		return e.attemptLeft(ctx, n, fsm.AttemptRef{Job: lives.ID, N: 1})
	})
}

func idsOf(all []container.InspectResponse) (ids []string) {
	for _, c := range all {
		ids = append(ids, c.ID)
	}
	slices.Sort(ids)
	return ids
}

// planted is one thing of each kind in the engine.
type planted struct{ container, network, volume string }

// plant makes them with labels. They go with the test.
func (e engine) plant(t *testing.T, labels map[string]string) planted {
	t.Helper()
	ctx := deadline(t, patience)
	made, err := e.api.ContainerCreate(ctx, &container.Config{Image: busyboxImage, Cmd: []string{"true"}, Labels: labels}, nil, nil, nil, "")
	must(t, err)
	name := fmt.Sprintf("e2e-%d", time.Now().UnixNano())
	t.Cleanup(func() {
		ctx := context.Background()
		for _, err := range []error{
			e.api.ContainerRemove(ctx, made.ID, container.RemoveOptions{Force: true}), e.api.NetworkRemove(ctx, name), e.api.VolumeRemove(ctx, name, true),
		} {
			if err != nil && !errdefs.IsNotFound(err) {
				t.Error(err)
			}
		}
	})
	_, err = e.api.NetworkCreate(ctx, name, network.CreateOptions{Labels: labels})
	must(t, err)
	_, err = e.api.VolumeCreate(ctx, volume.CreateOptions{Name: name, Labels: labels})
	must(t, err)
	return planted{made.ID, name, name}
}

// look asks the engine for each, in the order of the fields.
func (p planted) look(ctx context.Context, e engine) (errs [3]error) {
	_, errs[0] = e.api.ContainerInspect(ctx, p.container)
	_, errs[1] = e.api.NetworkInspect(ctx, p.network, network.InspectOptions{})
	_, errs[2] = e.api.VolumeInspect(ctx, p.volume)
	return errs
}

// left is an error while any of them is there.
func (p planted) left(ctx context.Context, e engine) error {
	for i, err := range p.look(ctx, e) {
		if !errdefs.IsNotFound(err) {
			return fmt.Errorf("the %s is there", []string{"container", "network", "volume"}[i])
		}
	}
	return nil
}

// whole is an error where one of them is not there.
func (p planted) whole(ctx context.Context, e engine) error {
	errs := p.look(ctx, e)
	return errors.Join(errs[:]...)
}

// litter puts what a crash may leave into a node's folders, and names it.
func litter(t *testing.T, n *lab.Node) (paths []string) {
	t.Helper()
	packs, err := filepath.Glob(filepath.Join(n.Dir, "mirrors", "*", "objects", "pack"))
	must(t, err)
	if len(packs) == 0 {
		t.Fatal("the node has no mirror")
	}
	attempt := filepath.Join(n.Dir, "attempts", "99.1-1")
	for _, path := range []string{
		filepath.Join(attempt, "src", "x"), filepath.Join(attempt, "in", "x"), filepath.Join(attempt, "out", "x"),
		filepath.Join(attempt, "sock", "x"), filepath.Join(attempt, "spec.json"),
		filepath.Join(packs[0], "tmp_pack_left"), filepath.Join(n.Dir, "mirrors", ".new-left", "HEAD"),
		filepath.Join(n.Dir, "blobs", "new-left"), filepath.Join(n.Dir, "bundles", "new-left"),
		filepath.Join(inMemory(t), "narwhal-"+string(n.ID), "99.1_1_00000001-00000000000000000001"),
	} {
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, []byte("left"), 0o600))
		paths = append(paths, path)
	}
	return append(paths, filepath.Join(attempt, "src"), filepath.Join(attempt, "sock"))
}

// inMemory is where nodes of earlier versions put secrets on their way into containers.
func inMemory(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{"/run", "/dev/shm"} {
		var found syscall.Statfs_t
		if syscall.Statfs(dir, &found) == nil && found.Type == unix.TMPFS_MAGIC && unix.Access(dir, unix.W_OK) == nil {
			return dir
		}
	}
	t.Fatal("no folder is in memory")
	return ""
}

// there is an error while one of the paths is.
func there(paths []string) error {
	for _, p := range paths {
		if _, err := os.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is there", p)
		}
	}
	return nil
}

// attemptLeft is an error while something of an attempt is left in the engine, or
// more of it on the disk than its log and journal.
func (e engine) attemptLeft(ctx context.Context, n *lab.Node, ref fsm.AttemptRef) error {
	args := e.labelled("narwhal.job="+ref.Job.String(), fmt.Sprintf("narwhal.attempt=%d", ref.N))
	containers, err := e.api.ContainerList(ctx, container.ListOptions{All: true, Filters: args})
	if err != nil {
		return err
	}
	networks, err := e.api.NetworkList(ctx, network.ListOptions{Filters: args})
	if err != nil {
		return err
	}
	volumes, err := e.api.VolumeList(ctx, volume.ListOptions{Filters: args})
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(n.Dir, "attempts", fmt.Sprintf("%s-%d", ref.Job, ref.N)))
	if err != nil {
		return err
	}
	files := make([]string, 0, len(entries))
	for _, entry := range entries {
		files = append(files, entry.Name())
	}
	if len(containers)+len(networks)+len(volumes.Volumes) > 0 || !slices.Equal(files, []string{"journal", "log"}) {
		return fmt.Errorf("%d containers, %d networks, %d volumes, files %v", len(containers), len(networks), len(volumes.Volumes), files)
	}
	return nil
}
