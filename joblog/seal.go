package joblog

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// window bounds the memory of who seals and of who reads, in bytes.
const window = 1 << 20

// Sealer compresses logs that have ended, one at a time.
type Sealer struct{ enc *zstd.Encoder }

// NewSealer makes one. What it holds for good is some MiB.
func NewSealer() (*Sealer, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("seal log: %w", err)
	}
	return &Sealer{enc}, nil
}

// Seal writes the log at path to w, as a zstd frame with a checksum, and gives the
// bytes of the log.
func (s *Sealer) Seal(w io.Writer, path string) (bytes int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("seal log: %w", err)
	}
	defer func() { _ = file.Close() }()
	s.enc.Reset(w)
	bytes, err = io.Copy(s.enc, file)
	if err = errors.Join(err, s.enc.Close()); err != nil {
		return 0, fmt.Errorf("seal log: %w", err)
	}
	return bytes, nil
}

// OpenSealed is Open for a log that was sealed. Offsets are those of the log as it was
// written; to come to one, what is before it is read.
func OpenSealed(path string, offset int64) (*Reader, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open sealed log: %w", err)
	}
	dec, err := zstd.NewReader(file, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8*window), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open sealed log: %w", err), file.Close())
	}
	return newReader(sealed{dec, file}, offset, func(start int64) error {
		if _, err := io.CopyN(io.Discard, dec, start); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		return nil
	})
}

type sealed struct {
	*zstd.Decoder
	file *os.File
}

func (s sealed) Close() error {
	s.Decoder.Close()
	return s.file.Close()
}
