package copies

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// Shelf has this node's copies of the logs that other nodes write. Its methods may be
// called from any goroutine.
type Shelf struct {
	dir string
	mu  sync.Mutex // over the files
}

// Copy is one log on a shelf.
type Copy struct {
	Ref   fsm.AttemptRef
	Owner fsm.NodeID // who writes the log
	Path  string
	Bytes int64
	At    time.Time // when more of it came
}

// OpenShelf readies the folder.
func OpenShelf(dir string) (*Shelf, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open copies of logs: %w", err)
	}
	return &Shelf{dir: dir}, nil
}

// Append adds to a copy what it does not have yet, and gives its size. Data that
// would leave a gap is not taken: the size says where to go on.
func (s *Shelf) Append(owner fsm.NodeID, ref fsm.AttemptRef, offset int64, data []byte) (size int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	file, err := os.OpenFile(filepath.Join(s.dir, fileName(owner, ref)), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return 0, fmt.Errorf("keep copy of log: %w", err)
	}
	defer func() {
		if closeErr := file.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("keep copy of log: %w", closeErr)
		}
	}()
	info, err := file.Stat()
	if err != nil {
		return 0, fmt.Errorf("keep copy of log: %w", err)
	}
	size = info.Size()
	if skip := size - offset; offset >= 0 && skip >= 0 && skip < int64(len(data)) {
		n, err := file.Write(data[skip:])
		if size += int64(n); err != nil {
			return size, fmt.Errorf("keep copy of log: %w", err)
		}
	}
	return size, nil
}

// Drop removes a copy. One that is not here is no error.
func (s *Shelf) Drop(owner fsm.NodeID, ref fsm.AttemptRef) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.Remove(filepath.Join(s.dir, fileName(owner, ref))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("drop copy of log: %w", err)
	}
	return nil
}

// Find is the copy of an attempt's log that is here; of several the longest.
func (s *Shelf) Find(job fsm.JobID, attempt int) (Copy, bool) {
	found, err := filepath.Glob(filepath.Join(s.dir, fmt.Sprintf("%s-%d-*", job, attempt)))
	if err != nil {
		return Copy{}, false // the pattern is of numbers
	}
	var best Copy
	for _, path := range found {
		if c, ok := look(path); ok && (best.Path == "" || c.Bytes > best.Bytes) {
			best = c
		}
	}
	return best, best.Path != ""
}

// List gives all copies.
func (s *Shelf) List() ([]Copy, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list copies of logs: %w", err)
	}
	var list []Copy
	for _, e := range entries {
		if c, ok := look(filepath.Join(s.dir, e.Name())); ok {
			list = append(list, c)
		}
	}
	return list, nil
}

// fileName is JOB-ATTEMPT-EPOCH.INDEX-OWNER, such as 42.1-2-0.913-4f1b….
func fileName(owner fsm.NodeID, ref fsm.AttemptRef) string {
	return fmt.Sprintf("%s-%d-%d.%d-%s", ref.Job, ref.N, ref.Token.Epoch, ref.Token.Index, owner)
}

func look(path string) (Copy, bool) {
	info, err := os.Stat(path)
	if err != nil {
		return Copy{}, false // it has just been dropped
	}
	c := Copy{Path: path, Bytes: info.Size(), At: info.ModTime()}
	parts := strings.SplitN(filepath.Base(path), "-", 4)
	if len(parts) != 4 || parts[3] == "" {
		return Copy{}, false
	}
	c.Owner = fsm.NodeID(parts[3])
	epoch, index, found := strings.Cut(parts[2], ".")
	var errs [4]error
	c.Ref.Job, errs[0] = fsm.ParseJobID(parts[0])
	c.Ref.N, errs[1] = strconv.Atoi(parts[1])
	c.Ref.Token.Epoch, errs[2] = strconv.ParseUint(epoch, 10, 64)
	c.Ref.Token.Index, errs[3] = strconv.ParseUint(index, 10, 64)
	return c, found && errors.Join(errs[:]...) == nil
}
