package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	// WarmSocket, in SocketsDir, is where Await listens until it has been told to
	// begin. No process of a job is there yet.
	WarmSocket = "warm.sock"
	// AwaitFor is how long Await waits, so that nothing waits for ever for a narwhal
	// that is gone.
	AwaitFor = 15 * time.Minute

	beginTimeout = 10 * time.Second
	maxBegin     = 8*maxSecrets + 1<<10 // as JSON escapes them
)

// beginning is what Begin sends.
type beginning struct {
	Secrets map[string]string `json:"secrets,omitempty"`
}

// begun is what Await answers.
type begun struct {
	Error string `json:"error,omitempty"`
}

// Await is Main for a container that was made before its job was known, or whose job
// has secrets, which Begin brings: it waits in dir until Begin is called, and for AwaitFor at most. Only then does it read what
// WriteSpec left. The journal has a RecordBegun before Begin hears of it, and before
// anything of the job is done.
func Await(ctx context.Context, dir string, environ []string) int {
	ctx, stop := untilTold(ctx)
	defer stop()
	var reaping sync.WaitGroup // never waited for: it ends with this process
	r := newReaper()
	reaping.Go(r.run)
	task, err := awaitBegin(ctx, dir, AwaitFor)
	if err != nil {
		fmt.Fprintln(os.Stderr, "narwhal:", err)
		return exitBroken
	}
	if task == nil {
		return 0 // nobody has had a job for it
	}
	return exitOf(supervise(ctx, *task, r, environ, filepath.Join(dir, LogFile), filepath.Join(dir, JournalFile)))
}

// awaitBegin gives the task that this process was told to begin; nil where it was not.
func awaitBegin(ctx context.Context, dir string, patience time.Duration) (*Task, error) {
	if err := hide(); err != nil {
		return nil, err
	}
	l, closing, err := listen(filepath.Join(dir, SocketsDir), WarmSocket)
	if err != nil {
		return nil, err
	}
	// The socket goes before any step runs: none is to find it.
	defer closing()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("wait for a job: %w", err)
		}
		task, err := hear(conn, dir)
		_ = conn.Close()
		if task != nil || err != nil {
			return task, err
		}
	}
}

// hear gives nil where the connection told nothing: a narwhal that ended in the
// middle of its words has not begun anything.
func hear(conn net.Conn, dir string) (*Task, error) {
	_ = conn.SetDeadline(time.Now().Add(beginTimeout))
	var told beginning
	if err := json.NewDecoder(io.LimitReader(conn, maxBegin)).Decode(&told); err != nil {
		return nil, nil
	}
	task, err := readSpec(dir)
	if err == nil {
		task.SecretValues = told.Secrets
		err = Note(filepath.Join(dir, JournalFile), Record{Kind: RecordBegun})
	}
	var answer begun
	if err != nil {
		answer.Error = err.Error()
	}
	// Who doesn't hear it finds the record.
	_ = json.NewEncoder(conn).Encode(answer)
	return &task, err
}

// Begin tells the process that waits behind the socket to run what WriteSpec left in
// its folder, with these secrets. After an error it may have begun all the same: the
// journal tells, once the process is gone.
func Begin(ctx context.Context, socket string, secrets map[string]string) error {
	if err := Fits(secrets); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, beginTimeout)
	defer cancel()
	conn, err := dial(ctx, socket)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer func() { _ = conn.Close() }()
	if err := json.NewEncoder(conn).Encode(beginning{secrets}); err != nil {
		return fmt.Errorf("begin: %w", errors.Join(err, ctx.Err()))
	}
	var answer begun
	if err := json.NewDecoder(io.LimitReader(conn, maxAnswer)).Decode(&answer); err != nil {
		return fmt.Errorf("begin: %w", errors.Join(err, ctx.Err()))
	}
	if answer.Error != "" {
		return fmt.Errorf("begin: %s", clip(answer.Error))
	}
	return nil
}

// Waiting returns when a process waits behind the socket.
func Waiting(ctx context.Context, socket string) error {
	for {
		conn, err := dial(ctx, socket)
		if err == nil {
			return conn.Close()
		}
		if !sleep(ctx, 10*time.Millisecond) {
			return fmt.Errorf("wait for the container to be ready: %w", errors.Join(err, ctx.Err()))
		}
	}
}
