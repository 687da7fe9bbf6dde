package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/codepr/narwhal/api/client"
	"github.com/codepr/narwhal/fsm"
)

var runningJobs = client.Filter{Status: fsm.Running, Limit: 200}

// clockTicks is USER_HZ, which Linux fixes at 100 for all that /proc tells.
const clockTicks = 100

// idle measures a cluster that has nothing to do: the largest memory and
// processor share of a node over SECONDS.
func idle(ctx context.Context, b *bench) error {
	seconds := number("SECONDS", 30)
	if err := sleep(ctx, 15*time.Second); err != nil { // voters are chosen, caches are filled
		return err
	}
	before, err := b.processorTime()
	if err != nil {
		return err
	}
	began := time.Now()
	say("watching an idle cluster for %d s", seconds)
	if err := sleep(ctx, time.Duration(seconds)*time.Second); err != nil {
		return err
	}
	after, err := b.processorTime()
	if err != nil {
		return err
	}
	most, share := 0.0, 0.0
	for i, n := range b.lab.Nodes {
		rss, err := residentMB(n.PID())
		if err != nil {
			return err
		}
		cpu := 100 * (after[i] - before[i]) / time.Since(began).Seconds()
		say("%s: %.1f MB, %.2f %% of a core", n.Name, rss, cpu)
		most, share = max(most, rss), max(share, cpu)
	}
	print("rss_mb", most)
	print("cpu_pct", share)
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// processorTime is the seconds that each node has computed so far.
func (b *bench) processorTime() ([]float64, error) {
	var out []float64
	for _, n := range b.lab.Nodes {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.PID()))
		if err != nil {
			return nil, err
		}
		// The name in parentheses may hold spaces; utime and stime are the 14th and
		// 15th field (proc(5)).
		_, rest, _ := strings.Cut(string(data), ") ")
		fields := strings.Fields(rest)
		user, errU := strconv.ParseFloat(fields[11], 64)
		system, errS := strconv.ParseFloat(fields[12], 64)
		if errU != nil || errS != nil {
			return nil, fmt.Errorf("read /proc/%d/stat: %q", n.PID(), data)
		}
		out = append(out, (user+system)/clockTicks)
	}
	return out, nil
}

func residentMB(pid int) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(string(data), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024, err
		}
	}
	return 0, fmt.Errorf("no VmRSS for process %d", pid)
}
