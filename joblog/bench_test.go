package joblog_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/codepr/narwhal/joblog"
)

// BenchmarkWrite compares the log with a plain file that takes the same output
// in the same pieces.
func BenchmarkWrite(b *testing.B) {
	piece := bytes.Repeat([]byte("ok  \tgithub.com/codepr/narwhal/joblog\t1.192s: a line as builds print them\n"), 800)
	b.Run("file", func(b *testing.B) {
		file, err := os.Create(filepath.Join(b.TempDir(), "file"))
		if err != nil {
			b.Fatal(err)
		}
		defer file.Close()
		b.SetBytes(int64(len(piece)))
		for b.Loop() {
			if _, err := file.Write(piece); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("log", func(b *testing.B) {
		w, err := joblog.Create(filepath.Join(b.TempDir(), "log"), 1<<40)
		if err != nil {
			b.Fatal(err)
		}
		out := w.Stream(0)
		b.SetBytes(int64(len(piece)))
		for b.Loop() {
			out.Write(piece)
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	})
}
