package main

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
)

// What a build can be, and a job.
var (
	buildStatuses = []string{"queued", "running", "passed", "failed", "errored", "canceled"}
	jobStatuses   = []string{"blocked", "held", "queued", "assigned", "running", "passed", "failed", "errored", "canceled", "skipped"}
)

func buildsCommand() *cobra.Command {
	var r remote
	var f client.Filter
	var status string
	var before uint64
	cmd := &cobra.Command{Use: "builds", Short: "List builds, the newest first", Args: cobra.NoArgs}
	cmd.Flags().StringVar(&f.Repo, "repo", "", "only of this `repository`")
	cmd.Flags().StringVar(&f.Branch, "branch", "", "only of this `branch`")
	cmd.Flags().StringVar(&status, "status", "", "only with this `status`: "+oneOf(buildStatuses))
	cmd.Flags().IntVarP(&f.Limit, "limit", "n", 20, "at most so `many`, 200 or fewer")
	cmd.Flags().Uint64Var(&before, "before", 0, "only older than the `build` of this number")
	return r.reads(r.command(cmd, func(ctx context.Context, _ []string) error {
		if err := checkFilter(status, buildStatuses, f.Limit); err != nil {
			return err
		}
		f.Status, f.Before = fsm.Status(status), fsm.BuildID(before)
		list, err := r.client.Builds(ctx, f)
		if err != nil {
			return err
		}
		if list.Next != 0 && !r.json {
			defer r.say("there are older ones: --before %d", list.Next)
		}
		return r.print(list, func(w io.Writer) {
			row(w, "BUILD", "STATUS", "REPO", "REF", "COMMIT", "AGE", "TOOK", "MESSAGE")
			for _, b := range list.Builds {
				ref := strings.TrimPrefix(strings.TrimPrefix(b.Ref, "refs/heads/"), "refs/")
				row(w, b.ID, b.Status, b.Repo, ref, short(b.SHA), age(b.CreatedAt), took(b.StartedAt, b.EndedAt), b.Message)
			}
		})
	}))
}

// checkFilter refuses what no node would list.
func checkFilter(status string, statuses []string, limit int) error {
	const most = 200
	switch {
	case status != "" && !slices.Contains(statuses, status):
		return usage("--status %q: want %s", status, oneOf(statuses))
	case limit < 1 || limit > most:
		return usage("--limit %d: want 1 to %d", limit, most)
	}
	return nil
}

func oneOf(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
