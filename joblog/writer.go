package joblog

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/codepr/narwhal/joblog/mask"
)

// DefaultLimit is how large a log may grow, in bytes, where nothing else is said.
const DefaultLimit = 64 << 20

// flushAt bounds what is put together before it is written.
const flushAt = 256 << 10

// Writer appends to a log. Its methods, and those of its streams, may be called
// from several goroutines.
type Writer struct {
	mu    sync.Mutex
	file  *os.File
	limit int64
	size  int64     // of the file, with what is in out
	out   []byte    // records that are not written yet; empty between calls
	mask  *mask.Set // nil masks nothing
	clear []byte    // of a stream, after masking; empty between calls
	err   error     // the first failure; the log is drained from then on
}

// Create opens the log at path to append to it, and makes it where there is
// none, readable and writable by all: the folder around it says who may, and a
// container's user is not ours. Beyond limit bytes (DefaultLimit where it is 0)
// output is dropped, and the last line says so.
func Create(path string, limit int64) (*Writer, error) {
	if limit <= 0 {
		limit = DefaultLimit
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("open log: %w", err)
	}
	return &Writer{file: file, limit: limit, size: info.Size()}, nil
}

// Mask hides the values of secrets in what is appended from then on. It goes
// before the first Stream.
func (w *Writer) Mask(set *mask.Set) { w.mask = set }

// Printf appends narwhal's own words. They may be several lines.
func (w *Writer) Printf(format string, args ...any) {
	text := w.mask.String(fmt.Sprintf(format, args...))
	w.mu.Lock()
	defer w.mu.Unlock()
	prefix := w.prefix(Narwhal)
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		record := []byte(line)
		w.emit(prefix, record[:runeStart(record, min(len(record), MaxLine))])
	}
	w.send()
}

// Size is the length of the log in bytes, with what others have written to it.
func (w *Writer) Size() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if info, err := w.file.Stat(); err == nil {
		return info.Size()
	}
	return w.size // as it was when it was closed
}

// Close closes, after the streams have been. Its error is the first that writing
// met.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if info, err := w.file.Stat(); err == nil {
		w.size = info.Size()
	}
	if err := w.file.Close(); err != nil && w.err == nil {
		w.err = fmt.Errorf("close log: %w", err)
	}
	return w.err
}

func (w *Writer) full() bool { return w.err != nil || w.size >= w.limit }

func (w *Writer) prefix(step int) []byte {
	b := time.Now().UTC().AppendFormat(make([]byte, 0, 40), timeLayout)
	b = append(b, '\t')
	b = strconv.AppendInt(b, int64(step), 10)
	return append(b, '\t')
}

// emit adds a record to out. The one that crosses the limit is cut to end right
// at it, and the last line goes beyond: so the size alone tells the next one who
// opens the log that it is full.
func (w *Writer) emit(prefix, line []byte) {
	if w.full() {
		return
	}
	line = bytes.TrimSuffix(line, []byte{'\r'})
	room := w.limit - w.size - int64(len(prefix)) - 1
	crossed := int64(len(line)) >= room
	if room >= 0 {
		w.add(prefix, line[:min(int64(len(line)), room)])
	}
	if crossed {
		w.addFull()
	}
	if len(w.out) >= flushAt {
		w.send()
	}
}

// addFull adds the last line.
func (w *Writer) addFull() {
	w.add(w.prefix(Narwhal), fmt.Appendf(nil,
		"the log has reached its limit of %s: what follows is not kept", sizeText(w.limit)))
	w.size = max(w.size, w.limit)
}

func (w *Writer) add(prefix, line []byte) {
	w.out = append(w.out, prefix...)
	w.out = append(w.out, line...)
	w.out = append(w.out, '\n')
	w.size += int64(len(prefix) + len(line) + 1)
}

func (w *Writer) send() {
	if len(w.out) > 0 && w.err == nil {
		if _, err := w.file.Write(w.out); err != nil {
			w.err = fmt.Errorf("write log: %w", err)
		}
	}
	w.out = w.out[:0]
}

// runeStart is the largest cut at or before n that doesn't part a rune.
func runeStart(b []byte, n int) int {
	for back := range utf8.UTFMax {
		if n-back <= 0 || n >= len(b) {
			break
		}
		if utf8.RuneStart(b[n-back]) {
			return n - back
		}
	}
	return n
}

func sizeText(n int64) string {
	if n%(1<<20) == 0 {
		return strconv.FormatInt(n>>20, 10) + " MiB"
	}
	return strconv.FormatInt(n, 10) + " bytes"
}
