package supervise

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// lookPath finds a command in the PATH of env. It is empty where there is none.
func lookPath(name string, env []string) string {
	if strings.Contains(name, "/") {
		if executable(name) {
			return name
		}
		return ""
	}
	for _, dir := range filepath.SplitList(lookup(env, "PATH")) {
		if path := filepath.Join(dir, name); filepath.IsAbs(path) && executable(path) {
			return path
		}
	}
	return ""
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

func lookup(env []string, key string) string {
	for i := len(env) - 1; i >= 0; i-- {
		if k, v, ok := strings.Cut(env[i], "="); ok && k == key {
			return v
		}
	}
	return ""
}

// overlay puts layers of KEY=VALUE on each other: one entry a key, the last one.
func overlay(layers ...[]string) []string {
	at := make(map[string]int)
	var env []string
	for _, layer := range layers {
		for _, entry := range layer {
			key, _, ok := strings.Cut(entry, "=")
			if !ok || key == "" || strings.ContainsRune(entry, 0) {
				continue
			}
			if i, seen := at[key]; seen {
				env[i] = entry
				continue
			}
			at[key] = len(env)
			env = append(env, entry)
		}
	}
	return env
}

// yieldTo makes a process give way to this one: it gets the processor later and
// is killed earlier when memory is short. What isn't allowed is left.
func yieldTo(pid, nice, oomScore int) {
	if nice != 0 {
		if own, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0); err == nil {
			own = 20 - own // the kernel's answer is turned over to be never negative
			_ = syscall.Setpriority(syscall.PRIO_PROCESS, pid, min(own+nice, 19))
		}
	}
	if oomScore != 0 {
		_ = os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte(strconv.Itoa(oomScore)), 0o644)
	}
}
