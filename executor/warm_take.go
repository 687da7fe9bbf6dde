package executor

import (
	"context"
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

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/supervise"
)

// takeOver runs the attempt in the container that it has claimed. There is no Run
// where it has none, or one that can't be used: nothing is left of that then.
func (d *Docker) takeOver(ctx context.Context, s *setting) (Run, error) {
	slot := d.warm.take(s.t.Ref)
	if slot == nil {
		return nil, nil
	}
	err := d.handOver(ctx, s, slot)
	if err == nil {
		return &dockerRun{d: d, t: s.t, id: slot.container}, nil
	}
	d.log.Info("a container made ahead can't be used", "attempt", s.t.Ref.String(), "error", err)
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := d.dropSlot(cleanup, slot); err != nil {
		d.warm.doom(slot)
		return nil, err
	}
	// Only now can't it begin any more.
	records, readErr := supervise.ReadJournal(s.t.journal())
	if readErr != nil {
		return nil, readErr
	}
	if supervise.Has(records, supervise.RecordBegun) {
		return ended{d.verdict(s.t, records, nil)}, nil
	}
	return nil, ctx.Err()
}

// handOver makes the container the attempt's and has it begin. The spec is written.
func (d *Docker) handOver(ctx context.Context, s *setting, w *slot) error {
	s.network = d.nodeNetwork()
	if hasBeside(s.t) || d.shape(s) != w.shape {
		return errors.New("it is not as this job's would be")
	}
	now, err := mounted(s.t)
	if err != nil {
		return err
	}
	if len(now) != len(w.files) {
		return errors.New("other folders are mounted")
	}
	for path, info := range now {
		if w.files[path] == nil || !os.SameFile(info, w.files[path]) {
			return fmt.Errorf("%s is another by now", filepath.Base(path))
		}
	}
	if want := d.hostConfig(s).Resources; !sameLimits(want, w.limits) {
		if _, err := d.api.ContainerUpdate(ctx, w.container, container.UpdateConfig{Resources: want}); err != nil {
			return fmt.Errorf("limit container: %w", err)
		}
	}
	// The engine keeps names over a crash of the machine, unlike a journal.
	if err := d.api.ContainerRename(ctx, w.container, d.containerName(s.t)); err != nil {
		return fmt.Errorf("name container: %w", err)
	}
	return supervise.Begin(ctx, filepath.Join(s.t.Dir, supervise.SocketsDir, supervise.WarmSocket), s.t.Secrets)
}

// sameLimits compares what hostConfig takes from a job.
func sameLimits(a, b container.Resources) bool {
	return a.NanoCPUs == b.NanoCPUs && a.CPUShares == b.CPUShares && a.Memory == b.Memory && a.MemorySwap == b.MemorySwap
}

// adoptWarm goes on with an attempt in a container that was made ahead. There is no
// Run where it has none that has begun, and nothing of one that has not is left.
func (d *Docker) adoptWarm(ctx context.Context, t Task) (Run, error) {
	c, named, err := d.findWarm(ctx, t)
	if err != nil || c == nil {
		return nil, errors.Join(err, leaveSlot(t.Dir))
	}
	records, err := supervise.ReadJournal(t.journal())
	if err != nil {
		return nil, err
	}
	if supervise.Has(records, supervise.RecordBegun) || named && !c.State.Running {
		return &dockerRun{d: d, t: t, id: c.ID}, nil
	}
	if err := d.removeWarm(ctx, c.ID); err != nil {
		return nil, err
	}
	if err := leaveSlot(t.Dir); err != nil {
		return nil, err
	}
	// Only now can't it begin any more.
	if records, err = supervise.ReadJournal(t.journal()); err != nil {
		return nil, err
	}
	if supervise.Has(records, supervise.RecordBegun) {
		return ended{d.verdict(t, records, nil)}, nil
	}
	return nil, nil
}

// findWarm finds the container by the attempt's name, or by what lies in its folder;
// nil where there is none.
func (d *Docker) findWarm(ctx context.Context, t Task) (c *container.InspectResponse, named bool, err error) {
	ours := func(id, slot string) (*container.InspectResponse, error) {
		found, err := d.api.ContainerInspect(ctx, id)
		switch {
		case errdefs.IsNotFound(err):
			return nil, nil
		case err != nil:
			return nil, fmt.Errorf("look for container: %w", err)
		}
		l := found.Config.Labels
		if l[labelCluster] != t.Cluster || l[labelNode] != string(t.Node) || l[labelRole] != roleWarm || slot != "" && l[labelSlot] != slot {
			return nil, nil
		}
		return &found, nil
	}
	name := d.containerName(t)
	if c, err = ours(name, ""); err != nil || c != nil {
		return c, true, err
	}
	data, err := os.ReadFile(filepath.Join(t.Dir, slotFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	var record slotRecord
	if json.Unmarshal(data, &record) != nil || record.Container == "" || record.Slot == "" {
		return nil, false, nil // torn by a crash of the machine
	}
	c, err = ours(record.Container, record.Slot)
	return c, c != nil && c.Name == "/"+name, err
}

// keepWarm reports whether Sweep leaves a container that was made ahead.
func (d *Docker) keepWarm(c container.Summary, keep func(fsm.AttemptRef) bool) bool {
	for _, name := range c.Names {
		if ref, err := d.parseContainerName(name); err == nil {
			return keep(ref)
		}
	}
	return d.warm.knows(c.Labels[labelSlot], keep)
}

// parseContainerName reads what containerName wrote.
func (d *Docker) parseContainerName(name string) (fsm.AttemptRef, error) {
	rest, ok := strings.CutPrefix(strings.TrimPrefix(name, "/"), "narwhal-"+string(d.cfg.Node)+"-")
	parts := strings.SplitN(rest, "-", 3)
	if !ok || len(parts) != 3 {
		return fsm.AttemptRef{}, fmt.Errorf("%q names no attempt", name)
	}
	return parseRef(parts[0], parts[1], parts[2])
}

// sweepSlots removes the folders of slots that an earlier process has left.
func (d *Docker) sweepSlots() error {
	if d.warm.dir == "" {
		return nil
	}
	entries, err := os.ReadDir(d.warm.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sweep folders: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !d.warm.knows(e.Name(), func(fsm.AttemptRef) bool { return true }) {
			errs = append(errs, os.RemoveAll(filepath.Join(d.warm.dir, e.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("sweep folders: %w", err)
	}
	return nil
}
