package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/api"
)

func statusCommand() *cobra.Command {
	var r remote
	cmd := &cobra.Command{Use: "status", Short: "Say how the cluster stands", Args: cobra.NoArgs}
	return r.reads(r.command(cmd, func(ctx context.Context, _ []string) error {
		s, err := r.client.Status(ctx)
		if err != nil {
			return err
		}
		return r.print(s, func(w io.Writer) {
			alive := 0
			for _, m := range s.Members {
				if m.Alive {
					alive++
				}
			}
			row(w, "cluster", s.ClusterID)
			leader := "none"
			if s.Leader != nil {
				leader = fmt.Sprintf("%s (%s) at %s", s.Leader.Name, s.Leader.ID, s.Leader.APIAddr)
			}
			row(w, "leader", leader)
			row(w, "nodes", fmt.Sprintf("%d, %d of them alive", len(s.Members), alive))
			row(w, "voters", fmt.Sprintf("%d, %d of them alive", s.Voters, s.AliveVoters))
			row(w, "tolerance", s.Tolerance)
			if s.Mixed != "" {
				row(w, "versions", s.Mixed)
			}
			if s.Bucket != nil {
				row(w, "bucket", bucketLine(s))
			}
			if s.Disagreement != "" {
				row(w, "WARNING", s.Disagreement)
			}
			row(w, "builds", fmt.Sprintf("%d kept, %d not ended", s.Builds.Kept, s.Builds.Live))
			row(w, "jobs", fmt.Sprintf("%d wait for a node, %d on one", s.Jobs.Queued, s.Jobs.Placed))
			row(w, "answered by", fmt.Sprintf("%s, narwhal %s, index %d", s.Node, s.Version, s.Index))
		})
	}))
}

// bucketLine says how the bucket stands, and what waits for it on all nodes.
func bucketLine(s api.Status) string {
	waiting := 0
	for _, m := range s.Members {
		if m.Bucket != nil {
			waiting += m.Bucket.Waiting
		}
	}
	line := fmt.Sprintf("%s (%s)", s.Bucket.URL, s.Bucket.ID)
	if s.Bucket.Error != "" {
		line += fmt.Sprintf(", down since %s: %s", s.Bucket.Since.Format(time.RFC3339), s.Bucket.Error)
	}
	if waiting > 0 {
		line += fmt.Sprintf("; %d blobs wait on their nodes for it", waiting)
	}
	return line
}
