package executor

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/codepr/narwhal/fsm"
)

const (
	cgroupRoot = "/sys/fs/cgroup"
	cpuPeriod  = 100_000 // microseconds
	// emptyFor is how long killed processes are given to leave their group.
	emptyFor = 2 * time.Second
)

// cgroups are the machine's control groups, where this process may make some.
type cgroups struct {
	v2    bool
	roots map[string]string // by controller: one root for all in version 2; empty for none
}

// limits are of all processes in a group together. 0 is none.
type limits struct {
	cpu    int64 // milli-CPU
	memory int64 // bytes
	pids   int64
}

func detectCgroups() cgroups {
	var found unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &found); err != nil {
		return cgroups{}
	}
	c := cgroups{v2: found.Type == unix.CGROUP2_SUPER_MAGIC, roots: make(map[string]string)}
	for _, controller := range []string{"memory", "cpu", "pids"} {
		root := cgroupRoot
		if !c.v2 {
			root = filepath.Join(cgroupRoot, controller)
		}
		if unix.Access(root, unix.W_OK) == nil {
			c.roots[controller] = root
		}
	}
	return c
}

// dirs are a group's folders.
func (c cgroups) dirs(group string) []string {
	var list []string
	for _, root := range c.roots {
		if dir := filepath.Join(root, group); !slices.Contains(list, dir) {
			list = append(list, dir)
		}
	}
	slices.Sort(list)
	return list
}

// make makes a group with limits. What the machine has no controller for is not
// limited.
func (c cgroups) make(group string, l limits) error {
	for _, dir := range c.dirs(group) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	if c.v2 {
		if err := c.delegate(group); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	for _, s := range c.settings(l) {
		root, ok := c.roots[s.controller]
		if !ok {
			continue
		}
		err := os.WriteFile(filepath.Join(root, group, s.file), []byte(s.value), 0)
		missing := errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)
		if err != nil && !(s.optional && missing) {
			return fmt.Errorf("limit cgroup: %w", err)
		}
	}
	return nil
}

// delegate has the groups above this one hand the controllers down.
func (c cgroups) delegate(group string) error {
	at := cgroupRoot
	for _, name := range strings.Split(filepath.Dir(group), "/") {
		for _, controller := range []string{"+memory", "+cpu", "+pids"} {
			if err := os.WriteFile(filepath.Join(at, "cgroup.subtree_control"), []byte(controller), 0); err != nil {
				return err
			}
		}
		at = filepath.Join(at, name)
	}
	for _, controller := range []string{"+memory", "+cpu", "+pids"} {
		if err := os.WriteFile(filepath.Join(at, "cgroup.subtree_control"), []byte(controller), 0); err != nil {
			return err
		}
	}
	return nil
}

type groupSetting struct {
	controller, file, value string
	optional                bool // not every machine has it, such as swap accounting
}

func (c cgroups) settings(l limits) []groupSetting {
	quota, memory, pids := strconv.FormatInt(l.cpu*cpuPeriod/1000, 10), strconv.FormatInt(l.memory, 10), strconv.FormatInt(l.pids, 10)
	var list []groupSetting
	add := func(want int64, s ...groupSetting) {
		if want > 0 {
			list = append(list, s...)
		}
	}
	if c.v2 {
		add(l.memory, groupSetting{"memory", "memory.max", memory, false}, groupSetting{"memory", "memory.swap.max", "0", true})
		add(l.cpu, groupSetting{"cpu", "cpu.max", quota + " " + strconv.Itoa(cpuPeriod), false})
	} else {
		add(l.memory, groupSetting{"memory", "memory.limit_in_bytes", memory, false}, groupSetting{"memory", "memory.memsw.limit_in_bytes", memory, true})
		add(l.cpu, groupSetting{"cpu", "cpu.cfs_period_us", strconv.Itoa(cpuPeriod), false}, groupSetting{"cpu", "cpu.cfs_quota_us", quota, false})
	}
	add(l.pids, groupSetting{"pids", "pids.max", pids, false})
	return list
}

// usage gives the most memory that the group has had, in bytes, and how many of
// its processes were killed for want of it.
func (c cgroups) usage(group string) (peak int64, oomKills int) {
	dir := filepath.Join(c.roots["memory"], group)
	peakFile, eventFile := "memory.max_usage_in_bytes", "memory.oom_control"
	if c.v2 {
		peakFile, eventFile = "memory.peak", "memory.events"
	}
	if data, err := os.ReadFile(filepath.Join(dir, peakFile)); err == nil {
		peak, _ = strconv.ParseInt(string(bytes.TrimSpace(data)), 10, 64)
	}
	data, err := os.ReadFile(filepath.Join(dir, eventFile))
	if err != nil {
		return peak, 0
	}
	for line := range strings.Lines(string(data)) {
		if text, ok := strings.CutPrefix(line, "oom_kill "); ok {
			oomKills, _ = strconv.Atoi(strings.TrimSpace(text))
		}
	}
	return peak, oomKills
}

// remove ends what is in a group and the group itself.
func (c cgroups) remove(group string) error {
	var errs []error
	for _, dir := range c.dirs(group) {
		if err := removeGroup(dir); err != nil {
			errs = append(errs, fmt.Errorf("remove cgroup: %w", err))
		}
	}
	return errors.Join(errs...)
}

func removeGroup(dir string) error {
	below, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range below {
		if entry.IsDir() {
			if err := removeGroup(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	// Nothing tells in every version of the kernel that a group is empty.
	for deadline := time.Now().Add(emptyFor); ; time.Sleep(2 * time.Millisecond) {
		killGroup(dir)
		err := os.Remove(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
			return err
		}
	}
}

func killGroup(dir string) {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return
	}
	for text := range strings.FieldsSeq(string(data)) {
		if pid, err := strconv.Atoi(text); err == nil && pid > 1 && pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// sweep removes the groups below parent that keep doesn't name, and parent with
// the last of them.
func (c cgroups) sweep(parent string, keep func(fsm.AttemptRef) bool) error {
	var errs []error
	for _, dir := range c.dirs(parent) {
		below, err := os.ReadDir(dir)
		if err != nil {
			continue // there are none
		}
		for _, entry := range below {
			if !entry.IsDir() {
				continue
			}
			if ref, err := parseRefName(entry.Name()); err != nil || !keep(ref) {
				errs = append(errs, removeGroup(filepath.Join(dir, entry.Name())))
			}
		}
		_ = os.Remove(dir) // it stays while there is a group in it
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("sweep cgroups: %w", err)
	}
	return nil
}

func groupName(node fsm.NodeID) string { return "narwhal-" + string(node) }

// groups is the folder of this node's groups.
func (d *Docker) groups() string { return groupName(d.cfg.Node) }

func (d *Docker) group(ref fsm.AttemptRef) string {
	return filepath.Join(d.groups(), refName(ref))
}

// makeGroup makes the group above an attempt's containers, so that all of them
// together have no more than the job asked for. It is empty where the engine
// leaves groups to systemd, or the machine gives none: then each has that much.
func (d *Docker) makeGroup(s *setting) (string, error) {
	if s.engine.CgroupDriver != "cgroupfs" || len(d.cgroups.roots) == 0 {
		return "", nil
	}
	group := d.group(s.t.Ref)
	want := limits{cpu: max(min(s.t.Work.Spec.Resources.CPU, s.engine.CPU), 10), memory: memoryLimit(s.t), pids: d.cfg.Pids}
	if err := d.cgroups.make(group, want); err != nil {
		return "", err
	}
	return "/" + group, nil
}
