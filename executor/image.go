package executor

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// PullPolicy says when an image is asked for at its registry.
type PullPolicy string

// The policies.
const (
	PullIfNotPresent PullPolicy = "if-not-present" // the default
	PullAlways       PullPolicy = "always"         // also when it is here: its name may mean another by now
	PullNever        PullPolicy = "never"
)

// Validate refuses what is no policy.
func (p PullPolicy) Validate() error {
	switch p {
	case PullIfNotPresent, PullAlways, PullNever:
		return nil
	}
	return fmt.Errorf("there is no pull policy %q: want %s, %s or %s", string(p), PullIfNotPresent, PullAlways, PullNever)
}

// Credentials are for a registry.
type Credentials struct{ Username, Password string }

// String keeps them out of messages.
func (Credentials) String() string { return "[credentials]" }

// proof stands for credentials that a registry has accepted.
type proof [sha256.Size]byte

func (c Credentials) proof(host string) proof {
	return sha256.Sum256([]byte(host + "\x00" + c.Username + "\x00" + c.Password))
}

// picture is what narwhal wants to know of an image that is here.
type picture struct {
	id      string
	user    string
	volumes []string // folders, for each of which the engine makes a volume
	// lost is why it can't be had, where the job goes on without it.
	lost *fsm.Outcome
}

// imagesOf names the images of all the attempt's containers, the job's first.
func imagesOf(t Task) []string {
	names := []string{t.Work.Spec.Image}
	for _, s := range t.Work.Spec.Services {
		names = append(names, s.Image)
	}
	for _, s := range t.Work.Spec.Steps {
		if s.Image != "" && s.Skip == "" {
			names = append(names, s.Image)
		}
	}
	slices.Sort(names[1:])
	return slices.Compact(names)
}

// images sees to all the attempt's images at once. failed is set where one can't be
// had; err where the engine can't be asked.
func (d *Docker) images(ctx context.Context, t Task, hold *holding) (have map[string]picture, failed *fsm.Outcome, err error) {
	names := imagesOf(t)
	pictures, fails := make([]picture, len(names)), make([]*fsm.Outcome, len(names))
	group, ctx := errgroup.WithContext(ctx)
	for i, name := range names {
		group.Go(func() (err error) {
			pictures[i], fails[i], err = d.image(ctx, t, name, hold)
			return err
		})
	}
	err = group.Wait()
	have = make(map[string]picture, len(names))
	for i, name := range names {
		if fails[i] != nil {
			step, allowed := wantedBy(t, name)
			if !allowed {
				if step != "" {
					fails[i].Message = "step " + step + ": " + fails[i].Message
				}
				return nil, fails[i], nil
			}
			pictures[i].lost = fails[i]
		}
		have[name] = pictures[i]
	}
	return have, nil, err
}

// wantedBy is for an image that can't be had: the first step that may not fail without
// it, empty where it is not a step alone that wants it; and whether all who want it are
// steps that may fail.
func wantedBy(t Task, image string) (step string, allowed bool) {
	spec := t.Work.Spec
	if image == spec.Image || slices.ContainsFunc(spec.Services, func(s pipeline.Service) bool { return s.Image == image }) {
		return "", false
	}
	for _, s := range spec.Steps {
		if s.Image == image && s.Skip == "" && !s.AllowFailure {
			return s.Name, false
		}
	}
	return "", true
}

