package executor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/volume"
	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/supervise"
)

// Adopt finds the attempt's containers by their labels. Without the job's own
// there is nothing to go on with, and what else there is goes.
func (d *Docker) Adopt(ctx context.Context, t Task) (Run, error) {
	r, err := d.adopt(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("adopt attempt %s: %w", t.Ref, err)
	}
	if _, over := r.(ended); !over && t.Work.Spec != nil {
		d.warm.began(t)
	}
	return r, nil
}

func (d *Docker) adopt(ctx context.Context, t Task) (Run, error) {
	args := d.of(t.Ref)
	args.Add("label", labelRole+"="+roleJob)
	found, err := d.api.ContainerList(ctx, container.ListOptions{All: true, Filters: args})
	if err != nil {
		return nil, err
	}
	warm, err := d.adoptWarm(ctx, t)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 && warm != nil {
		return warm, nil
	}
	records, err := supervise.ReadJournal(t.journal())
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		if err := d.discard(ctx, t); err != nil {
			return nil, err
		}
		if _, ok := supervise.Outcome(records); ok { // it ended, and was removed
			return ended{d.verdict(t, records, nil)}, nil
		}
		t.endLog(d.cfg.LogLimit, d.log)
		return nil, ErrGone
	}
	id := found[0].ID
	unbegun, waits, err := d.unbegun(ctx, found[0], records)
	if err != nil {
		return nil, err
	}
	if unbegun {
		return d.adoptUnbegun(ctx, t, found[0], waits, records)
	}
	if found[0].State != container.StateCreated {
		return &dockerRun{d: d, t: t, id: id}, nil
	}
	return d.begin(ctx, t, id) // narwhal ended between creating and starting it
}

// Sweep removes this cluster's and node's containers, networks and volumes that
// keep doesn't name, and what is left of their secrets and limits.
func (d *Docker) Sweep(ctx context.Context, keep func(fsm.AttemptRef) bool) error {
	kept := func(labels map[string]string) bool {
		ref, err := refOf(labels)
		return err == nil && keep(ref)
	}
	found, err := d.api.ContainerList(ctx, container.ListOptions{All: true, Filters: d.ours()})
	if err != nil {
		return fmt.Errorf("sweep containers: %w", err)
	}
	found = slices.DeleteFunc(found, func(c container.Summary) bool {
		if c.Labels[labelRole] == roleWarm {
			return d.keepWarm(c, keep)
		}
		return kept(c.Labels)
	})
	for _, c := range found {
		d.log.Info("remove container that no attempt owns", "container", c.ID[:12], "attempt", c.Labels[labelJob]+"#"+c.Labels[labelAttempt], "names", c.Names)
	}
	_, err = d.Networks(ctx) // other narwhals' come and go
	return errors.Join(
		err,
		d.removeAll(ctx, found),
		d.sweepNetworks(ctx, d.ours(), kept),
		d.sweepVolumes(ctx, kept),
		d.secrets.sweep(keep),
		d.cgroups.sweep(d.groups(), keep),
		d.sweepSlots(),
	)
}

func (d *Docker) sweepVolumes(ctx context.Context, kept func(map[string]string) bool) error {
	found, err := d.api.VolumeList(ctx, volume.ListOptions{Filters: d.ours()})
	if err != nil {
		return fmt.Errorf("sweep volumes: %w", err)
	}
	var errs []error
	for _, v := range found.Volumes {
		if kept(v.Labels) {
			continue
		}
		if err := d.api.VolumeRemove(ctx, v.Name, true); err != nil && !errdefs.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("remove volume %s: %w", v.Name, err))
		}
	}
	return errors.Join(errs...)
}

// discard removes all that there is of the attempt but its folder.
func (d *Docker) discard(ctx context.Context, t Task) error {
	args := d.of(t.Ref)
	found, err := d.api.ContainerList(ctx, container.ListOptions{All: true, Filters: args})
	if err != nil {
		return fmt.Errorf("look for containers: %w", err)
	}
	return errors.Join(
		d.removeAll(ctx, found),
		d.sweepNetworks(ctx, args, func(map[string]string) bool { return false }),
		d.secrets.remove(t.Ref),
		d.cgroups.remove(d.group(t.Ref)),
	)
}

func (d *Docker) removeAll(ctx context.Context, list []container.Summary) error {
	var group errgroup.Group
	for _, c := range list {
		group.Go(func() error { return d.remove(ctx, c.ID) })
	}
	return group.Wait()
}

// remove ends and removes a container, with the volumes that only it has.
func (d *Docker) remove(ctx context.Context, id string) error {
	err := d.api.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if err == nil || errdefs.IsNotFound(err) || errdefs.IsConflict(err) && ctx.Err() == nil {
		return nil // a conflict says that it is being removed already
	}
	return fmt.Errorf("remove container %.12s: %w", id, err)
}
