package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
)

// errSeen ends the following of a log.
var errSeen = errors.New("seen")

// printed waits until a job has printed a line.
func (b *bench) printed(ctx context.Context, build fsm.BuildID, job fsm.JobID, line string) error {
	if err := b.placed(ctx, build); err != nil {
		return err
	}
	err := b.client.FollowLog(ctx, job, 0, func(e client.LogEvent) error {
		if e.Line != nil && e.Line.Text == line {
			return errSeen
		}
		return nil
	})
	if errors.Is(err, errSeen) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("job %s ended without %q", job, line)
	}
	return err
}

// placed waits until the build's first job runs.
func (b *bench) placed(ctx context.Context, build fsm.BuildID) error {
	err := b.client.FollowBuild(ctx, build, func(v api.Build) error {
		for _, j := range v.Jobs {
			if j.Kind == fsm.KindRun && len(j.Attempts) > 0 && j.Status == fsm.Running {
				return errSeen
			}
		}
		return nil
	})
	if errors.Is(err, errSeen) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("build %d ended before it was seen running", build)
	}
	return err
}

// logs measures how soon a line can be read at another node, what 100 MB of output
// cost a job, and what 1 GB does to a node.
func logs(ctx context.Context, b *bench) error {
	if err := b.followLatency(ctx); err != nil {
		return err
	}
	if err := b.flooded(ctx); err != nil { // before others bring the nodes to their peaks
		return err
	}
	return b.outputRatio(ctx)
}

// sinceBoot is what /proc/uptime shows, in milliseconds: the kernel's clock is one for
// all containers. There it is cut to hundredths of a second, which makes what is
// measured by it up to 10 ms more than it was.
func sinceBoot() float64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(err) // there is no Linux without it
	}
	return float64(t.Nano()) / 1e6
}

// followLatency has a job print the time, and asks each line when it was read by a
// client of a node that does not run the job.
func (b *bench) followLatency(ctx context.Context) error {
	n := number("N", 200)
	say("%d lines, followed at another node", n)
	yml := inContainer + fmt.Sprintf("steps: [{command: 'echo ready; i=0; while [ $i -lt %d ]; do read up rest < /proc/uptime; echo $up; sleep 0.05; i=$((i+1)); done'}]\n", n)
	sha, err := b.repo.Commit("follow", map[string]string{"narwhal.yml": yml})
	if err != nil {
		return err
	}
	made, err := b.trigger(ctx, sha, "follow")
	if err != nil {
		return err
	}
	if err := b.placed(ctx, made.ID); err != nil {
		return err
	}
	job := fsm.JobID{Build: made.ID, Seq: 1}
	other, err := b.elsewhere(ctx, job)
	if err != nil {
		return err
	}
	var took []float64
	err = other.FollowLog(ctx, job, 0, func(e client.LogEvent) error {
		if e.Line == nil || e.Line.Step < 0 || e.Line.Text == "ready" {
			return nil
		}
		printed, err := strconv.ParseFloat(e.Line.Text, 64)
		took = append(took, sinceBoot()-printed*1e3)
		return err
	})
	if err != nil {
		return err
	}
	if len(took) != n {
		return fmt.Errorf("%d of %d lines came", len(took), n)
	}
	print("follow_p50_ms", percentile(took, 50))
	print("follow_p99_ms", percentile(took, 99))
	return nil
}

// elsewhere is a client of a node that does not run the job.
func (b *bench) elsewhere(ctx context.Context, job fsm.JobID) (*client.Client, error) {
	j, err := b.client.Job(ctx, job)
	if err != nil {
		return nil, err
	}
	for _, n := range b.lab.Nodes {
		if n.ID != j.Node {
			return n.Client()
		}
	}
	return nil, fmt.Errorf("no node but %s", j.Node)
}

// outputRatio compares a step that prints 100 MB with one that writes them to a file.
func (b *bench) outputRatio(ctx context.Context) error {
	say("100 MB of output, and to a file")
	// Lines as compilers have them, made once.
	yml := inContainer + `steps:
  - {name: make, command: 'yes "main.c:42:17: warning: unused variable of this program, which is as long as lines are" | head -c 100000000 > /tmp/lines'}
  - {name: file, command: 'cat /tmp/lines > /tmp/copy'}
  - {name: print, command: 'cat /tmp/lines'}
`
	var ratio []float64
	for i := range number("ROUNDS", 5) {
		done, err := b.build(ctx, yml, fmt.Sprintf("output-%d", i))
		if err != nil {
			return err
		}
		_, a, err := attempt(done)
		if err != nil {
			return err
		}
		file, print := a.Steps[1], a.Steps[2]
		ratio = append(ratio, print.EndedAt.Sub(print.StartedAt).Seconds()/file.EndedAt.Sub(file.StartedAt).Seconds())
	}
	print("output_ratio", percentile(ratio, 50))
	return nil
}

// flooded has a job print 1 GB, and looks at the memory of its node.
func (b *bench) flooded(ctx context.Context) error {
	say("1 GB of output")
	before, err := b.largest()
	if err != nil {
		return err
	}
	yml := inContainer + "steps: [{command: 'yes 0123456789abcdef0123456789abcdef0123456789abcdef | head -c 1000000000'}]\n"
	done, err := b.build(ctx, yml, "flood")
	if err != nil {
		return err
	}
	after, err := b.largest()
	if err != nil {
		return err
	}
	job, _, err := attempt(done)
	if err != nil {
		return err
	}
	var text strings.Builder
	if err := b.client.ReadLog(ctx, job, 0, &text); err != nil {
		return err
	}
	print("flood_rss_mb", float64(after-before)/1024)
	print("flood_log_mb", float64(text.Len())/1e6)
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	for _, line := range lines[max(0, len(lines)-3):] {
		say("the log ends: %s", line)
	}
	return nil
}

// largest is the peak memory of the node that has the highest, in KiB.
func (b *bench) largest() (int, error) {
	most := 0
	for _, n := range b.lab.Nodes {
		data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(n.PID()), "status"))
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(data)) {
			if text, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				kb, err := strconv.Atoi(strings.Fields(text)[0])
				if err != nil {
					return 0, err
				}
				most = max(most, kb)
			}
		}
	}
	return most, nil
}
