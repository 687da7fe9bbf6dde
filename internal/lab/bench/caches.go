package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/codepr/narwhal/archive"
)

// caches compares packing and unpacking a cache of 10,000 files and 500 MB with
// `tar | zstd` on all processors, in turns.
func caches(ctx context.Context, b *bench) error {
	n, files, megabytes := number("N", 3), number("FILES", 10_000), number("MB", 500)
	from := filepath.Join(b.dir, "from")
	if err := sources(from, files, megabytes<<20/files); err != nil {
		return err
	}
	ours, theirs := filepath.Join(b.dir, "ours.tar.zst"), filepath.Join(b.dir, "theirs.tar.zst")
	timed := func(list *[]float64, do func() error) error {
		began := time.Now()
		err := do()
		*list = append(*list, time.Since(began).Seconds())
		return err
	}
	var save, tarSave, restore, tarRestore []float64
	for i := range n {
		say("round %d of %d", i+1, n)
		to := filepath.Join(b.dir, fmt.Sprint("to", i))
		err := errors.Join(os.MkdirAll(to+"/ours", 0o755), os.MkdirAll(to+"/theirs", 0o755),
			timed(&tarSave, func() error {
				return shell(ctx, `tar -C "$1" -cf - . | zstd -q -T0 -f -o "$2"`, from, theirs)
			}),
			timed(&save, func() error { return pack(ctx, from, ours) }),
			timed(&tarRestore, func() error {
				return shell(ctx, `zstd -q -d -c "$1" | tar -C "$2" -xf -`, theirs, to+"/theirs")
			}),
			timed(&restore, func() error { return unpack(ctx, ours, to+"/ours") }),
			os.RemoveAll(to))
		if err != nil {
			return err
		}
	}
	print("save_s", percentile(save, 50))
	print("save_ratio", percentile(save, 50)/percentile(tarSave, 50))
	print("restore_s", percentile(restore, 50))
	print("restore_ratio", percentile(restore, 50)/percentile(tarRestore, 50))
	return nil
}

func pack(ctx context.Context, dir, file string) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = archive.Pack(ctx, f, archive.PackOptions{Places: archive.Places{Root: dir}, Paths: []string{"."}, HardLinks: true})
	return err
}

func unpack(ctx context.Context, file, dir string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	_, err = archive.Unpack(ctx, f, archive.UnpackOptions{Places: archive.Places{Root: dir}})
	return err
}
