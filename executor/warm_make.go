package executor

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/pipeline"
	"github.com/codepr/narwhal/supervise"
)

const (
	makeTimeout = time.Minute
	dropTimeout = 10 * time.Second
)

func newSlotID() string { return strings.ToLower(rand.Text()[:16]) }

// used notes that the attempt's image is in use, and has the pool's loop run.
func (d *Docker) used(ctx context.Context, t Task, images map[string]picture) {
	key, ok := keyOf(t)
	w := d.warm
	w.mu.Lock()
	defer w.mu.Unlock()
	if !ok || w.perKey == 0 || w.shut || len(images[key.image].volumes) > 0 { // whose labels are an attempt's
		return
	}
	w.uses[key] = warmUse{at: time.Now(), task: Task{
		Work:    link.Work{Spec: &pipeline.Job{Image: key.image, Resources: t.Work.Spec.Resources}},
		Cluster: t.Cluster, Node: t.Node, ObjectsDir: key.objects,
	}}
	if w.stop == nil {
		ctx, w.stop = context.WithCancel(context.WithoutCancel(ctx))
		w.loop.Go(func() { d.tend(ctx) })
	}
	w.nudge()
}

// end has nothing made any more, and what nobody has claimed removed.
func (w *warmPool) end() {
	w.mu.Lock()
	w.shut = true
	if w.stop != nil {
		w.stop()
	}
	w.mu.Unlock()
	w.loop.Wait()
}

// tend makes and removes, one after the other.
func (d *Docker) tend(ctx context.Context) {
	defer d.dropAll(context.WithoutCancel(ctx))
	for ctx.Err() == nil {
		drop, add, use, again := d.warm.next(time.Now())
		switch {
		case drop != nil:
			if err := d.dropSlot(ctx, drop); err != nil && ctx.Err() == nil {
				d.log.Warn("remove container made ahead, trying again", "slot", drop.id, "error", err)
				sleep(ctx, lastRetry)
			}
		case add != nil:
			d.add(ctx, add, use)
		default:
			timer := time.NewTimer(again)
			select {
			case <-ctx.Done():
			case <-d.warm.kick:
			case <-timer.C:
			}
			timer.Stop()
		}
	}
}

// add makes a slot. Of one that can't be made nothing is left, and it is not tried
// again before its image is used again.
func (d *Docker) add(ctx context.Context, s *slot, use warmUse) {
	began := time.Now()
	making, cancel := context.WithTimeout(ctx, makeTimeout)
	err := d.makeSlot(making, s, use.task)
	cancel()
	w := d.warm
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		s.state = free
		d.log.Debug("made a container ahead", "image", s.key.image, "slot", s.id, "took", time.Since(began))
		return
	}
	s.state = doomed
	delete(w.uses, s.key)
	if ctx.Err() == nil {
		d.log.Warn("make container ahead", "image", s.key.image, "error", err)
	}
}

func (d *Docker) makeSlot(ctx context.Context, s *slot, t Task) error {
	t.Dir, t.Workspace = s.dir, filepath.Join(s.dir, slotSource)
	hold := d.store.hold()
	defer hold.release()
	found, err := d.inspectImage(ctx, s.key.image, hold)
	if err != nil {
		return err
	}
	if s.files, err = layOut(t); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	engine, err := d.engine(ctx)
	if err != nil {
		return err
	}
	if err := d.ensureNetwork(ctx); err != nil {
		return err
	}
	set := &setting{t: t, engine: engine, images: map[string]picture{s.key.image: found}, network: d.nodeNetwork()}
	s.shape, s.limits = d.shape(set), d.hostConfig(set).Resources
	// An engine goes on with what it was asked for and is not to do any more: then it is
	// made after it was looked for.
	patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), makeTimeout)
	s.container, err = d.create(patient, set, d.warmPart(t, s.id))
	cancel()
	if err := errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	data, err := json.Marshal(slotRecord{Slot: s.id, Container: s.container})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.dir, slotFile), data, 0o600); err != nil {
		return err
	}
	if err := d.api.ContainerStart(ctx, s.container, container.StartOptions{}); err != nil {
		return fmt.Errorf("start container: %w", err)
	}
	return supervise.Waiting(ctx, filepath.Join(s.dir, supervise.SocketsDir, supervise.WarmSocket))
}

// slotRecord is in slotFile.
type slotRecord struct {
	Slot      string `json:"slot"`
	Container string `json:"container"`
}

