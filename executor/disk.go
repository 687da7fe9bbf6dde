package executor

import (
	"context"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"
)

// Root is the engine's own folder, in which its images lie.
func (d *Docker) Root(ctx context.Context) (string, error) {
	info, err := d.api.Info(ctx)
	if err != nil {
		return "", fmt.Errorf("ask where images lie: %w", err)
	}
	return info.DockerRootDir, nil
}

// NextImage tells when the image that Tidy would remove next was last used; ok is
// false where none may go.
func (d *Docker) NextImage(ctx context.Context) (used time.Time, ok bool, err error) {
	containers, err := d.api.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return time.Time{}, false, fmt.Errorf("look for an image to remove: %w", err)
	}
	busy := make(map[string]bool)
	for _, c := range containers {
		busy[c.ImageID] = true
	}
	for _, c := range d.store.candidates() {
		if !busy[c.id] && !d.store.isHeld(c.id) {
			return c.Used, true, nil
		}
	}
	return time.Time{}, false, nil
}
