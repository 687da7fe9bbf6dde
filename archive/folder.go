package archive

import (
	"os"
	"sync/atomic"
)

// folder is an open folder that several goroutines use: files are opened and made
// from it by their last name alone, so that no link above them can be swapped in.
type folder struct {
	root *os.Root
	uses atomic.Int32
}

func newFolder(root *os.Root) *folder {
	f := &folder{root: root}
	f.uses.Store(1)
	return f
}

func (f *folder) hold() *folder {
	f.uses.Add(1)
	return f
}

// release closes the folder after its last use.
func (f *folder) release() error {
	if f.uses.Add(-1) > 0 {
		return nil
	}
	return f.root.Close()
}
