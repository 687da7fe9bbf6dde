// Command demo shows narwhal at work on this machine: three nodes, this
// repository's own narwhal.yml and twenty small builds, the leader killed in the
// middle. Its exit status says whether anything was lost or came twice. With
// KEEP=1 the cluster stays up.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/internal/lab"
)

const smallBuilds = 20

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// show is a demo under way.
type show struct {
	lab    *lab.Lab
	client *client.Client
	binary string
	dir    string
	docker bool
	ids    []fsm.BuildID
}

func run(ctx context.Context) (err error) {
	keep := os.Getenv("KEEP") == "1"
	dir, err := os.MkdirTemp("", "narwhal-demo-")
	if err != nil {
		return err
	}
	d := &show{dir: dir, binary: filepath.Join(dir, "narwhal"), docker: engine(ctx)}
	say("building narwhal")
	if err := lab.Build(ctx, ".", d.binary); err != nil {
		return err
	}
	executor := "docker"
	if !d.docker {
		executor = "process"
	}
	say("starting three nodes on loopback (%s executor)", executor)
	d.lab, err = lab.Start(ctx, lab.Options{Binary: d.binary, Dir: filepath.Join(dir, "nodes"), Executor: executor, Keep: keep})
	if err != nil {
		return err
	}
	defer func() {
		if !keep {
			err = errors.Join(err, d.lab.Close(), os.RemoveAll(dir))
		}
	}()
	if d.client, err = d.lab.Client(); err != nil {
		return err
	}
	if err := d.play(ctx); err != nil {
		return err
	}
	if keep {
		d.kept()
	}
	return nil
}

func say(format string, args ...any) { fmt.Printf("demo: "+format+"\n", args...) }

// engine reports whether a Docker engine answers and has the images that
// scripts/images.sh makes.
func engine(ctx context.Context) bool {
	for _, image := range []string{"narwhal/busybox:test", "narwhal/go:local"} {
		if out, err := exec.CommandContext(ctx, "docker", "image", "inspect", "--format", "{{.Id}}", image).CombinedOutput(); err != nil {
			say("no Docker engine with image %s (%s): steps run as plain processes, without isolation", image, strings.TrimSpace(string(out)))
			return false
		}
	}
	return true
}

// play starts the builds, kills the leader, and tells what came of it.
func (d *show) play(ctx context.Context) error {
	began := time.Now()
	if err := d.pushSelf(ctx); err != nil {
		return err
	}
	if err := d.pushSmall(ctx); err != nil {
		return err
	}
	if err := d.running(ctx); err != nil {
		return err
	}
	leader, err := d.lab.Leader(ctx)
	if err != nil {
		return err
	}
	say("SIGKILL to %s, the leader, with jobs queued and running", leader.Name)
	killed := time.Now()
	if err := leader.Kill(); err != nil {
		return err
	}
	if d.client, err = d.lab.Client(); err != nil {
		return err
	}
	if err := d.placedAfter(ctx, killed); err != nil {
		return err
	}
	say("another node dispatches; starting %s again", leader.Name)
	if err := leader.Start(ctx); err != nil {
		return err
	}
	builds, err := d.wait(ctx)
	if err != nil {
		return err
	}
	return d.tell(builds, killed, began)
}

// pushSelf builds this checkout as it lies here, by `narwhal push`.
func (d *show) pushSelf(ctx context.Context) error {
	if !d.docker {
		say("this repository's own build needs its Go image: left out without Docker")
		return nil
	}
	say("narwhal push: this repository's own narwhal.yml")
	cmd := exec.CommandContext(ctx, d.binary, "push", "--detach", "--addr", d.lab.Nodes[0].API)
	cmd.Env = append(os.Environ(), "NARWHAL_TOKEN="+d.lab.Nodes[0].Token)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("narwhal push: %w", err)
	}
	var id fsm.BuildID
	if _, err := fmt.Sscan(string(out), &id); err != nil {
		return fmt.Errorf("narwhal push answered %q: %w", out, err)
	}
	d.ids = append(d.ids, id)
	return nil
}

