package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/pflag"
)

// logConfig is how the process itself logs.
type logConfig struct {
	level  string
	format string
}

func (c *logConfig) flags(f *pflag.FlagSet) {
	f.StringVar(&c.level, "log-level", "info", "what to log of narwhal itself: `debug`, info, warn or error")
	f.StringVar(&c.format, "log-format", "text", "how: `text` or json")
}

func (c *logConfig) logger(to *os.File) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.level)); err != nil {
		level = slog.LevelInfo
	}
	opts := &slog.HandlerOptions{Level: level}
	if c.format == "json" {
		return slog.New(slog.NewJSONHandler(to, opts))
	}
	return slog.New(slog.NewTextHandler(to, opts))
}

func (c *logConfig) complete() error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.level)); err != nil {
		return fmt.Errorf("--log-level %q: want debug, info, warn or error", c.level)
	}
	if c.format != "text" && c.format != "json" {
		return fmt.Errorf("--log-format %q: want text or json", c.format)
	}
	return nil
}
