package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/raft"
)

// checkSnapshots makes sure that the newest snapshot can be read, and that the log goes on
// from it. Raft would take the one before it where there is one, whose entries the log may
// not hold any more, or none. The error is ErrDamaged.
func checkSnapshots(dir string, snaps *raft.FileSnapshotStore, log raft.LogStore) error {
	entries, err := os.ReadDir(filepath.Join(dir, "snapshots"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	there := 0
	for _, e := range entries {
		if e.IsDir() && !strings.HasSuffix(e.Name(), ".tmp") { // that was being written when the process ended
			there++
		}
	}
	readable, err := snaps.List()
	if err != nil {
		return err
	}
	if want := min(there, keepSnapshots); len(readable) < want {
		return fmt.Errorf("%w: of %d snapshots %d say what they are", ErrDamaged, want, len(readable))
	}
	newest := uint64(0)
	if len(readable) > 0 {
		_, r, err := snaps.Open(readable[0].ID) // which compares it with its checksum
		if err != nil {
			return fmt.Errorf("%w: snapshot %s: %w", ErrDamaged, readable[0].ID, err)
		}
		if err := r.Close(); err != nil {
			return err
		}
		newest = readable[0].Index
	}
	first, err := log.FirstIndex()
	if err != nil {
		return err
	}
	if first > newest+1 {
		return fmt.Errorf("%w: it begins with entry %d, and the newest snapshot ends with %d", ErrDamaged, first, newest)
	}
	return nil
}
