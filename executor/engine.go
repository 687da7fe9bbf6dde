package executor

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"
)

// Engine is the Docker engine that this machine has.
type Engine struct {
	Version string
	API     string // the version spoken with it
	OS      string
	Arch    string // as the kernel names it, such as "x86_64"
	CPU     int64  // milli-CPU
	Memory  int64  // bytes
	// Rootless and UserNS say that a container's root is not the machine's. Without
	// either it is, short of what capabilities and seccomp take from it.
	Rootless, UserNS bool
	Seccomp          bool // the default filter of system calls is on
	// DiskLimit says that a container's own files can be limited; a workspace can't.
	DiskLimit    bool
	CgroupDriver string // "cgroupfs" or "systemd"
	LiveRestore  bool   // containers go on while the engine is restarted
}

// Detect reports the engine at host (empty for the usual socket), or why there is
// none that can be used.
func Detect(ctx context.Context, host string) (Engine, error) {
	api, err := connect(host)
	if err != nil {
		return Engine{}, err
	}
	defer func() { _ = api.Close() }()
	return ask(ctx, api)
}

func connect(host string) (*client.Client, error) {
	opts := []client.Opt{client.WithAPIVersionNegotiation()}
	if host != "" {
		opts = append(opts, client.WithHost(host))
	}
	api, err := client.NewClientWithOpts(opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to Docker engine: %w", err)
	}
	return api, nil
}

func ask(ctx context.Context, api *client.Client) (Engine, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	info, err := api.Info(ctx)
	if err != nil {
		return Engine{}, fmt.Errorf("ask Docker engine at %s: %w", api.DaemonHost(), err)
	}
	if info.OSType != "linux" {
		return Engine{}, fmt.Errorf("the Docker engine at %s runs %s containers, narwhal wants linux", api.DaemonHost(), info.OSType)
	}
	e := Engine{
		Version: info.ServerVersion, API: api.ClientVersion(), OS: info.OSType, Arch: info.Architecture,
		CPU: int64(info.NCPU) * 1000, Memory: info.MemTotal,
		CgroupDriver: info.CgroupDriver, LiveRestore: info.LiveRestoreEnabled, DiskLimit: limitsDisk(info),
	}
	for _, option := range info.SecurityOptions {
		e.Rootless = e.Rootless || option == "name=rootless"
		e.UserNS = e.UserNS || option == "name=userns"
		e.Seccomp = e.Seccomp || strings.HasPrefix(option, "name=seccomp") && !strings.Contains(option, "unconfined")
	}
	return e, nil
}

// limitsDisk reports whether the storage driver takes a size. overlay2 does on XFS
// with project quotas alone, which only the mount tells.
func limitsDisk(info system.Info) bool {
	switch info.Driver {
	case "btrfs", "zfs", "devicemapper":
		return true
	case "overlay2":
	default:
		return false
	}
	for _, pair := range info.DriverStatus {
		if pair[0] == "Backing Filesystem" && pair[1] != "xfs" {
			return false
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	return err == nil && hasQuota(string(mounts), info.DockerRootDir)
}

// hasQuota finds the mount that holds dir, the longest, and reports whether it has
// project quotas.
func hasQuota(mounts, dir string) (quota bool) {
	longest := -1
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[1] != "/" && dir != fields[1] && !strings.HasPrefix(dir, fields[1]+"/") || len(fields[1]) < longest {
			continue
		}
		longest = len(fields[1])
		options := strings.Split(fields[3], ",")
		quota = fields[2] == "xfs" && (slices.Contains(options, "pquota") || slices.Contains(options, "prjquota"))
	}
	return quota
}

// rememberEngine asks until there is an answer, which then holds.
func (d *Docker) rememberEngine() func(context.Context) (Engine, error) {
	var (
		mu    sync.Mutex
		known *Engine
	)
	return func(ctx context.Context) (Engine, error) {
		mu.Lock()
		defer mu.Unlock()
		if known != nil {
			return *known, nil
		}
		e, err := ask(ctx, d.api)
		if err == nil {
			known = &e
		}
		return e, err
	}
}
