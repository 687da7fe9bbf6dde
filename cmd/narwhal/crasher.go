package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/codepr/narwhal/api"
)

// downFile says, in a data directory, until when the node is to stay away.
const downFile = "drill-down-until"

// crasher ends this process for a drill.
type crasher struct {
	dir string // the data directory
}

// crash kills the process, which has no time to tell anybody. It returns only where that
// fails.
func (c crasher) crash(down time.Duration) error {
	if down > 0 {
		until := time.Now().Add(down).Format(time.RFC3339Nano)
		if err := os.WriteFile(filepath.Join(c.dir, downFile), []byte(until+"\n"), 0o600); err != nil {
			return fmt.Errorf("crash for a drill: %w", err)
		}
	}
	return fmt.Errorf("crash for a drill: %w", syscall.Kill(os.Getpid(), syscall.SIGKILL))
}

// stayDown keeps a node that a drill has crashed away for as long as was asked for: its
// service manager starts it again at once. What can't be read, or is further off than any
// drill asks for, holds up nothing.
func stayDown(ctx context.Context, dir string, log *slog.Logger) error {
	path := filepath.Join(dir, downFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look whether a drill goes on: %w", err)
	}
	if until, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(string(text))); err == nil && time.Until(until) <= api.MaxDown {
		log.Warn("a drill has crashed this node: it stays away for a moment", "until", until)
		select {
		case <-time.After(time.Until(until)):
		case <-ctx.Done():
			return nil // the file stays: the drill may go on
		}
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("end the drill: %w", err)
	}
	return nil
}
