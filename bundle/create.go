package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Created is a bundle that was made from a checkout, and what it holds.
type Created struct {
	Path    string // of the bundle's file
	Size    int64  // bytes
	Repo    string // such as acme/api
	SHA     string
	Ref     string // the branch that is checked out
	Message string // the commit's first line
	Author  string
	Dirty   bool // the commit is of changes that are not committed
}

// Detached is the ref of a push from a checkout that is on no branch.
const Detached = "refs/narwhal/detached"

// Create makes a bundle in the folder scratch, which is empty and the caller's to
// remove. It holds the commit rev of the checkout around dir. With an empty rev it
// is what lies in the checkout: HEAD, or where files differ from it a new commit
// on top, with all that .gitignore doesn't name.
func Create(ctx context.Context, dir, rev, scratch string) (Created, error) {
	c := creation{dir: dir, scratch: scratch}
	out, err := c.create(ctx, rev)
	if err != nil {
		return Created{}, fmt.Errorf("make bundle: %w", err)
	}
	return out, nil
}

// creation is a bundle that is being made.
type creation struct {
	dir     string // in the checkout; later its top
	gitDir  string
	objects string // the checkout's
	scratch string
}

func (c *creation) create(ctx context.Context, rev string) (out Created, err error) {
	if err := c.locate(ctx); err != nil {
		return out, err
	}
	head, err := c.resolve(ctx, rev)
	if err != nil {
		return out, err
	}
	out.SHA = head
	if rev == "" {
		if out.SHA, err = c.asItLies(ctx, head); err != nil {
			return out, err
		}
	}
	out.Dirty = out.SHA != head
	if err := c.describe(ctx, &out); err != nil {
		return out, err
	}
	out.Path = filepath.Join(c.scratch, "push.bundle")
	if err := c.pack(ctx, out.SHA, out.Path); err != nil {
		return out, err
	}
	info, err := os.Stat(out.Path)
	if err != nil {
		return out, err
	}
	out.Size = info.Size()
	return out, nil
}

// locate finds the checkout's top and its object store.
func (c *creation) locate(ctx context.Context) error {
	text, err := c.git(ctx, nil, "rev-parse", "--show-toplevel", "--absolute-git-dir", "--git-path", "objects", "--is-shallow-repository")
	if err != nil {
		return fmt.Errorf("%s is no git checkout: %w", c.dir, err)
	}
	lines := strings.Split(text, "\n")
	if len(lines) != 4 {
		return fmt.Errorf("git rev-parse answered %q", text)
	}
	if lines[3] == "true" {
		return errors.New("this is a shallow clone, whose history can't be passed on: run `git fetch --unshallow` first")
	}
	c.gitDir, c.objects = lines[1], lines[2]
	if !filepath.IsAbs(c.objects) { // relative to where git ran
		if c.objects, err = filepath.Abs(filepath.Join(c.dir, c.objects)); err != nil {
			return err
		}
	}
	c.dir = lines[0]
	return nil
}

// resolve gives the commit that rev names; empty for a checkout without a commit.
func (c *creation) resolve(ctx context.Context, rev string) (string, error) {
	if rev == "" {
		sha, err := c.git(ctx, nil, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
		var exit *exec.ExitError
		if errors.As(err, &exit) && sha == "" {
			return "", nil
		}
		return sha, err
	}
	sha, err := c.git(ctx, nil, "rev-parse", "--verify", "--quiet", "--end-of-options", rev+"^{commit}")
	if err != nil {
		return "", fmt.Errorf("%q names no commit in this repository", rev)
	}
	return sha, nil
}

// asItLies gives head where nothing differs from it, else a new commit. The new
// objects go to scratch, by way of an index there.
func (c *creation) asItLies(ctx context.Context, head string) (string, error) {
	env, err := c.ownIndex(ctx)
	if err != nil {
		return "", err
	}
	if _, err := c.git(ctx, env, "add", "--all", "--", ":/"); err != nil {
		return "", err
	}
	tree, err := c.git(ctx, env, "write-tree")
	if err != nil {
		return "", err
	}
	args := []string{"commit-tree", tree, "-m", "uncommitted changes"}
	if head != "" {
		same, err := c.git(ctx, nil, "rev-parse", "--verify", head+"^{tree}")
		if err != nil {
			return "", err
		}
		if same == tree {
			return head, nil
		}
		args = append(args, "-p", head)
	}
	return c.git(ctx, append(env, c.identity(ctx)...), args...)
}

// ownIndex copies the checkout's index, so that only changed files are read.
func (c *creation) ownIndex(ctx context.Context) (env []string, err error) {
	index := filepath.Join(c.scratch, "index")
	theirs, err := c.git(ctx, nil, "rev-parse", "--path-format=absolute", "--git-path", "index")
	if err != nil {
		return nil, err
	}
	err = copyFile(index, theirs)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // a checkout that nothing was added to has none
		return nil, err
	}
	objects := filepath.Join(c.scratch, "objects")
	if err := os.Mkdir(objects, 0o700); err != nil {
		return nil, err
	}
	return []string{"GIT_INDEX_FILE=" + index, "GIT_OBJECT_DIRECTORY=" + objects, borrow(c.objects)}, nil
}

