package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
)

func logsCommand() *cobra.Command {
	var r remote
	var follow bool
	var attempt int
	cmd := &cobra.Command{
		Use: "logs JOB | BUILD", Short: "Print the log of a job, or of all jobs of a build", Args: cobra.ExactArgs(1),
		Example: "  narwhal logs 42.1        what job 42.1 has printed so far\n  narwhal logs -f 42       all jobs of build 42, as they print it",
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "wait for more, until it has ended")
	cmd.Flags().IntVar(&attempt, "attempt", 0, "of this `attempt` of the job, from 1 (default: the newest)")
	return r.reads(r.command(cmd, func(ctx context.Context, args []string) error {
		if !strings.Contains(args[0], ".") {
			id, err := parseBuild(args[0])
			if err != nil {
				return err
			}
			if attempt != 0 {
				return usage("--attempt is for one job, such as %d.1", id)
			}
			return r.buildLogs(ctx, id, follow)
		}
		id, err := fsm.ParseJobID(args[0])
		switch {
		case err != nil:
			return usage("%w", err)
		case attempt < 0:
			return usage("--attempt %d: want a number from 1", attempt)
		case follow:
			return r.followJob(ctx, id, attempt, "")
		case r.json:
			return r.client.ReadLogLines(ctx, id, attempt, r.out)
		}
		return r.client.ReadLog(ctx, id, attempt, r.out)
	}))
}

// buildLogs prints the logs of a build's jobs: one after the other, or, while it is
// followed, each line as it comes.
func (r *remote) buildLogs(ctx context.Context, id fsm.BuildID, follow bool) error {
	b, err := r.client.Build(ctx, id)
	if err != nil {
		return err
	}
	if follow {
		_, err := r.watch(ctx, id)
		return err
	}
	for _, j := range b.Jobs {
		if j.Kind == fsm.KindPlan && len(b.Jobs) > 1 || len(j.Attempts) == 0 {
			continue
		}
		r.say("job %s, %s: %s", j.ID, j.Name, withCause(j.Status, j.Cause))
		read := r.client.ReadLog
		if r.json {
			read = r.client.ReadLogLines
		}
		if err := read(ctx, j.ID, 0, r.out); err != nil {
			return err
		}
	}
	return nil
}

// followJob prints a job's log as it comes, each line behind prefix.
func (r *remote) followJob(ctx context.Context, id fsm.JobID, attempt int, prefix string) error {
	return r.client.FollowLog(ctx, id, attempt, func(e client.LogEvent) error {
		switch {
		case e.Line != nil && r.json:
			return r.jsonLine(id, e.Line)
		case e.Line != nil:
			_, err := fmt.Fprintf(r.out, "%s%s\n", prefix, e.Line.Text)
			return err
		case e.Problem != nil:
			r.say("job %s: %s", id, e.Problem.Detail)
		case e.Status != nil && e.Status.Cause == fsm.CauseNodeLost:
			r.say("job %s, attempt %d: its node was lost", id, e.Status.Attempt)
		case e.End != nil && prefix == "":
			r.say("job %s %s", id, withCause(e.End.Status, e.End.Cause))
		}
		return nil
	})
}

func (r *remote) jsonLine(id fsm.JobID, line *api.LogLine) error {
	return writeJSONLine(r.out, struct {
		Job fsm.JobID `json:"job"`
		*api.LogLine
	}{id, line})
}
