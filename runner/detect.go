package runner

import (
	"fmt"
	"maps"
	"runtime"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/mem"

	"github.com/codepr/narwhal/link"
	"github.com/codepr/narwhal/pipeline"
)

// Of a machine's memory and disk some is left for narwhal and the system.
const (
	reserveMemory = 256 << 20 // bytes, and at least
	reservePart   = 10        // a tenth
)

// Detect measures what this machine can give to jobs: its logical CPUs, its
// memory less a reserve, and the disk that is free below dataDir less a reserve.
func Detect(dataDir string) (pipeline.Resources, error) {
	memory, err := mem.VirtualMemory()
	if err != nil {
		return pipeline.Resources{}, fmt.Errorf("measure memory: %w", err)
	}
	free, err := disk.Usage(dataDir)
	if err != nil {
		return pipeline.Resources{}, fmt.Errorf("measure disk below %s: %w", dataDir, err)
	}
	cpus, err := cpu.Counts(true)
	if err != nil || cpus == 0 {
		cpus = runtime.NumCPU()
	}
	return pipeline.Resources{
		CPU:    int64(cpus) * 1000,
		Memory: lessReserve(memory.Total, reserveMemory),
		Disk:   lessReserve(free.Free, 0),
	}, nil
}

func lessReserve(total uint64, least int64) int64 {
	have := int64(total) // no machine has 8 EiB
	return max(0, have-max(least, have/reservePart))
}

// Labels are an operator's with the built-in ones, which win.
func Labels(name string, own map[string]string) map[string]string {
	labels := maps.Clone(own)
	if labels == nil {
		labels = map[string]string{}
	}
	labels["os"], labels["arch"], labels["node"] = runtime.GOOS, runtime.GOARCH, name
	return labels
}

// Sampler measures a machine's load since it was last asked. It is for one
// goroutine.
func Sampler(dataDir string) func() link.Load {
	cpus := float64(runtime.NumCPU())
	return func() link.Load {
		var load link.Load
		if used, err := cpu.Percent(0, false); err == nil && len(used) == 1 {
			load.CPU = used[0] / 100 * cpus
		}
		if m, err := mem.VirtualMemory(); err == nil {
			load.Memory = int64(m.Used) // no machine has 8 EiB
		}
		if d, err := disk.Usage(dataDir); err == nil {
			load.Disk = int64(d.Free) // see above
		}
		return load
	}
}
