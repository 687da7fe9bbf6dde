package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"

	"github.com/codepr/narwhal/fsm"
)

// pullTimeout bounds one pull.
const pullTimeout = 30 * time.Minute

// image sees to the attempt's image and gives the user that it wants. failed is
// set where the image can't be had; err where the engine can't be asked.
func (d *Docker) image(ctx context.Context, t Task) (user string, failed *fsm.Outcome, err error) {
	name := t.Work.Spec.Image
	user, err = d.imageUser(ctx, name)
	if err == nil || !errdefs.IsNotFound(err) {
		return user, refused(name, err), passOn(err)
	}
	t.say(d.cfg.LogLimit, "pulling image %s", name)
	began := time.Now()
	// One pull for all who wait for the image. It goes on when the one who began
	// it is stopped: the others want it still.
	pulled := d.pulls.DoChan(name, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pullTimeout)
		defer cancel()
		return nil, d.pull(ctx, t)
	})
	select {
	case result := <-pulled:
		err = result.Err
	case <-ctx.Done():
		return "", nil, ctx.Err()
	}
	if client.IsErrConnectionFailed(err) {
		return "", nil, err
	}
	if err != nil {
		o := fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseImagePull, Message: fmt.Sprintf("pull image %s: %v", name, err)}
		if errdefs.IsInvalidArgument(err) {
			o.Cause = fsm.CauseConfig
		}
		return "", &o, nil
	}
	t.say(d.cfg.LogLimit, "pulled image %s in %s", name, time.Since(began).Round(100*time.Millisecond))
	user, err = d.imageUser(ctx, name)
	return user, nil, err
}

// refused is the outcome where the engine says that the name can't be one.
func refused(name string, err error) *fsm.Outcome {
	if !errdefs.IsInvalidArgument(err) {
		return nil
	}
	return &fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseConfig, Message: fmt.Sprintf("image %q: %v", name, err)}
}

func passOn(err error) error {
	if errdefs.IsInvalidArgument(err) {
		return nil
	}
	return err
}

func (d *Docker) imageUser(ctx context.Context, name string) (string, error) {
	found, err := d.api.ImageInspect(ctx, name)
	if err != nil {
		return "", fmt.Errorf("inspect image: %w", err)
	}
	if found.Config == nil {
		return "", nil
	}
	return found.Config.User, nil
}

func isRoot(user string) bool {
	name, _, _ := strings.Cut(user, ":")
	return name == "" || name == "0" || name == "root"
}

// pull pulls the image and tells of it in the attempt's log, once a second at
// most.
func (d *Docker) pull(ctx context.Context, t Task) error {
	stream, err := d.api.ImagePull(ctx, t.Work.Spec.Image, image.PullOptions{})
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	var (
		in     = json.NewDecoder(stream)
		layers = make(map[string]layer)
		told   = time.Now()
	)
	for {
		var m pullMessage
		err := in.Decode(&m)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the engine's answer: %w", err)
		case m.Error != "":
			return errors.New(m.Error)
		case m.Status == "Downloading" && m.Detail.Total > 0:
			layers[m.ID] = m.Detail
		}
		if time.Since(told) >= time.Second && len(layers) > 0 {
			told = time.Now()
			t.say(d.cfg.LogLimit, "%s", progress(layers))
		}
	}
}

// pullMessage is a line of the engine's answer.
type pullMessage struct {
	Status string `json:"status"`
	ID     string `json:"id"`
	Error  string `json:"error"`
	Detail layer  `json:"progressDetail"`
}

type layer struct {
	Current int64 `json:"current"` // bytes
	Total   int64 `json:"total"`
}

func progress(layers map[string]layer) string {
	var sum layer
	for _, l := range layers {
		sum.Current += l.Current
		sum.Total += l.Total
	}
	return fmt.Sprintf("pulling: %s of %s in %d layers", bytesText(sum.Current), bytesText(sum.Total), len(layers))
}