// copyFile copies the time too: git takes a file that is as old as the index for
// one that may have changed since, and looks into it.
func copyFile(to, from string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		return err
	}
	return os.Chtimes(to, info.ModTime(), info.ModTime())
}

// borrow lets git read another object store. The quotes are for colons, which
// part such folders from each other.
func borrow(objects string) string {
	return `GIT_ALTERNATE_OBJECT_DIRECTORIES="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(objects) + `"`
}

// identity stands in where the developer has told git no name.
func (c *creation) identity(ctx context.Context) (env []string) {
	if _, err := c.git(ctx, nil, "var", "GIT_COMMITTER_IDENT"); err == nil {
		return nil
	}
	return []string{
		"GIT_AUTHOR_NAME=narwhal push", "GIT_AUTHOR_EMAIL=push@localhost",
		"GIT_COMMITTER_NAME=narwhal push", "GIT_COMMITTER_EMAIL=push@localhost",
	}
}

func (c *creation) describe(ctx context.Context, out *Created) error {
	env := []string{borrow(filepath.Join(c.scratch, "objects"))}
	text, err := c.git(ctx, env, "show", "--no-patch", "--no-show-signature", "--format=%s%n%an", out.SHA)
	if err != nil {
		return err
	}
	out.Message, out.Author, _ = strings.Cut(text, "\n")
	out.Ref = Detached
	if branch, err := c.git(ctx, nil, "symbolic-ref", "--quiet", "HEAD"); err == nil {
		out.Ref = branch
	}
	origin, err := c.git(ctx, nil, "config", "--get", "remote.origin.url")
	if err != nil {
		origin = "" // it has none
	}
	out.Repo = repoName(origin, c.dir)
	return nil
}

// repoName is the remote's path, such as acme/api, else the folder's name.
func repoName(origin, dir string) string {
	p := origin
	if u, err := url.Parse(origin); err == nil && u.Host != "" {
		p = u.Path
	} else if _, scp, found := strings.Cut(origin, ":"); found {
		p = scp
	}
	p = strings.TrimSuffix(strings.TrimRight(p, "/"), ".git")
	parts := strings.FieldsFunc(p, func(r rune) bool { return r == '/' })
	if strings.HasPrefix(origin, "/") || strings.HasPrefix(origin, ".") || !slices.ContainsFunc(parts, isName) {
		parts = []string{filepath.Base(dir)}
	}
	parts = parts[max(0, len(parts)-2):]
	for i, part := range parts {
		if !isName(part) {
			parts[i] = "repository"
		}
	}
	return strings.Join(parts, "/")
}

// isName tells a name from what a path or a terminal would take for more.
func isName(s string) bool {
	return s != "" && s != "." && s != ".." && s != "/" && s[0] != '-' && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, unicode.IsControl)
}

// pack writes the bundle by a repository of our own that borrows the checkout's
// objects: a bundle is of refs, and the checkout gets none.
func (c *creation) pack(ctx context.Context, sha, file string) error {
	own := filepath.Join(c.scratch, "git")
	objects := filepath.Join(c.scratch, "objects")
	format, err := c.git(ctx, nil, "rev-parse", "--show-object-format")
	if err != nil {
		return err
	}
	bare := creation{dir: c.scratch}
	if _, err := bare.git(ctx, nil, "init", "--quiet", "--bare", "--template=", "--object-format="+format, own); err != nil {
		return err
	}
	alternates := c.objects + "\n" + objects + "\n"
	if err := os.WriteFile(filepath.Join(own, "objects", "info", "alternates"), []byte(alternates), 0o600); err != nil {
		return err
	}
	if _, err := bare.git(ctx, nil, "--git-dir="+own, "update-ref", "refs/heads/push", sha); err != nil {
		return err
	}
	_, err = bare.git(ctx, nil, "--git-dir="+own, "bundle", "create", "--quiet", file, "refs/heads/push")
	return err
}

// git runs git as the developer would, with their settings, and gives what it
// prints.
func (c *creation) git(ctx context.Context, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = c.dir
	cmd.Env = append(append(slices.DeleteFunc(cmd.Environ(), ofARepository), "LC_ALL=C", "GIT_OPTIONAL_LOCKS=0"), env...)
	cmd.WaitDelay = 5 * time.Second // of what git has started and left behind
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		if text := strings.TrimSpace(said.String()); text != "" {
			return "", fmt.Errorf("git %s: %w: %s", args[0], err, text)
		}
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

// ofARepository finds the variables by which git hands its repository to a hook:
// from there they would have us write into it.
func ofARepository(variable string) bool {
	name, _, _ := strings.Cut(variable, "=")
	return slices.Contains([]string{
		"GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE", "GIT_PREFIX", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY",
		"GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE", "GIT_NAMESPACE", "GIT_QUARANTINE_PATH",
	}, name)
}