// image sees to one image. That it is here is not enough for one that took
// credentials: a job that has none must not have it either.
func (d *Docker) image(ctx context.Context, t Task, name string, hold *holding) (picture, *fsm.Outcome, error) {
	host := registryOf(name)
	creds, given := t.Registries[host]
	found, err := d.inspectImage(ctx, name, hold)
	if err != nil && !errdefs.IsNotFound(err) {
		return picture{}, refused(name, err), passOn(err)
	}
	here := err == nil
	if err := d.settle(ctx); err != nil {
		return picture{}, nil, err
	}
	if here && d.cfg.PullPolicy != PullAlways && d.store.allows(found.id, creds.proof(host)) {
		d.store.used(found.id, time.Now())
		return found, nil, nil
	}
	if d.cfg.PullPolicy == PullNever {
		return picture{}, &fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseImagePull, Message: fmt.Sprintf(
			"image %s is not on this node, or not for this job, and the node's policy is to pull none", name)}, nil
	}
	if given {
		if err := d.intents.begin(name, found.id); err != nil {
			return picture{}, nil, err
		}
	}
	brought, failed, err := d.bring(ctx, t, name, found.id, hold)
	if given && ctx.Err() == nil { // one that is stopped may leave a pull that goes on
		// Where it failed the engine may have the image all the same.
		settled := d.settle(ctx)
		if settled == nil {
			settled = d.intents.end(name)
		}
		err = errors.Join(err, settled)
	}
	return brought, failed, err
}

// bring pulls the image, and writes down what came and who may have it.
func (d *Docker) bring(ctx context.Context, t Task, name, before string, hold *holding) (picture, *fsm.Outcome, error) {
	host := registryOf(name)
	creds, given := t.Registries[host]
	if failed, err := d.fetch(ctx, t, name, creds, given); failed != nil || err != nil {
		return picture{}, failed, err
	}
	found, err := d.inspectImage(ctx, name, hold)
	if err != nil {
		return picture{}, nil, err
	}
	entry := stored{Names: []string{name}, Pulled: found.id != before, Private: given, Used: time.Now()}
	return found, nil, d.store.add(found.id, entry, creds.proof(host))
}

// fetch pulls the image, or waits for another's pull of it.
func (d *Docker) fetch(ctx context.Context, t Task, name string, creds Credentials, given bool) (*fsm.Outcome, error) {
	t.say(d.cfg.LogLimit, "pulling image %s", name)
	began := time.Now()
	key := fmt.Sprintf("%s %x", name, creds.proof(""))
	// One pull for all who wait for the image. It goes on when the one who began
	// it is stopped: the others want it still. Who has other credentials asks the
	// registry by himself, after the pull that is under way: what that brought is not
	// fetched again.
	pulled := d.pulls.DoChan(key, func() (any, error) {
		defer d.turns.take(name)()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pullTimeout)
		defer cancel()
		options := image.PullOptions{}
		if given {
			options.RegistryAuth = authHeader(creds, registryOf(name))
		}
		return nil, d.pull(ctx, t, name, options)
	})
	var err error
	select {
	case result := <-pulled:
		err = result.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if client.IsErrConnectionFailed(err) {
		return nil, err
	}
	if err != nil {
		o := fsm.Outcome{Status: fsm.Errored, Cause: fsm.CauseImagePull, Message: fmt.Sprintf("pull image %s: %v", name, err)}
		if errdefs.IsInvalidArgument(err) {
			o.Cause = fsm.CauseConfig
		}
		return &o, nil
	}
	t.say(d.cfg.LogLimit, "pulled image %s in %s", name, time.Since(began).Round(100*time.Millisecond))
	return nil, nil
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

// inspectImage holds the image that it finds.
func (d *Docker) inspectImage(ctx context.Context, name string, hold *holding) (picture, error) {
	d.tidying.RLock()
	defer d.tidying.RUnlock()
	found, err := d.api.ImageInspect(ctx, name)
	if err != nil {
		return picture{}, fmt.Errorf("inspect image: %w", err)
	}
	hold.add(found.ID)
	p := picture{id: found.ID}
	if found.Config != nil {
		p.user = found.Config.User
		for path := range found.Config.Volumes {
			p.volumes = append(p.volumes, path)
		}
		slices.Sort(p.volumes)
	}
	return p, nil
}

// root reports whether the image's processes are root's.
func (p picture) root() bool {
	name, _, _ := strings.Cut(p.user, ":")
	return name == "" || name == "0" || name == "root"
}

// registryOf is the host of an image's registry, as docker reads names: the first
// part is one where it couldn't be a folder.
func registryOf(name string) string {
	host, _, deeper := strings.Cut(name, "/")
	if !deeper || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return "docker.io"
	}
	return host
}
