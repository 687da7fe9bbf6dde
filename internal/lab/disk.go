package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Disk is a folder on a disk that can be slow, and that forgets when its power is cut what
// nobody had it write down: what was written since the file's last fsync. Names are kept:
// what is made, renamed and removed is so at once. It takes root.
type Disk struct {
	server *fuse.Server

	mu    sync.Mutex
	slow  time.Duration // what an fsync takes, beyond the disk's own time
	files map[uint64]*unsynced
}

// unsynced is what a file was before it was written to, and what was written.
type unsynced struct {
	file   *os.File // of this package's own
	writes []write
}

// write changes a part of a file, or its length where data is nil.
type write struct {
	at     int64
	data   []byte
	before []byte // what was there, as far as the file went
	length int64  // the file's, before
	cut    int64  // the new length, where data is nil
}

// NewDisk mounts a disk at dir, an empty folder; its files lie in backing.
func NewDisk(dir, backing string) (*Disk, error) {
	d := &Disk{files: map[uint64]*unsynced{}}
	root, err := fs.NewLoopbackRoot(backing)
	if err != nil {
		return nil, fmt.Errorf("make disk: %w", err)
	}
	top := d.node(root)
	server, err := fs.Mount(dir, top, &fs.Options{MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "narwhal-test", Name: "narwhal"}})
	if err != nil {
		return nil, fmt.Errorf("make disk: %w; it takes root and /dev/fuse", err)
	}
	d.server = server
	return d, nil
}

// Slow makes each fsync take so long.
func (d *Disk) Slow(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slow = by
}

// CutPower loses what was not synced: of each file a part of what was written since,
// whichever random says. Nobody may have a file of the disk open for writing.
func (d *Disk) CutPower(random *rand.Rand) (lost int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var failed []error
	for ino, u := range d.files {
		n, err := u.lose(random)
		lost += n
		failed = append(failed, err, u.file.Close())
		delete(d.files, ino)
	}
	return lost, errors.Join(failed...)
}

// Close takes the disk away.
func (d *Disk) Close() error {
	err := d.server.Unmount()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, u := range d.files {
		err = errors.Join(err, u.file.Close())
	}
	return err
}

// lose takes back all writes, and does some of them again.
func (u *unsynced) lose(random *rand.Rand) (lost int, err error) {
	for i := len(u.writes) - 1; i >= 0; i-- {
		w := u.writes[i]
		if len(w.before) > 0 {
			if _, err := u.file.WriteAt(w.before, w.at); err != nil {
				return lost, err
			}
		}
		if err := u.file.Truncate(w.length); err != nil {
			return lost, err
		}
	}
	for _, w := range u.writes {
		if random.IntN(2) == 0 {
			lost++
			continue
		}
		if w.data == nil {
			err = u.file.Truncate(w.cut)
		} else {
			_, err = u.file.WriteAt(w.data, w.at)
		}
		if err != nil {
			return lost, err
		}
	}
	return lost, nil
}

// note remembers a write that is about to be done to a file.
func (d *Disk) note(path string, w write) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	w.length = info.Size()
	reach := int64(len(w.data))
	if w.data == nil {
		w.at, reach = w.cut, w.length-w.cut
	}
	if reach = min(reach, w.length-w.at); reach > 0 {
		w.before = make([]byte, reach)
		if _, err := file.ReadAt(w.before, w.at); err != nil {
			return errors.Join(err, file.Close())
		}
	}
	ino := info.Sys().(*syscall.Stat_t).Ino
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.files[ino]
	if u == nil {
		u = &unsynced{file: file}
		d.files[ino] = u
	} else if err := file.Close(); err != nil {
		return err
	}
	u.writes = append(u.writes, w)
	return nil
}

// synced forgets what was written to a file: it is safe.
func (d *Disk) synced(path string) error {
	var stat syscall.Stat_t
	if err := syscall.Stat(path, &stat); err != nil {
		return err
	}
	d.mu.Lock()
	slow, u := d.slow, d.files[stat.Ino]
	delete(d.files, stat.Ino)
	d.mu.Unlock()
	time.Sleep(slow)
	if u == nil {
		return nil
	}
	return u.file.Close()
}

// diskNode is a file or folder.
type diskNode struct {
	*fs.LoopbackNode
	disk *Disk
}

// WrapChild implements fs.NodeWrapChilder.
func (n *diskNode) WrapChild(_ context.Context, child fs.InodeEmbedder) fs.InodeEmbedder {
	return n.disk.node(child)
}

func (d *Disk) node(n fs.InodeEmbedder) fs.InodeEmbedder {
	if plain, ok := n.(*fs.LoopbackNode); ok {
		return &diskNode{plain, d}
	}
	return n
}

// Open implements fs.NodeOpener.
func (n *diskNode) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	f, more, errno := n.LoopbackNode.Open(ctx, flags)
	return n.disk.watch(f), more, errno
}

// Create implements fs.NodeCreater.
func (n *diskNode) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	child, f, more, errno := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	return child, n.disk.watch(f), more, errno
}

// Setattr implements fs.NodeSetattrer.
func (n *diskNode) Setattr(ctx context.Context, f fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok && f == nil {
		path := filepath.Join(n.RootData.Path, n.Path(n.Root()))
		if err := n.disk.note(path, write{cut: int64(size)}); err != nil {
			return fs.ToErrno(err)
		}
	}
	return n.LoopbackNode.Setattr(ctx, f, in, out)
}

// diskFile is a file that is open.
type diskFile struct {
	*fs.LoopbackFile
	disk *Disk
}

func (d *Disk) watch(f fs.FileHandle) fs.FileHandle {
	if open, ok := f.(*fs.LoopbackFile); ok {
		return &diskFile{open, d}
	}
	return f
}

// PassthroughFd implements fs.FilePassthroughFder: the kernel is not to write by itself.
func (f *diskFile) PassthroughFd() (int, bool) { return 0, false }

// path leads to the file whatever its name is by now.
func (f *diskFile) path() string {
	fd, _ := f.LoopbackFile.PassthroughFd()
	return fmt.Sprintf("/proc/self/fd/%d", fd)
}

// Write implements fs.FileWriter.
func (f *diskFile) Write(ctx context.Context, data []byte, at int64) (uint32, syscall.Errno) {
	if err := f.disk.note(f.path(), write{at: at, data: bytes.Clone(data)}); err != nil {
		return 0, fs.ToErrno(err)
	}
	return f.LoopbackFile.Write(ctx, data, at)
}

// Setattr implements fs.FileSetattrer.
func (f *diskFile) Setattr(ctx context.Context, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok {
		if err := f.disk.note(f.path(), write{cut: int64(size)}); err != nil {
			return fs.ToErrno(err)
		}
	}
	return f.LoopbackFile.Setattr(ctx, in, out)
}

// Fsync implements fs.FileFsyncer. The disk below is not waited for: this machine keeps
// its power.
func (f *diskFile) Fsync(context.Context, uint32) syscall.Errno {
	return fs.ToErrno(f.disk.synced(f.path()))
}
