package main

import (
	"context"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
)

func timelineCommand() *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use: "timeline BUILD", Short: "Show what happened to a build, when, where and why", Args: cobra.ExactArgs(1),
		Long: "Show what happened to a build and its jobs, in the order of the replicated log: the index of the entry\nthat brought it, its term (each leader has another), node, cause, and who asked for it.",
	}
	return r.reads(r.command(cmd, func(ctx context.Context, args []string) error {
		id, err := parseBuild(args[0])
		if err != nil {
			return err
		}
		t, err := r.client.Timeline(ctx, id)
		if err != nil {
			return err
		}
		if t.LeftOut > 0 && !r.json {
			defer r.say("%d lines of the middle are left out, after the first %d", t.LeftOut, fsm.GapAt)
		}
		return r.print(t, func(w io.Writer) { showTimeline(w, t) })
	}))
}

func showTimeline(w io.Writer, t api.Timeline) {
	row(w, "INDEX", "TERM", "TIME", "JOB", "NAME", "WHAT", "ATTEMPT", "NODE", "STATUS", "CAUSE", "BY", "REASON")
	for _, m := range t.Moments {
		job, attempt, node := "", "", m.NodeName
		if m.Job != nil {
			job = m.Job.String()
		}
		if m.Attempt > 0 {
			attempt = strconv.Itoa(m.Attempt)
		}
		if node == "" {
			node = string(m.Node)
		}
		row(w, m.Index, m.Term, m.At.Local().Format(toMillis), job, m.Name, m.What, attempt, node, m.Status, m.Cause, m.By, m.Reason)
	}
}

const toMillis = time.DateOnly + " 15:04:05.000"

func auditCommand() *cobra.Command {
	var r remote
	var before uint64
	var limit int
	cmd := &cobra.Command{Use: "audit", Short: "List who did what, the newest first", Args: cobra.NoArgs}
	cmd.Flags().IntVarP(&limit, "limit", "n", 20, "at most so `many`, 200 or fewer")
	cmd.Flags().Uint64Var(&before, "before", 0, "only what is older than the line of this `number`")
	return r.reads(r.command(cmd, func(ctx context.Context, _ []string) error {
		if err := checkFilter("", nil, limit); err != nil {
			return err
		}
		log, err := r.client.Audit(ctx, before, limit)
		if err != nil {
			return err
		}
		if log.Next != 0 && !r.json {
			defer r.say("there are older ones: --before %d", log.Next)
		}
		return r.print(log, func(w io.Writer) {
			row(w, "SEQ", "INDEX", "TERM", "TIME", "BY", "DID", "ON", "REPO", "BUILD")
			for _, d := range log.Deeds {
				build := any("")
				if d.Build != 0 {
					build = d.Build
				}
				row(w, d.Seq, d.Index, d.Term, d.At.Local().Format(time.DateTime), d.By, d.Did, d.On, d.Repo, build)
			}
		})
	}))
}
