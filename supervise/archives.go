package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/codepr/narwhal/archive"
	"github.com/codepr/narwhal/fsm"
)

// saveFor bounds the packing of all that a job keeps: the job's own timeout may be
// what ended it.
const saveFor = 10 * time.Minute

// Saved is an archive that lies in OutDir.
type Saved struct {
	File  string `json:"file"`
	Key   string `json:"key,omitempty"` // of a cache
	Files int    `json:"files"`
	Bytes int64  `json:"bytes"` // of the files
}

// restore unpacks what the job is given. Nothing of it has run yet.
func (r *run) restore(ctx context.Context) error {
	for _, in := range r.task.Restore {
		err := r.unpack(ctx, in)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return ctx.Err()
		case in.Optional:
			r.log.Printf("%s could not be restored: %v", in.Name, err)
		default:
			return fmt.Errorf("%s could not be restored: %w", in.Name, err)
		}
	}
	return nil
}

func (r *run) unpack(ctx context.Context, in Restore) error {
	file, err := os.Open(filepath.Join(r.dir, InDir, filepath.Base(in.Archive)))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	began := time.Now()
	// Who packed it could have made any link by itself, in a job as this one.
	sum, err := archive.Unpack(ctx, file, archive.UnpackOptions{Places: r.places(), Paths: in.Paths, OutsideLinks: true})
	if err != nil {
		return err
	}
	r.log.Printf("restored %s: %s in %s", in.Name, contents(sum), time.Since(began).Round(time.Millisecond))
	return nil
}

func (r *run) places() archive.Places {
	return archive.Places{Root: r.task.Dir, Home: lookup(r.site.env, "HOME")}
}

// save packs what the job leaves, and says how the job ends then.
func (r *run) save(ctx context.Context, end ending) ending {
	if ctx.Err() != nil || end.status == fsm.Canceled || end.status == fsm.Errored {
		return end // whoever canceled doesn't wait, and what didn't run left nothing
	}
	saving, cancel := context.WithTimeout(ctx, saveFor)
	defer cancel()
	if passed(end) {
		for _, c := range r.task.Caches {
			opts := archive.PackOptions{Places: r.places(), Paths: c.Paths, HardLinks: true}
			if err := r.pack(saving, c.Name, c.File, c.Key, r.task.CacheLimit, opts); err != nil {
				r.log.Printf("%s could not be saved: %v", c.Name, err)
			}
		}
	}
	err := r.saveArtifacts(saving, passed(end))
	switch {
	case err == nil:
		return end
	case ctx.Err() != nil && passed(end):
		return stopped(ctx)
	case passed(end) && errors.Is(err, archive.ErrTooLarge):
		return misconfigured("%v", err)
	case passed(end):
		return broken("%v", err)
	}
	r.log.Printf("%v", err)
	return end
}

func (r *run) saveArtifacts(ctx context.Context, success bool) error {
	a := r.task.Artifacts
	if a == nil {
		return nil
	}
	var errs []error
	if a.JUnitFile != "" && len(a.JUnit) > 0 {
		opts := archive.PackOptions{Places: r.places(), Paths: a.JUnit}
		errs = append(errs, r.pack(ctx, "test reports", a.JUnitFile, "", r.task.ArtifactsLimit, opts))
	}
	if a.File != "" && len(a.Paths) > 0 && wanted(a.When, !success) {
		opts := archive.PackOptions{Places: r.places(), Paths: a.Paths, Exclude: a.Exclude}
		errs = append(errs, r.pack(ctx, "artifacts", a.File, "", r.task.ArtifactsLimit, opts))
	}
	return errors.Join(errs...)
}

// pack makes one archive. Its name is there once it is whole, and not at all
// where nothing is in it.
func (r *run) pack(ctx context.Context, name, file, key string, limit int64, opts archive.PackOptions) error {
	began := time.Now()
	path := filepath.Join(r.dir, OutDir, filepath.Base(file))
	sum, err := packFile(ctx, path, limit, opts)
	if err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	for _, path := range sum.Missing {
		r.log.Printf("%s: there is nothing at %s", name, path)
	}
	for _, path := range sum.Skipped[:min(len(sum.Skipped), maxSkipped)] {
		r.log.Printf("%s: %s can't be kept", name, path)
	}
	if sum.Files == 0 {
		return nil
	}
	r.log.Printf("saved %s: %s in %s", name, contents(sum), time.Since(began).Round(time.Millisecond))
	return r.journal.Append(Record{Kind: RecordSaved, Saved: &Saved{File: file, Key: key, Files: sum.Files, Bytes: sum.Bytes}})
}

// maxSkipped is how many files that can't be packed are named.
const maxSkipped = 10

func packFile(ctx context.Context, path string, limit int64, opts archive.PackOptions) (sum archive.Summary, err error) {
	part := path + ".part"
	out, err := os.OpenFile(part, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return sum, err
	}
	defer func() {
		if err != nil || sum.Files == 0 {
			_ = os.Remove(part)
		}
	}()
	sum, err = archive.Pack(ctx, &capped{w: out, left: limit, limit: limit}, opts)
	if err = errors.Join(err, out.Close()); err != nil || sum.Files == 0 {
		return sum, err
	}
	return sum, os.Rename(part, path)
}

// capped is a writer that takes no more than limit bytes; 0 is any. A job must not
// fill its node's disk by what it leaves.
type capped struct {
	w           io.Writer
	left, limit int64
}

func (c *capped) Write(p []byte) (int, error) {
	if c.limit > 0 {
		if c.left -= int64(len(p)); c.left < 0 {
			return 0, fmt.Errorf("%w: packed it has more than the %.1f MiB that a node takes: name less, or exclude what is not needed", archive.ErrTooLarge, float64(c.limit)/(1<<20))
		}
	}
	return c.w.Write(p)
}

func contents(sum archive.Summary) string {
	return fmt.Sprintf("%d files, %.1f MiB", sum.Files, float64(sum.Bytes)/(1<<20))
}