// layOut makes a slot's folder, and gives what is to be mounted.
func layOut(t Task) (map[string]fs.FileInfo, error) {
	if err := os.MkdirAll(filepath.Dir(t.Dir), 0o700); err != nil {
		return nil, err
	}
	// A container's user reads it; the folder above is closed.
	if err := errors.Join(os.Mkdir(t.Dir, 0o755), os.Mkdir(t.Workspace, 0o755), t.layOut()); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(t.Dir, supervise.SpecFile), nil, 0o644); err != nil {
		return nil, err
	}
	return mounted(t)
}

// mounted looks at what a container made ahead has mounted, by its path.
func mounted(t Task) (map[string]fs.FileInfo, error) {
	files := make(map[string]fs.FileInfo)
	for _, name := range slotNames {
		info, err := os.Lstat(filepath.Join(t.Dir, name))
		if err != nil {
			return nil, err
		}
		files[name] = info
	}
	if t.ObjectsDir != "" {
		info, err := os.Stat(t.ObjectsDir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err == nil {
			files[t.ObjectsDir] = info
		}
	}
	return files, nil
}

// warmPart is the job's container, with a supervisor that waits.
func (d *Docker) warmPart(t Task, id string) part {
	p := d.job(t)
	p.role, p.name = roleWarm, id
	p.config.Entrypoint = []string{binaryIn, "supervise", waitFlag, superviseIn}
	return p
}

// shape is all by which a container of one task can differ from another's, but for
// the folder, the limits, which can be changed, and secrets, which it is sent.
func (d *Docker) shape(s *setting) string {
	t := s.t
	t.Secrets = nil
	p, host := d.job(t), d.hostConfig(s)
	host.Resources = container.Resources{}
	for _, m := range p.mounts {
		m.Source = strings.TrimPrefix(m.Source, t.Dir+string(filepath.Separator))
		host.Mounts = append(host.Mounts, m)
	}
	data, err := json.Marshal([]any{p.config, host, s.images[p.image].id, t.Cluster, t.Node})
	if err != nil {
		return "" // of texts and numbers: it can't
	}
	return string(data)
}

func (d *Docker) warmName(id string) string {
	return fmt.Sprintf("narwhal-%s-%s-%s", d.cfg.Node, roleWarm, id)
}

// dropSlot removes a slot: the container, and its folder where that has not become an
// attempt's.
func (d *Docker) dropSlot(ctx context.Context, s *slot) error {
	name := s.container
	if name == "" {
		name = d.warmName(s.id)
	}
	if err := d.removeWarm(ctx, name); err != nil {
		return err
	}
	if s.dir == filepath.Join(d.warm.dir, s.id) {
		if err := os.RemoveAll(s.dir); err != nil {
			return err
		}
	} else if err := leaveSlot(s.dir); err != nil {
		return err
	}
	d.warm.forget(s.id)
	return nil
}

// removeWarm returns when the container is gone: it still has an attempt's folder.
func (d *Docker) removeWarm(ctx context.Context, name string) error {
	for {
		err := d.api.ContainerRemove(ctx, name, container.RemoveOptions{Force: true, RemoveVolumes: true})
		switch {
		case err == nil || errdefs.IsNotFound(err):
			return nil
		case !errdefs.IsConflict(err) || ctx.Err() != nil: // a conflict says that it is being removed already
			return fmt.Errorf("remove container %.12s: %w", name, err)
		}
		sleep(ctx, firstRetry)
	}
}

// leaveSlot makes a folder an attempt's alone. One that never was a slot is left as it
// is: its container may wait at the same socket.
func leaveSlot(dir string) error {
	file := filepath.Join(dir, slotFile)
	if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	// A job may have put anything there by now, which is then its own.
	_ = os.Remove(filepath.Join(dir, supervise.SocketsDir, supervise.WarmSocket))
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// dropAll is for the end of this process. Taken ones are a job's.
func (d *Docker) dropAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, dropTimeout)
	defer cancel()
	w := d.warm
	w.mu.Lock()
	var list []*slot
	for _, s := range w.slots {
		if s.state != taken {
			s.state = doomed
			list = append(list, s)
		}
	}
	w.mu.Unlock()
	for _, s := range list {
		if err := d.dropSlot(ctx, s); err != nil {
			d.log.Warn("leave a container that was made ahead", "slot", s.id, "error", err)
		}
	}
	_ = os.Remove(w.dir) // it stays while there is something in it
}
