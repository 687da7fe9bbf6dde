package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/bundle"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

// Repo is the repository that a drill's builds are of.
const Repo = "narwhal/drill"

// senders is how many requests are under way at a time.
const senders = 16

// load makes the builds of a drill, all of one commit.
type load struct {
	client *client.Client
	seed   fsm.BuildID // the first, which the others repeat
	made   int         // how many were asked for since
}

// newLoad pushes the commit, and waits until its first build has passed.
func (d *drill) newLoad(ctx context.Context) (*load, error) {
	d.Say("a first build")
	seed, err := d.push(ctx)
	if err != nil {
		return nil, err
	}
	b, err := ended(ctx, d.Client, seed)
	if err != nil {
		return nil, err
	}
	if b.Status != fsm.Passed {
		return nil, fmt.Errorf("the first build %s (%s), before anything was killed: see `narwhal build %d`: %s", b.Status, b.Cause, b.ID, b.Reason)
	}
	return &load{client: d.Client, seed: seed}, nil
}

func (d *drill) push(ctx context.Context) (id fsm.BuildID, err error) {
	scratch, err := os.MkdirTemp("", "narwhal-drill-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	repo, err := lab.NewRepository(filepath.Join(scratch, "repository"), Repo)
	if err != nil {
		return 0, err
	}
	if _, err := repo.Commit("A job that waits for a moment.", map[string]string{"narwhal.yml": d.file()}); err != nil {
		return 0, err
	}
	out := filepath.Join(scratch, "bundle")
	if err := os.Mkdir(out, 0o700); err != nil {
		return 0, err
	}
	made, err := bundle.Create(ctx, repo.Dir, "HEAD", out)
	if err != nil {
		return 0, err
	}
	pushed, err := d.Client.Push(ctx, client.Push{
		Repo: Repo, SHA: made.SHA, Ref: made.Ref, Message: made.Message, Author: made.Author, Key: client.NewKey(), Size: made.Size,
		Open: func() (io.ReadCloser, error) { return os.Open(made.Path) },
	})
	return pushed.Build.ID, err
}

// file is the narwhal.yml of the load. The group keeps the jobs that run at a time to what
// was asked for, whatever the nodes could take. They last for 0.2 to 4.0 seconds, so that one
// ends after the other, and there is always another to place.
func (d *drill) file() string {
	image := ""
	if d.Image != "" {
		image = "image: " + strconv.Quote(d.Image) + "\n"
	}
	return fmt.Sprintf(`name: drill
%sresources: {cpu: 50m, memory: 32Mi}
concurrency: {group: drill, limit: %d}
steps:
  - name: wait
    command: tenths=$((2 + NARWHAL_BUILD %% 20 * 2)); sleep $((tenths / 10)).$((tenths %% 10))
`, image, d.Running)
}

// start asks for n builds, and returns once all are accepted.
func (l *load) start(ctx context.Context, n int) ([]fsm.BuildID, error) {
	ids := make([]fsm.BuildID, n)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(senders)
	for i := range ids {
		group.Go(func() error {
			b, err := l.client.RetryBuild(ctx, l.seed, client.NewKey())
			ids[i] = b.ID
			return err
		})
	}
	l.made += n
	return ids, group.Wait()
}

// full waits until as many jobs run as shall, and none is left to plan.
func (l *load) full(ctx context.Context, running int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return lab.Await(ctx, fmt.Sprintf("%d jobs to run at a time, which the nodes may not have room for", running), func(ctx context.Context) (bool, error) {
		live := 0
		for _, status := range []fsm.Status{fsm.Queued, fsm.Assigned, fsm.Running} {
			page, err := l.client.Jobs(ctx, client.Filter{Status: status, Limit: 200})
			if err != nil {
				return false, err
			}
			for _, j := range page.Jobs {
				if j.Repo == Repo && j.Kind == fsm.KindPlan {
					return false, errors.New("builds are still being planned")
				}
				if j.Repo == Repo && status == fsm.Running {
					live++
				}
			}
		}
		return live >= running, fmt.Errorf("%d run", live)
	})
}

// extra counts the builds that nobody asked for.
func (l *load) extra(ctx context.Context) (int, error) {
	there := 0
	filter := client.Filter{Repo: Repo, Limit: 200}
	for {
		page, err := l.client.Builds(ctx, filter)
		if err != nil {
			return 0, err
		}
		for _, b := range page.Builds {
			if b.ID == l.seed {
				return max(0, there-l.made), nil
			}
			there++
		}
		if page.Next == 0 {
			return 0, fmt.Errorf("build %d, the first of the drill, is not there any more", l.seed)
		}
		filter.Before = page.Next
	}
}

// ended waits for a build's end.
func ended(ctx context.Context, c *client.Client, id fsm.BuildID) (last api.Build, err error) {
	err = c.FollowBuild(ctx, id, func(b api.Build) error { last = b; return nil })
	if err != nil {
		err = fmt.Errorf("follow build %d: %w", id, err)
	}
	return last, err
}
