package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/cluster"
	"github.com/codepr/narwhal/replica"
)

func recoverCommand() *cobra.Command {
	var dir string
	var yes bool
	cfg := logConfig{level: "info", format: "text"}
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Make this node the only voter, after the majority was lost for good",
		Long: "Make this node the only voter of a new generation of its cluster, after the majority\n" +
			"of the voters was lost for good. Run it on the surviving voter with the highest applied\n" +
			"index, while no node runs. What only the lost nodes knew is lost; should they come back,\n" +
			"they are refused.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd); err != nil {
				return err
			}
			if !yes {
				return usage("this can lose builds that only the lost nodes knew: give --yes if they are gone for good")
			}
			id, err := cluster.Recover(cluster.Config{DataDir: dir}, replica.New(), cfg.logger(os.Stderr))
			if errors.Is(err, cluster.ErrLocked) {
				return fmt.Errorf("%w: stop the node first", err)
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "node %s is the only voter of cluster %s, generation %d: start it\n", id.NodeID, id.ClusterID, id.Generation)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "data-dir", "/var/lib/narwhal", "the node's data directory")
	cmd.Flags().BoolVar(&yes, "yes", false, "the other voters are gone for good")
	return cmd
}
