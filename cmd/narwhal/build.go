package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
)

func buildCommand() *cobra.Command {
	var r remote
	var wait bool
	cmd := &cobra.Command{
		Use: "build BUILD", Short: "Show a build: its jobs, attempts, steps, times and causes", Args: cobra.ExactArgs(1),
		Long: "Show a build: its jobs, attempts, steps, times and causes. With --wait, wait until it has\nended first; then the exit status is 0 if it passed, else 1.",
	}
	cmd.Flags().BoolVarP(&wait, "wait", "w", false, "wait until it has ended, and exit with its status")
	cmd.AddCommand(testsCommand(), timelineCommand())
	return r.reads(r.command(cmd, func(ctx context.Context, args []string) error {
		id, err := parseBuild(args[0])
		if err != nil {
			return err
		}
		b, err := r.client.Build(ctx, id)
		if err == nil && wait && !b.Status.Terminal() {
			people := asker{say: r.say}
			err = r.client.FollowBuild(ctx, id, func(now api.Build) error {
				b = now
				people.tell(b)
				return nil
			})
		}
		if err != nil {
			return err
		}
		if err := r.print(b, func(w io.Writer) { showBuild(w, b) }); err != nil {
			return err
		}
		if wait {
			return verdict(b)
		}
		return nil
	}))
}

// verdict makes the exit status of a build's.
func verdict(b api.Build) error {
	if b.Status == fsm.Passed {
		return nil
	}
	return exitError{code: exitFailed}
}

func parseBuild(text string) (fsm.BuildID, error) {
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil || id == 0 {
		return 0, usage("build %q: want a number, such as 42; `narwhal builds` lists them", text)
	}
	return fsm.BuildID(id), nil
}

func showBuild(w io.Writer, b api.Build) {
	row(w, fmt.Sprintf("build %d", b.ID), withCause(b.Status, b.Cause))
	row(w, "repo", b.Repo)
	row(w, "commit", b.SHA+" "+b.Message)
	row(w, "ref", b.Ref)
	row(w, "queued", b.CreatedAt.Local().Format("2006-01-02 15:04:05"))
	row(w, "took", took(b.StartedAt, b.EndedAt))
	if b.RetryOf != 0 {
		row(w, "retry of", b.RetryOf)
	}
	showReason(w, b.Reason)
	fmt.Fprintln(w)
	row(w, "JOB", "NAME", "STATUS", "NODE", "TOOK", "EXIT", "CPU", "MEMORY")
	for _, j := range b.Jobs {
		row(w, j.ID, j.Name, jobStatus(&j), "", took(j.StartedAt, j.EndedAt), "", "", "")
		for _, a := range j.Attempts {
			node := a.NodeName
			if node == "" {
				node = string(a.Node)
			}
			row(w, "", fmt.Sprintf("  attempt %d", a.N), withCause(a.Status, a.Cause), node, took(a.StartedAt, a.EndedAt), exitCode(a.Status, a.ExitCode), cpuTime(a.CPUTime), memory(a.PeakMemory))
			for _, step := range a.Steps {
				row(w, "", "    "+step.Name, stepStatus(step), "", took(step.StartedAt, step.EndedAt), exitCode(step.Status, step.ExitCode), cpuTime(step.CPUTime), memory(step.PeakMemory))
			}
		}
	}
	for _, j := range b.Jobs {
		if j.Reason != "" && j.Reason != b.Reason {
			showReason(w, j.Name+": "+j.Reason)
		}
		for _, line := range asks(&j) {
			row(w, "decide", line)
		}
	}
}

// showReason writes a text that may have several lines, such as all that is wrong
// with a file.
func showReason(w io.Writer, text string) {
	if text == "" {
		return
	}
	for line := range strings.SplitSeq(text, "\n") {
		row(w, "reason", line)
	}
}

func withCause(status fsm.Status, cause fsm.Cause) string {
	if cause == "" || string(cause) == string(status) {
		return string(status)
	}
	return fmt.Sprintf("%s (%s)", status, cause)
}

// stepStatus says how a step ended, and how often it was tried.
func stepStatus(s fsm.StepResult) string {
	text := withCause(s.Status, s.Cause)
	if s.Allowed {
		text += ", allowed"
	}
	if s.Tries > 1 {
		text += fmt.Sprintf(", %d tries", s.Tries)
	}
	return text
}

func cpuTime(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.Round(10 * time.Millisecond).String()
}

func memory(bytes int64) string {
	if bytes == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f MiB", float64(bytes)/(1<<20))
}

func exitCode(status fsm.Status, code int) string {
	if status != fsm.Failed {
		return ""
	}
	return strconv.Itoa(code)
}
