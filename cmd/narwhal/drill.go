package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/internal/drill"
)

// drillFlags are what `narwhal drill` was asked for.
type drillFlags struct {
	yes       bool
	partition bool
	local     localDrill
	drill     drill.Config
}

func drillCommand() *cobra.Command {
	var r remote
	var f drillFlags
	cmd := &cobra.Command{
		Use: "drill", Short: "Kill nodes under load, and show that nothing is lost", Args: cobra.NoArgs,
		Long: "Run small builds, kill the leader while they run, then another node that runs jobs, and tell how\n" +
			"long that held things up and whether a build was lost, built twice or disturbed. Every node of\n" +
			"the cluster has to be started with --allow-drill, and by something that starts it again, such as\n" +
			"its systemd unit. With --local it starts a cluster of its own on this machine and takes it down\n" +
			"again. The exit status is 0 if every promise was kept.",
		Example: "  narwhal drill --local 5              five nodes on this machine\n" +
			"  narwhal drill --local 5 --partition  and the leader is cut off (as root)\n  narwhal drill --yes                  the cluster that runs here",
	}
	fs := cmd.Flags()
	fs.IntVar(&f.local.nodes, "local", 0, "start a cluster of so many `nodes` on this machine, 3 to 9")
	fs.StringVar(&f.local.executor, "executor", "process", "with --local: how steps run, `docker` or process")
	fs.BoolVar(&f.yes, "yes", false, "kill nodes of the cluster that runs")
	fs.IntVar(&f.drill.Leaders, "kills", 1, "how often the leader is killed")
	fs.IntVar(&f.drill.Runners, "runner-kills", 1, "how often a node that runs jobs is killed, and stays away until they run elsewhere")
	fs.BoolVar(&f.partition, "partition", false, "cut the leader off from the others, too; with --local, as root")
	fs.IntVar(&f.drill.Running, "running", 20, "how many jobs run while a node is killed")
	fs.IntVar(&f.drill.Queued, "queued", 100, "how many builds wait meanwhile")
	fs.StringVar(&f.drill.Image, "image", "", "the `image` of the jobs (default: the nodes' default image)")
	fs.DurationVar(&f.drill.LeaderDown, "leader-down", 5*time.Second, "how long a killed leader stays away: less than the nodes' --lost-after")
	fs.DurationVar(&f.drill.RunnerDown, "runner-down", 25*time.Second, "how long another node stays away: more than the nodes' --lost-after")
	r.reads(r.command(cmd, func(ctx context.Context, _ []string) error {
		if f.partition {
			return usage("--partition needs --local: the network of a cluster that runs is not narwhal's to cut")
		}
		if !f.yes {
			return usage("nodes of this cluster are killed, with their containers running on: give --yes, or try --local 5 first")
		}
		var err error
		if f.drill.Token, err = r.findToken(); err != nil {
			return err
		}
		f.drill.Client = r.client
		return r.drill(ctx, f.drill)
	}))
	onCluster := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !cmd.Flags().Changed("local") {
			return onCluster(cmd, args)
		}
		r.out, r.err = cmd.OutOrStdout(), cmd.ErrOrStderr()
		return r.drillHere(cmd.Context(), f)
	}
	return cmd
}

// drill runs one and prints what it found.
func (r *remote) drill(ctx context.Context, config drill.Config) error {
	config.Say = r.say
	report, err := drill.Run(ctx, config)
	if err != nil {
		return err
	}
	if r.json {
		err = r.print(report, nil)
	} else {
		err = report.Write(r.out)
	}
	if err == nil && !report.Kept() {
		err = exitError{code: exitFailed} // the table says what
	}
	return err
}
