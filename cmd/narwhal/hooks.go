package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/inbox"
)

func hooksCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "hooks", Short: "Show the webhooks that came in, and replay them", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(hooksList(), hooksShow(), hooksReplay())
	return cmd
}

func hooksList() *cobra.Command {
	var r remote
	var f client.HookFilter
	var outcome string
	cmd := &cobra.Command{
		Use: "list", Short: "List the webhooks that came in to any node, the newest first, with what became of them", Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&f.Repo, "repo", "", "only of this `repository`")
	cmd.Flags().StringVar(&outcome, "outcome", "", "only with this `outcome`: waiting, accepted, known, ignored, refused or failed")
	cmd.Flags().IntVar(&f.Limit, "limit", 50, "how many, 200 at most")
	return r.reads(r.command(cmd, func(ctx context.Context, _ []string) error {
		f.Outcome = inbox.Status(outcome)
		if outcome != "" && !slices.Contains(inbox.Statuses(), f.Outcome) {
			return usage("--outcome %q: want one of %v", outcome, inbox.Statuses())
		}
		if f.Limit < 1 || f.Limit > 200 {
			return usage("--limit %d: want 1 to 200", f.Limit)
		}
		list, err := r.client.Hooks(ctx, f)
		if err != nil {
			return err
		}
		for _, m := range list.Missing {
			r.say("what came to %s is not in the list: it can't be asked (%s)", m.NodeName, m.Reason)
		}
		return r.print(list, func(w io.Writer) {
			row(w, "ID", "AGE", "REPO", "EVENT", "OUTCOME", "BUILD", "NODE", "REASON")
			for _, d := range list.Deliveries {
				row(w, d.ID, age(d.At), d.Repo, eventOf(&d), d.Status, buildOf(&d), d.NodeName, d.Reason)
			}
		})
	}))
}

func eventOf(d *api.Delivery) string {
	if d.Event == "" {
		return d.Path
	}
	return d.Event
}

func buildOf(d *api.Delivery) string {
	if d.Build == 0 {
		return ""
	}
	return fmt.Sprint(d.Build)
}

func hooksShow() *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show a webhook that came in, with its body", Args: cobra.ExactArgs(1),
		Long: "Show a webhook that came in, with its body. What was not signed has none: it is not kept.",
	}
	return r.reads(r.command(cmd, func(ctx context.Context, args []string) error {
		d, err := r.client.Hook(ctx, args[0])
		if err != nil {
			return err
		}
		if err := r.print(d, func(w io.Writer) {
			row(w, "webhook", d.ID)
			row(w, "came", d.At.Local().Format("2006-01-02 15:04:05")+" to "+d.NodeName+", "+d.Path)
			row(w, "repo", d.Repo)
			row(w, "event", d.Event)
			row(w, "forge's ID", d.ForgeID)
			row(w, "outcome", d.Status)
			row(w, "build", buildOf(&d.Delivery))
			row(w, "reason", d.Reason)
			row(w, "replayed", d.Replays)
		}); err != nil || r.json || d.Body == "" {
			return err
		}
		fmt.Fprintln(r.out)
		for line := range strings.SplitSeq(strings.TrimRight(d.Body, "\r\n"), "\n") {
			fmt.Fprintln(r.out, plain(line))
		}
		return nil
	}))
}

func hooksReplay() *cobra.Command {
	var r remote
	var force bool
	cmd := &cobra.Command{
		Use: "replay ID", Short: "Hand a webhook in once more", Args: cobra.ExactArgs(1),
		Long: "Hand a webhook in once more. A commit that was built already stays with the build that it has; with\n--force it is built anew.",
	}
	cmd.Flags().BoolVar(&force, "force", false, "build the commit anew, though it was built")
	return r.reads(r.command(cmd, func(ctx context.Context, args []string) error {
		d, err := r.client.ReplayHook(ctx, args[0], force, client.NewKey())
		if err != nil {
			return err
		}
		return r.print(d, func(w io.Writer) {
			switch {
			case d.Status == inbox.Known:
				row(w, fmt.Sprintf("its commit has build %d already; --force builds it anew", d.Build))
			case d.Build != 0:
				row(w, fmt.Sprintf("build %d", d.Build))
			case d.Reason != "":
				row(w, fmt.Sprintf("%s: %s", d.Status, d.Reason))
			default:
				row(w, d.Status)
			}
		})
	}))
}
