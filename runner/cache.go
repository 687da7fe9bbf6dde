package runner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/codepr/narwhal/executor"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// kept is a cache that is to be saved when the job has passed.
type kept struct {
	Name  string `json:"name"` // in messages
	Key   string `json:"key"`  // in the index
	Scope string `json:"scope"`
	File  string `json:"file"` // in OutDir
}

// bringCaches looks for each cache. None of it is worth failing a job for: what
// can't be had is a line in its log.
func (k *keeper) bringCaches(ctx context.Context, t *executor.Task, say say) error {
	if len(t.Work.Scopes) == 0 {
		return nil
	}
	sums := &checksums{dir: t.Workspace, say: say}
	var save []kept
	for i, c := range t.Work.Spec.Cache {
		key, restore, err := keysOf(ctx, c, sums)
		if err != nil {
			return err
		}
		file := fmt.Sprintf("cache-%d.tar.zst", i)
		want := kept{Name: "cache " + key, Key: indexed(c, key), Scope: t.Work.Scopes[0], File: file}
		exact := false
		if c.Policy != pipeline.CachePush {
			if exact, err = k.bringCache(ctx, t, c, want, restore, say); err != nil {
				return err
			}
		}
		if c.Policy != pipeline.CachePull && !exact {
			save = append(save, want)
			t.Caches = append(t.Caches, executor.Cache{Name: want.Name, Key: key, Paths: c.Paths, File: file})
		}
	}
	if err := writeKept(*t, save); err != nil {
		return fmt.Errorf("note caches: %w", err)
	}
	return nil
}

// keysOf writes a cache's keys out.
func keysOf(ctx context.Context, c pipeline.Cache, sums *checksums) (key string, restore []string, err error) {
	if key, err = sums.replace(ctx, c.Key); err != nil {
		return "", nil, err
	}
	for _, r := range c.RestoreKeys {
		if r, err = sums.replace(ctx, r); err != nil {
			return "", nil, err
		}
		restore = append(restore, indexed(c, r))
	}
	return key, restore, nil
}

// indexed is a key as the index has it: after what an archive must share with the
// job beside its key, the paths that it was packed from and the machine's kind.
// Otherwise a file whose paths have changed would find, under the old key, an archive
// that it may not unpack, and never save one of its own.
func indexed(c pipeline.Cache, key string) string {
	of := strings.Join(slices.Concat([]string{runtime.GOOS, runtime.GOARCH}, c.Paths), "\x00")
	sum := sha256.Sum256([]byte(of))
	return hex.EncodeToString(sum[:4]) + "/" + key
}

// bringCache finds one cache; exact says that it is the key's own, which needs not
// be saved again.
func (k *keeper) bringCache(ctx context.Context, t *executor.Task, c pipeline.Cache, want kept, restore []string, say say) (exact bool, err error) {
	e, found, err := k.caches.Find(ctx, t.Work.Commit.Repo, t.Work.Scopes, want.Key, restore)
	if err == nil && !found {
		say("%s: there is none yet", want.Name)
		return false, nil
	}
	if err == nil {
		err = k.supply(ctx, t, e.Blob, want.File)
	}
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case errors.Is(err, ErrNoBlob):
		say("%s: it is lost, and will be made anew: %v", want.Name, err)
		k.note("forget lost cache", e, k.caches.Drop(ctx, e))
		return false, nil
	case err != nil:
		say("%s: it could not be had: %v", want.Name, err)
		return false, nil
	}
	if k.now().Sub(e.UsedAt) > time.Hour {
		k.note("note use of cache", e, k.caches.Used(ctx, e))
	}
	name := want.Name
	if exact = e.Key == want.Key; !exact {
		_, plain, _ := strings.Cut(e.Key, "/")
		name = fmt.Sprintf("%s (from %s)", name, plain)
	}
	t.Restore = append(t.Restore, executor.Restore{Name: name, Archive: want.File, Paths: c.Paths, Optional: true})
	return exact, nil
}

// note logs what the job has nothing to do with.
func (k *keeper) note(what string, e fsm.CacheEntry, err error) {
	if err != nil {
		k.log.Warn(what, "repo", e.Repo, "key", e.Key, "error", err)
	}
}

// collectCaches saves the caches of a job that has passed.
func (k *keeper) collectCaches(ctx context.Context, t executor.Task, say say) {
	save, err := readKept(t)
	if err != nil {
		say("caches are not saved: %v", err)
		return
	}
	for _, c := range save {
		err := k.collectCache(ctx, t, c, say)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !errors.Is(err, fs.ErrNotExist): // of nothing to pack the supervisor has told
			say("%s is not saved: %v", c.Name, err)
		}
	}
}

func (k *keeper) collectCache(ctx context.Context, t executor.Task, c kept, say say) error {
	limit := k.limits.filled().Cache
	f, err := left(t, c.File, limit)
	if err != nil {
		return err
	}
	b, err := k.store(ctx, f, limit, say)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	now := k.now()
	return k.caches.Save(ctx, fsm.CacheEntry{Repo: t.Work.Commit.Repo, Scope: c.Scope, Key: c.Key, Blob: b, SavedAt: now, UsedAt: now})
}
