package joblog

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
)

// Reader reads a log record by record, also while it is being written.
type Reader struct {
	file   io.ReadCloser
	buf    *bufio.Reader
	offset int64  // of the record that comes next
	record []byte // what has been read of it
	seen   int64  // how long that is in the file; more than len(record) where it was cut
}

// Open starts at offset, which is a Line's Offset or 0. At an offset in the
// middle of a record it starts with the next one.
func Open(path string, offset int64) (*Reader, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return newReader(file, offset, func(start int64) error {
		_, err := file.Seek(start, io.SeekStart)
		return err
	})
}

// newReader reads from offset on what file gives, once skip has brought it to one byte
// before.
func newReader(file io.ReadCloser, offset int64, skip func(start int64) error) (*Reader, error) {
	r := &Reader{file: file, buf: bufio.NewReaderSize(file, 64<<10), offset: max(offset-1, 0)}
	err := skip(r.offset)
	if err == nil && offset > 0 {
		if _, err = r.Next(); errors.Is(err, io.EOF) { // nothing but a line feed where offset follows on a record
			err = nil
		}
	}
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("open log at %d: %w", offset, err)
	}
	return r, nil
}

// Next gives the next record. It is io.EOF where no whole one is there yet;
// calling it again later goes on. What has no line feed for long is given in parts, so
// that a file of nothing else, however long, keeps nobody from looking at a context.
func (r *Reader) Next() (Line, error) {
	for {
		piece, err := r.buf.ReadSlice('\n')
		r.seen += int64(len(piece))
		if room := maxRecord - len(r.record); room > 0 {
			r.record = append(r.record, piece[:min(room, len(piece))]...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull) && r.seen < maxSeen:
			continue
		case errors.Is(err, bufio.ErrBufferFull): // no Writer has written that
		case errors.Is(err, io.EOF):
			return Line{}, io.EOF
		case err != nil:
			return Line{}, fmt.Errorf("read log: %w", err)
		}
		if n := len(r.record); r.record[n-1] == '\n' {
			r.record = r.record[:n-1]
		}
		line := parse(r.record)
		r.offset += r.seen
		r.record, r.seen = r.record[:0], 0
		line.Offset = r.offset
		return line, nil
	}
}

// Close closes the file.
func (r *Reader) Close() error { return r.file.Close() }

// Read gives the records from offset that are there now, at most limit of them
// (all of them where it is 0).
func Read(path string, offset int64, limit int) ([]Line, error) {
	r, err := Open(path, offset)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	return r.read(limit)
}

func (r *Reader) read(limit int) ([]Line, error) {
	var lines []Line
	for limit <= 0 || len(lines) < limit {
		line, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return lines, err
		}
		lines = append(lines, line)
	}
	return lines, nil
}
