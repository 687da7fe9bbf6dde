package main

import (
	"log/slog"
	"os"
	"strconv"
	"syscall"
)

// ownNice is the priority of narwhal's own threads: ahead of its builds, so that
// a busy machine does not cost it the leadership.
const ownNice = -5

// raisePriority does so where it may. On Linux a priority belongs to a thread,
// and threads that start later inherit it.
func raisePriority(log *slog.Logger) {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		log.Debug("priority not raised", "reason", err)
		return
	}
	for _, t := range tasks {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		if err := syscall.Setpriority(syscall.PRIO_PROCESS, id, ownNice); err != nil {
			log.Info("priority not raised: builds on this machine may delay elections", "reason", err)
			return
		}
	}
}