func (d *show) pushSmall(ctx context.Context) error {
	repo, err := lab.NewRepository(filepath.Join(d.dir, "small"), "demo/small")
	if err != nil {
		return err
	}
	_, err = repo.Commit("first", map[string]string{
		"narwhal.yml": "name: small\nimage: narwhal/busybox:test\nresources: {cpu: 250m, memory: 64Mi}\nsteps:\n  - name: work\n    command: sleep 1\n  - name: tell\n    command: ls -l\n",
	})
	if err != nil {
		return err
	}
	shas, err := repo.Commits(smallBuilds)
	if err != nil {
		return err
	}
	say("%d small builds", len(shas))
	for i, sha := range shas {
		made, err := d.client.CreateBuild(ctx, api.NewBuild{Repo: repo.Name, CloneURL: repo.URL(), SHA: sha, Ref: "refs/heads/main"}, fmt.Sprintf("demo-%d", i))
		if err != nil {
			return err
		}
		d.ids = append(d.ids, made.ID)
	}
	return nil
}

// running waits until several jobs run.
func (d *show) running(ctx context.Context) error {
	return lab.Await(ctx, "jobs to run", func(ctx context.Context) (bool, error) {
		page, err := d.client.Jobs(ctx, client.Filter{Status: fsm.Running, Limit: 200})
		return len(page.Jobs) >= 3, err
	})
}

func (d *show) placedAfter(ctx context.Context, killed time.Time) error {
	return lab.Await(ctx, "a placement after the kill", func(ctx context.Context) (bool, error) {
		page, err := d.client.Jobs(ctx, client.Filter{Limit: 200})
		for _, j := range page.Jobs {
			if a := j.Attempts; len(a) > 0 && a[len(a)-1].AssignedAt.After(killed) {
				return true, nil
			}
		}
		return false, err
	})
}

func (d *show) wait(ctx context.Context) ([]api.Build, error) {
	var out []api.Build
	for _, id := range d.ids {
		var last api.Build
		err := d.client.FollowBuild(ctx, id, func(b api.Build) error { last = b; return nil })
		if err != nil {
			return nil, fmt.Errorf("follow build %d: %w", id, err)
		}
		out = append(out, last)
	}
	return out, nil
}

// tell prints each build and the sums; its error is the demo's.
func (d *show) tell(builds []api.Build, killed, began time.Time) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "BUILD\tREPOSITORY\tCOMMIT\tNODES\tRESULT\tTIME")
	for _, b := range builds {
		fmt.Fprintf(w, "%d\t%s\t%.8s\t%s\t%s\t%s\n", b.ID, b.Repo, b.SHA, nodes(b), b.Status, b.EndedAt.Sub(b.CreatedAt).Round(100*time.Millisecond))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	v := lab.Judge(builds, killed)
	for _, b := range v.Lost {
		say("build %d %s: %s", b.ID, b.Status, b.Reason)
	}
	say("from the kill to the next dispatch: %s", v.Next.Round(time.Millisecond))
	say("builds %d, lost %d, doubled %d, in %s", len(builds), len(v.Lost), v.Doubled, time.Since(began).Round(time.Second))
	if len(v.Lost) > 0 || v.Doubled > 0 {
		return errors.New("a build was lost or came twice")
	}
	return nil
}

// nodes names the nodes that a build's jobs ran on, in their order.
func nodes(b api.Build) string {
	var names []string
	for _, j := range b.Jobs {
		for _, a := range j.Attempts {
			if name := a.NodeName; j.Kind == fsm.KindRun && (len(names) == 0 || names[len(names)-1] != name) {
				names = append(names, name)
			}
		}
	}
	return strings.Join(names, ",")
}

func (d *show) kept() {
	fmt.Printf("\nThe cluster is up. Its nodes:\n")
	for _, n := range d.lab.Nodes {
		fmt.Printf("  %s  %s  process %d  data %s\n", n.Name, n.API, n.PID(), n.Dir)
	}
	fmt.Printf("Try:\n  export NARWHAL_ADDR=%s NARWHAL_TOKEN=%s\n", d.lab.Nodes[0].API, d.lab.Nodes[0].Token)
	for _, args := range []string{"status", "builds", "build " + fmt.Sprint(d.ids[0]), "logs " + fmt.Sprint(d.ids[0]), "nodes", "push"} {
		fmt.Printf("  %s %s\n", d.binary, args)
	}
	for _, line := range strings.Split(d.lab.Nodes[0].Log(), "\n") {
		if strings.HasPrefix(line, "open (once):") {
			fmt.Println(line)
		}
	}
}
