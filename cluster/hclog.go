package cluster

import (
	"io"
	"log"
	"log/slog"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// raftLog hands Raft's log to slog. Its errors are warnings here, and mere
// details when they say that a peer does not answer: gossip tells that once.
type raftLog struct {
	hclog.Logger // what is not here does nothing
	log          *slog.Logger
	name         string
	args         []any
}

func newRaftLog(log *slog.Logger) hclog.Logger {
	return &raftLog{Logger: hclog.NewNullLogger(), log: log.With("component", "raft")}
}

func (l *raftLog) Log(level hclog.Level, msg string, args ...any) {
	switch level {
	case hclog.Error:
		l.Error(msg, args...)
	case hclog.Warn, hclog.Info:
		l.Info(msg, args...)
	}
}

func (l *raftLog) Trace(string, ...any)          {}
func (l *raftLog) Debug(string, ...any)          {}
func (l *raftLog) Info(msg string, args ...any)  { l.log.Debug(msg, args...) }
func (l *raftLog) Warn(msg string, args ...any)  { l.log.Debug(msg, args...) }
func (l *raftLog) Error(msg string, args ...any) { l.complain(msg, args) }

func (l *raftLog) complain(msg string, args []any) {
	for _, detail := range []string{"failed to heartbeat", "failed to appendEntries", "failed to make requestVote", "failed to pipeline", "failed to decode incoming"} {
		if strings.HasPrefix(msg, detail) {
			l.log.Debug(msg, args...)
			return
		}
	}
	l.log.Warn(msg, args...)
}

func (l *raftLog) IsTrace() bool { return false }
func (l *raftLog) IsDebug() bool { return false }
func (l *raftLog) IsInfo() bool  { return true }
func (l *raftLog) IsWarn() bool  { return true }
func (l *raftLog) IsError() bool { return true }

func (l *raftLog) ImpliedArgs() []any { return l.args }
func (l *raftLog) Name() string       { return l.name }

func (l *raftLog) With(args ...any) hclog.Logger {
	return &raftLog{Logger: l.Logger, log: l.log.With(args...), name: l.name, args: append(l.args[:len(l.args):len(l.args)], args...)}
}

func (l *raftLog) Named(name string) hclog.Logger {
	return &raftLog{Logger: l.Logger, log: l.log, name: name, args: l.args}
}

func (l *raftLog) ResetNamed(name string) hclog.Logger { return l.Named(name) }

func (l *raftLog) StandardLogger(opts *hclog.StandardLoggerOptions) *log.Logger {
	return log.New(l.StandardWriter(opts), "", 0)
}

func (l *raftLog) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return memberlistLog{log: l.log}
}

// memberlistLog takes the lines of memberlist's log. All are details: what
// matters comes as events.
type memberlistLog struct{ log *slog.Logger }

func (w memberlistLog) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	if _, after, ok := strings.Cut(text, "memberlist: "); ok && !strings.Contains(text, "[DEBUG]") {
		w.log.Debug(after, "component", "gossip")
	}
	return len(line), nil
}
