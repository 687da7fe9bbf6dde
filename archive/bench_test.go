package archive_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/codepr/narwhal/archive"
)

const (
	benchFiles = 10_000
	benchBytes = 500 << 20
)

// benchTree is 10,000 files of 500 MB, a third of it noise, as in folders of
// packages: most small, some large.
func benchTree(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	random := rand.New(rand.NewPCG(7, 7))
	words := make([]string, 2000)
	for i := range words {
		words[i] = fmt.Sprintf("%x ", random.Uint64N(1<<(4+random.Uint64N(40))))
	}
	size := 0
	for i := range benchFiles {
		want := (benchBytes - size) / (benchFiles - i)
		if i%10 != 0 {
			want = want / 4 * (1 + random.IntN(4)) / 2
		} else if i < benchFiles-10 {
			want *= 6
		}
		var text strings.Builder
		for text.Len() < want {
			if random.IntN(3) == 0 {
				for range 16 {
					n := random.Uint64()
					text.Write([]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24), byte(n >> 32), byte(n >> 40)})
				}
				continue
			}
			for range 20 {
				text.WriteString(words[random.IntN(len(words))])
			}
		}
		size += text.Len()
		name := filepath.Join(dir, fmt.Sprintf("p%d/d%d/f%d", i%40, i%700, i))
		must(b, os.MkdirAll(filepath.Dir(name), 0o755))
		must(b, os.WriteFile(name, []byte(text.String()), 0o644))
	}
	return dir
}

// sh runs what an operator would write instead. Both sides use all processors.
func sh(b *testing.B, script string, args ...string) time.Duration {
	b.Helper()
	began := time.Now()
	out, err := exec.Command("sh", append([]string{"-ec", script, "sh"}, args...)...).CombinedOutput()
	if err != nil {
		b.Fatalf("%s: %v: %s", script, err, out)
	}
	return time.Since(began)
}

// BenchmarkPack packs what `tar | zstd -3 -T0` packs, in turn with it; ratio is
// the time that it takes to theirs, bytes_ratio its size to theirs.
func BenchmarkPack(b *testing.B) {
	dir, out := benchTree(b), b.TempDir()
	var ours, theirs time.Duration
	for b.Loop() {
		theirs += sh(b, `tar -C "$1" -cf - . | zstd -q -3 -T0 -f -o "$2"`, dir, filepath.Join(out, "theirs"))
		began := time.Now()
		packTo(b, filepath.Join(out, "ours"), dir)
		ours += time.Since(began)
	}
	b.ReportMetric(ours.Seconds()/theirs.Seconds(), "ratio")
	b.ReportMetric(float64(fileSize(b, filepath.Join(out, "ours")))/float64(fileSize(b, filepath.Join(out, "theirs"))), "bytes_ratio")
	b.ReportMetric(benchBytes/1e6/(ours.Seconds()/float64(b.N)), "MB/s")
}

func packTo(b *testing.B, file, dir string) {
	b.Helper()
	f, err := os.Create(file)
	must(b, err)
	_, err = archive.Pack(context.Background(), f, archive.PackOptions{Places: archive.Places{Root: dir}, Paths: []string{"."}, HardLinks: true})
	must(b, err)
	must(b, f.Close())
}

func fileSize(b *testing.B, file string) int64 {
	b.Helper()
	info, err := os.Stat(file)
	must(b, err)
	return info.Size()
}

// BenchmarkUnpack unpacks, in turn with `zstd -d | tar -x`, each its own archive.
func BenchmarkUnpack(b *testing.B) {
	dir, out := benchTree(b), b.TempDir()
	sh(b, `tar -C "$1" -cf - . | zstd -q -3 -T0 -f -o "$2"`, dir, filepath.Join(out, "theirs"))
	packTo(b, filepath.Join(out, "ours"), dir)
	var ours, theirs time.Duration
	for b.Loop() {
		to := filepath.Join(out, "to")
		sh(b, `rm -rf "$1"; mkdir "$1"`, to)
		theirs += sh(b, `zstd -q -d -c "$2" | tar -C "$1" -xf -`, to, filepath.Join(out, "theirs"))
		sh(b, `rm -rf "$1"; mkdir "$1"`, to)
		began := time.Now()
		f, err := os.Open(filepath.Join(out, "ours"))
		must(b, err)
		_, err = archive.Unpack(context.Background(), f, archive.UnpackOptions{Places: archive.Places{Root: to}})
		must(b, err)
		must(b, f.Close())
		ours += time.Since(began)
	}
	b.ReportMetric(ours.Seconds()/theirs.Seconds(), "ratio")
	b.ReportMetric(benchBytes/1e6/(ours.Seconds()/float64(b.N)), "MB/s")
}
