package checkout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// maxNesting is how deep submodules may have submodules.
const maxNesting = 8

// addSubmodules clones the submodules of the repository in dir, one level after
// the other, so that each URL is judged before git goes there: it must be of the
// host that the superproject came from, since what a repository names would
// otherwise reach any host that the node can.
func (w *workspace) addSubmodules(ctx context.Context, dir, origin string, nesting int) error {
	if _, err := os.Lstat(filepath.Join(dir, ".gitmodules")); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if origin == "" {
		return fmt.Errorf("clone.submodules: what was pushed has no server that its submodules could be relative to: %w", ErrForbidden)
	}
	if nesting == maxNesting {
		return fmt.Errorf("clone.submodules: more than %d levels: %w", maxNesting, ErrForbidden)
	}
	c := call{gitDir: filepath.Join(dir, ".git"), workTree: dir, remote: &w.mirror.remote}
	// This resolves relative URLs and refuses names that leave .git/modules.
	if err := w.mirror.git.run(ctx, c, "submodule", "--quiet", "init"); err != nil {
		return locally(err)
	}
	subs, err := w.submodules(ctx, c)
	if err != nil {
		return err
	}
	for _, sub := range subs {
		r, err := parseRemote(sub.url, w.allowed)
		if err != nil {
			return fmt.Errorf("submodule %s: %w", sub.name, err)
		}
		if r.host != w.mirror.remote.host {
			return fmt.Errorf("submodule %s: its host %q is not the repository's: %w", sub.name, r.host, ErrForbidden)
		}
	}
	if err := w.mirror.git.run(ctx, c, "submodule", "--quiet", "update", "--no-recommend-shallow", "--depth=1"); err != nil {
		return err
	}
	for _, sub := range subs {
		if err := w.addSubmodules(ctx, filepath.Join(dir, sub.path), sub.url, nesting+1); err != nil {
			return err
		}
	}
	return nil
}

type submodule struct{ name, path, url string }

// submodules joins what .gitmodules says of paths with the URLs that git has
// resolved into the configuration. Only those are given that the commit has a
// submodule at: any other path could lead through a link to another job's .git.
func (w *workspace) submodules(ctx context.Context, c call) ([]submodule, error) {
	urls, err := w.settings(ctx, c, "--local", `^submodule\..*\.url$`)
	if err != nil {
		return nil, err
	}
	paths, err := w.settings(ctx, c, "--file="+filepath.Join(c.workTree, ".gitmodules"), `^submodule\..*\.path$`)
	if err != nil {
		return nil, err
	}
	links, err := w.gitlinks(ctx, c)
	if err != nil {
		return nil, err
	}
	var subs []submodule
	for key, url := range urls {
		name := strings.TrimSuffix(strings.TrimPrefix(key, "submodule."), ".url")
		path := filepath.Clean(paths["submodule."+name+".path"])
		if links[path] {
			subs = append(subs, submodule{name: name, path: path, url: url})
		}
	}
	return subs, nil
}

// gitlinks are the paths at which the index has a submodule.
func (w *workspace) gitlinks(ctx context.Context, c call) (map[string]bool, error) {
	var out bytes.Buffer
	c.stdout = &out
	if err := w.mirror.git.run(ctx, c, "ls-files", "--stage", "-z"); err != nil {
		return nil, locally(err)
	}
	links := map[string]bool{}
	for entry := range strings.SplitSeq(out.String(), "\x00") {
		if facts, path, found := strings.Cut(entry, "\t"); found && strings.HasPrefix(facts, "160000 ") {
			links[path] = true
		}
	}
	return links, nil
}

func (w *workspace) settings(ctx context.Context, c call, where, pattern string) (map[string]string, error) {
	var out bytes.Buffer
	c.stdout = &out
	err := w.mirror.git.run(ctx, c, "config", where, "--null", "--get-regexp", pattern)
	var f *failure
	if errors.As(err, &f) && out.Len() == 0 && f.said == "exit status 1" {
		return nil, nil // git's way to say that there is none
	}
	if err != nil {
		return nil, locally(err)
	}
	found := map[string]string{}
	for entry := range strings.SplitSeq(strings.TrimSuffix(out.String(), "\x00"), "\x00") {
		key, value, _ := strings.Cut(entry, "\n")
		found[key] = value
	}
	return found, nil
}
