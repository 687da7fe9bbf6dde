package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"github.com/codepr/narwhal/internal/lab"
)

// drill has `narwhal drill` kill the leader of five nodes N times, and another node
// RUNNERS times.
func drill(ctx context.Context, b *bench) error {
	say("building narwhal")
	if err := lab.Build(ctx, ".", b.binary()); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, b.binary(), "drill", "--local", "5", "--json",
		"--kills", strconv.Itoa(number("N", 50)), "--runner-kills", strconv.Itoa(number("RUNNERS", 10)))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil && out.Len() == 0 {
		return fmt.Errorf("narwhal drill: %w", err)
	}
	type spread struct {
		P50 float64 `json:"p50_s"`
		P95 float64 `json:"p95_s"`
		Max float64 `json:"max_s"`
	}
	var found struct {
		Leader struct{ Detected, Dispatch spread }
		Runner struct{ Detected, Rerun spread }

		Lost, Doubled, Disturbed, Diverged float64
	}
	if err := json.Unmarshal(out.Bytes(), &found); err != nil {
		return fmt.Errorf("narwhal drill: %w", err)
	}
	print("elected_p50_s", found.Leader.Detected.P50)
	print("dispatch_p50_s", found.Leader.Dispatch.P50)
	print("dispatch_p95_s", found.Leader.Dispatch.P95)
	print("dispatch_max_s", found.Leader.Dispatch.Max)
	print("node_lost_p95_s", found.Runner.Detected.P95)
	print("rerun_p50_s", found.Runner.Rerun.P50)
	print("rerun_p95_s", found.Runner.Rerun.P95)
	print("lost", found.Lost)
	print("doubled", found.Doubled)
	print("disturbed", found.Disturbed)
	print("diverged", found.Diverged)
	return nil
}
