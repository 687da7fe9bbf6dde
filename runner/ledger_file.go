package runner

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A ledger file is its magic, then frames: length of the payload (4 bytes, big
// endian), CRC-32C of length and payload (4 bytes), payload.
const (
	ledgerMagic = "narwhal ledger 1\n"
	frameHead   = 8
	maxFrame    = 16 << 20
	compactAt   = 4 << 20 // bytes; a file is not rewritten before it has grown so far

	// reserved bytes of the disk are the ledger's before it needs them: what runs when the
	// disk becomes full has to end, and be told.
	reserved = 1 << 20
)

// ErrNotLedger is returned when a file in the ledger's place is something else.
var ErrNotLedger = errors.New("not a ledger of this version")

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func appendFrame(to, payload []byte) []byte {
	at := len(to)
	to = binary.BigEndian.AppendUint32(to, uint32(len(payload))) // far below maxFrame
	sum := crc32.Update(crc32.Checksum(to[at:], castagnoli()), castagnoli(), payload)
	to = binary.BigEndian.AppendUint32(to, sum)
	return append(to, payload...)
}

// nextFrame cuts a frame off data; ok is false where none is whole.
func nextFrame(data []byte) (payload, rest []byte, ok bool) {
	if len(data) < frameHead {
		return nil, data, false
	}
	n := binary.BigEndian.Uint32(data)
	if n > maxFrame || uint64(len(data)-frameHead) < uint64(n) {
		return nil, data, false
	}
	payload, rest = data[frameHead:frameHead+n], data[frameHead+n:]
	sum := crc32.Update(crc32.Checksum(data[:4], castagnoli()), castagnoli(), payload)
	return payload, rest, sum == binary.BigEndian.Uint32(data[4:])
}

// ledgerFile is the file below a ledger. Its first error sticks.
type ledgerFile struct {
	path      string
	f         *os.File
	size      int64
	compacted int64 // its size after the last rewriting
	err       error
}

// open reads every whole frame, and cuts off what follows the last one: a crash
// tore it, so nobody was told that it is there. lost is how much that was.
func (lf *ledgerFile) open(path string, each func(payload []byte) error) (lost int64, err error) {
	lf.path = path
	data, err := os.ReadFile(path) // the operator's data directory
	if errors.Is(err, os.ErrNotExist) || (err == nil && len(data) < len(ledgerMagic) && bytes.HasPrefix([]byte(ledgerMagic), data)) {
		return int64(len(data)), lf.replace(nil)
	}
	if err != nil {
		return 0, err
	}
	rest, ok := bytes.CutPrefix(data, []byte(ledgerMagic))
	if !ok {
		return 0, ErrNotLedger
	}
	for {
		payload, after, ok := nextFrame(rest)
		if !ok {
			break
		}
		if err := each(payload); err != nil {
			return 0, fmt.Errorf("%w: record at byte %d: %w", ErrNotLedger, len(data)-len(rest), err)
		}
		rest = after
	}
	lf.size = int64(len(data) - len(rest))
	lf.f, err = os.OpenFile(path, os.O_WRONLY, 0o600) // see above
	if err != nil {
		return 0, err
	}
	if len(rest) > 0 {
		err = errors.Join(lf.f.Truncate(lf.size), lf.f.Sync())
	}
	if _, serr := lf.f.Seek(lf.size, io.SeekStart); err == nil {
		err = serr
	}
	if err != nil {
		return 0, errors.Join(err, lf.f.Close())
	}
	return int64(len(rest)), lf.reserve()
}

// reserve takes room on the disk that the file does not fill yet. Where there is none, or
// the file system can't, the ledger does without.
func (lf *ledgerFile) reserve() error {
	err := unix.Fallocate(int(lf.f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, reserved)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reserve room for the ledger: %w", err)
	}
	return nil
}

// write appends frames and waits for the disk.
func (lf *ledgerFile) write(frames []byte) error {
	if lf.err != nil || len(frames) == 0 {
		return lf.err
	}
	_, err := lf.f.Write(frames)
	if err == nil {
		err = lf.f.Sync()
	}
	if err != nil {
		lf.err = fmt.Errorf("write ledger: %w", err)
	}
	lf.size += int64(len(frames))
	return lf.err
}

// replace puts a new file of these frames in the old one's place, at once.
func (lf *ledgerFile) replace(frames []byte) error {
	if lf.err != nil {
		return lf.err
	}
	next := lf.path + ".new"
	f, err := os.OpenFile(next, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) // the operator's data directory
	if err == nil {
		_, err = f.Write(append([]byte(ledgerMagic), frames...))
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(next, lf.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(lf.path))
	}
	if err != nil {
		lf.err = fmt.Errorf("rewrite ledger: %w", err)
		return lf.err
	}
	if lf.f != nil {
		_ = lf.f.Close() // nothing of it is used any more
	}
	lf.f = f
	lf.size = int64(len(ledgerMagic) + len(frames))
	lf.compacted = lf.size
	return lf.reserve()
}

func (lf *ledgerFile) close() error {
	if lf.err == nil {
		lf.err = errors.New("ledger is closed")
	}
	return lf.f.Close()
}

func syncDir(dir string) error {
	d, err := os.Open(dir) // the operator's data directory
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
