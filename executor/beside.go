package executor

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/docker/docker/api/types/container"
	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/pipeline"
	"github.com/codepr/narwhal/supervise"
)

// satellites gives, by image, the names of the containers for steps that have an
// image of their own.
func satellites(t Task) map[string]string {
	named := make(map[string]string)
	for _, step := range t.Work.Spec.Steps {
		if step.Image != "" && step.Image != t.Work.Spec.Image && step.Skip == "" && named[step.Image] == "" {
			named[step.Image] = fmt.Sprintf("s%d", len(named)+1)
		}
	}
	return named
}

func hasBeside(t Task) bool { return len(t.Work.Spec.Services) > 0 || len(satellites(t)) > 0 }

// beside are the containers that have to run before the job's does.
func (d *Docker) beside(t Task, images map[string]picture) []part {
	var parts []part
	for _, s := range t.Work.Spec.Services {
		parts = append(parts, service(s))
	}
	named := satellites(t)
	for _, image := range slices.Sorted(maps.Keys(named)) {
		if images[image].lost != nil {
			continue
		}
		parts = append(parts, part{role: roleSatellite, name: named[image], image: image, mounts: d.mounts(t, false),
			config: container.Config{
				Entrypoint: []string{binaryIn, "supervise", "--satellite", named[image], superviseIn},
				WorkingDir: workspaceIn,
				StopSignal: supervise.StopSignalName,
			}})
	}
	return parts
}

func service(s pipeline.Service) part {
	p := part{role: roleService, name: s.Name, image: s.Image, aliases: []string{s.Name}, config: container.Config{
		Hostname: s.Name, Cmd: s.Command, Env: entries(s.Env),
	}}
	if s.Ready != nil && len(s.Ready.Command) > 0 {
		p.config.Healthcheck = &container.HealthConfig{
			Test: append([]string{"CMD"}, s.Ready.Command...), Interval: healthEvery, Timeout: s.Ready.Timeout,
			// How long it may fail is for awaitServices to say: an engine has no clock for it.
			StartPeriod: s.Ready.Timeout, Retries: 1 << 20,
		}
	}
	return p
}

// startBeside makes and starts them, all at once.
func (d *Docker) startBeside(ctx context.Context, s *setting) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range d.beside(s.t, s.images) {
		group.Go(func() error {
			id, err := d.create(ctx, s, p)
			if err == nil {
				err = d.api.ContainerStart(ctx, id, container.StartOptions{})
			}
			if err != nil {
				return &besideError{p, err}
			}
			return nil
		})
	}
	return group.Wait()
}

// besideError is of a container that isn't the job's own.
type besideError struct {
	part part
	err  error
}

func (e *besideError) Error() string {
	return fmt.Sprintf("%s of image %s: %v", e.part, e.part.image, e.err)
}

func (e *besideError) Unwrap() error { return e.err }

func (p part) String() string {
	if p.role == roleService {
		return "service " + p.name
	}
	return "the container for steps"
}
