package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/api"
)

func nodesCommand() *cobra.Command {
	var r remote
	cmd := &cobra.Command{Use: "nodes", Short: "List the nodes: who is there, who leads, and what they have", Args: cobra.NoArgs}
	return r.reads(r.command(cmd, func(ctx context.Context, _ []string) error {
		nodes, err := r.client.Nodes(ctx)
		if err != nil {
			return err
		}
		return r.print(nodes, func(w io.Writer) {
			columns := []any{"NODE", "ID", "STATE", "ROLE", "JOBS", "CPU", "MEMORY", "EXECUTOR", "VERSION", "ADDRESS"}
			buckets := slices.ContainsFunc(nodes, func(n api.Node) bool { return n.Bucket != nil })
			if buckets {
				columns = append(columns, "BUCKET")
			}
			row(w, columns...)
			for _, n := range nodes {
				cpu, memory := offer(n)
				columns = []any{n.Name, n.ID, nodeState(n), role(n), n.Jobs, cpu, memory, n.Executor, n.Version, n.APIAddr}
				if buckets {
					columns = append(columns, bucketState(n.Bucket))
				}
				row(w, columns...)
			}
		})
	}))
}

func nodeState(n api.Node) string {
	switch {
	case !n.Alive:
		return "silent"
	case n.Drained:
		return "drained"
	case n.DiskFull:
		return "disk full"
	}
	return "alive"
}

func bucketState(b *api.NodeBucket) string {
	switch {
	case b == nil:
		return "none"
	case b.Down:
		return fmt.Sprintf("%s (down, %d blobs wait)", b.ID, b.Waiting)
	case b.Waiting > 0:
		return fmt.Sprintf("%s (%d blobs wait)", b.ID, b.Waiting)
	}
	return b.ID
}

func role(n api.Node) string {
	if n.Leader {
		return "leader"
	}
	return n.Role
}

// offer is what is reserved of a node, and all that it has.
func offer(n api.Node) (cpu, memory string) {
	if n.Capacity == nil || n.Reserved == nil {
		return "", ""
	}
	return fmt.Sprintf("%g/%g", float64(n.Reserved.CPU)/1000, float64(n.Capacity.CPU)/1000),
		fmt.Sprintf("%.1f/%.1fGi", float64(n.Reserved.Memory)/(1<<30), float64(n.Capacity.Memory)/(1<<30))
}
