package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/codepr/narwhal/internal/chaos"
	"github.com/codepr/narwhal/internal/lab"
)

// rage has random faults befall five nodes under load for MINUTES, from SEED. Unlike the
// benchmarks it fails where a promise was not kept: it is also a test.
func rage(ctx context.Context, b *bench) (err error) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("SEED"); text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			return fmt.Errorf("SEED: %w", err)
		}
	}
	say("building narwhal")
	if err := lab.Build(ctx, ".", b.binary()); err != nil {
		return err
	}
	network, err := lab.NewNetwork(ctx, 5)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, network.Close()) }()
	l, err := lab.Start(ctx, lab.Options{
		Binary: b.binary(), Dir: filepath.Join(b.dir, "nodes"), Nodes: 5, Network: network,
		// Nodes are lost soon, so that faults of seconds go beyond it.
		Args: []string{"--suspect-after", "2s", "--lost-after", "6s", "--cpu", "2", "--memory", "2Gi", "--stop-grace", "1s"},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	report, err := chaos.Run(ctx, chaos.Config{
		Lab: l, Dir: filepath.Join(b.dir, "chaos"), Seed: seed, For: time.Duration(number("MINUTES", 30)) * time.Minute, Say: say,
	})
	if report == nil || !report.Kept() {
		err = errors.Join(err, fmt.Errorf("a promise was not kept: SEED=%d brings the same faults", seed), leaveLogs(l))
	}
	if report == nil {
		return err
	}
	for _, finding := range report.Findings {
		say("%s", finding)
	}
	say("%s", report)
	print("builds", float64(report.Builds))
	print("lost", float64(report.Lost))
	print("doubled", float64(report.Doubled))
	print("broken_logs", float64(report.Broken))
	print("unlinear", float64(report.Unlinear))
	print("diverged", float64(report.Diverged))
	print("leftovers", float64(report.Leftovers))
	print("crashed", float64(report.Crashed))
	return err
}

// leaveLogs keeps what the nodes logged.
func leaveLogs(l *lab.Lab) error {
	file, err := os.CreateTemp("", "narwhal-chaos-*.log")
	if err != nil {
		return err
	}
	l.Logs(file)
	say("what the nodes logged is in %s", file.Name())
	return file.Close()
}
