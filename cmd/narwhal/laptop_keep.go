package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/codepr/narwhal/archive"
	"github.com/codepr/narwhal/blob"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/runner"
)

// localBlobs is the store of a machine that is alone.
type localBlobs struct{ *blob.Store }

var _ runner.Blobs = localBlobs{}

// Path implements runner.Blobs.
func (b localBlobs) Path(ctx context.Context, want fsm.Blob) (string, error) {
	path, err := b.Store.Path(ctx, want)
	return path, noBlob(err)
}

// Copy implements runner.Blobs: there is nobody else.
func (localBlobs) Copy(context.Context, fsm.Blob) (fsm.NodeID, error) { return "", nil }

// localCaches is the index of caches in this process.
type localCaches struct{ *solo }

var _ runner.Caches = localCaches{}

// Find implements runner.Caches.
func (c localCaches) Find(_ context.Context, repo string, scopes []string, key string, restore []string) (fsm.CacheEntry, bool, error) {
	e, ok := c.replica.State().Cache(repo, scopes, key, restore)
	return e, ok, nil
}

// Save implements runner.Caches.
func (c localCaches) Save(ctx context.Context, e fsm.CacheEntry) error {
	return c.propose(ctx, fsm.Command{SaveCache: &fsm.SaveCache{Entry: e}})
}

// Used implements runner.Caches.
func (c localCaches) Used(ctx context.Context, e fsm.CacheEntry) error {
	return c.propose(ctx, fsm.Command{UseCache: &fsm.UseCache{Repo: e.Repo, Scope: e.Scope, Key: e.Key}})
}

// Drop implements runner.Caches.
func (c localCaches) Drop(ctx context.Context, e fsm.CacheEntry) error {
	return c.propose(ctx, fsm.Command{DropCache: &fsm.DropCache{Repo: e.Repo, Scope: e.Scope, Key: e.Key, Digest: e.Blob.Digest}})
}

func (c localCaches) propose(ctx context.Context, command fsm.Command) error {
	_, err := c.proposer.Propose(ctx, command)
	return err
}

// cachesFile is where a laptop remembers its caches between runs.
const cachesFile = "caches.json"

// recall gives the caches of earlier runs, as commands. What can't be read is made
// anew.
func (l *laptop) recall() (commands []fsm.Command) {
	data, err := os.ReadFile(filepath.Join(l.dir, cachesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var entries []fsm.CacheEntry
	if err == nil {
		err = json.Unmarshal(data, &entries)
	}
	if err != nil {
		l.printer.say("caches of earlier runs: %v", err)
	}
	for _, e := range entries {
		if l.blobs.Has(e.Blob.Digest) {
			commands = append(commands, fsm.Command{SaveCache: &fsm.SaveCache{Entry: e}})
		}
	}
	return commands
}

// remember writes down which caches there are.
func (l *laptop) remember() error {
	var entries []*fsm.CacheEntry
	for e := range l.replica.State().Caches() {
		entries = append(entries, e)
	}
	data, err := json.Marshal(entries)
	if err == nil {
		err = os.WriteFile(filepath.Join(l.dir, cachesFile), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("remember caches: %w", err)
	}
	return nil
}

// unpack puts what the jobs of a build left into the folder that was asked for.
func (l *laptop) unpack(ctx context.Context, s *fsm.State, id fsm.BuildID) error {
	if l.o.artifacts == "" {
		return nil
	}
	for j := range s.Jobs(id) {
		a, ok := j.Current()
		if !ok || a.Artifacts == nil {
			continue
		}
		if err := l.unpackOne(ctx, j.Name, *a.Artifacts); err != nil {
			return fmt.Errorf("artifacts of job %s: %w", j.Name, err)
		}
	}
	return nil
}

func (l *laptop) unpackOne(ctx context.Context, job string, a fsm.Artifacts) (err error) {
	f, _, err := l.blobs.Open(a.Archive.Digest)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	dir := filepath.Join(l.o.artifacts, strings.ReplaceAll(job, "/", "_")) // of a matrix
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	sum, err := archive.Unpack(ctx, f, archive.UnpackOptions{Places: archive.Places{Root: dir}})
	if err == nil {
		l.printer.say("%s: %d files in %s", job, sum.Files, dir)
	}
	return err
}
