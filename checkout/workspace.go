package checkout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// Checkout makes a workspace in dir, an empty folder, from the commit that Ensure
// has brought: its files, and a .git that borrows the mirror's objects. With
// clone.Skip the folder stays empty. After an error the folder is to be thrown
// away. The workspace's origin is the clone URL, its HEAD the commit itself.
func (s *Mirrors) Checkout(ctx context.Context, c fsm.Commit, clone pipeline.Clone, dir string) error {
	if clone.Skip {
		return nil
	}
	m, err := s.of(c)
	if err != nil {
		return err
	}
	if clone.LFS {
		if _, err := exec.LookPath("git-lfs"); err != nil {
			return ErrNoLFS
		}
	}
	w := workspace{mirror: m, commit: c, clone: clone, dir: dir, allowed: s.cfg.Protocols}
	if err := w.make(ctx); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("check out %s of %s: %w", short(c.SHA), c.Repo, err)
	}
	return nil
}

// workspace is one that is being made. No step has run in it yet, so git may.
type workspace struct {
	mirror  *mirror
	commit  fsm.Commit
	clone   pipeline.Clone
	dir     string
	allowed []string // protocols of submodules
}

func (w *workspace) gitDir() string { return filepath.Join(w.dir, ".git") }

// make writes what `git init` and `git clone` would in several processes. The index
// and the files of any but a plain tree are written by one git process.
func (w *workspace) make(ctx context.Context) error {
	if err := w.writeGitDir(ctx); err != nil {
		return err
	}
	plain, err := w.writePlain(ctx)
	if err != nil {
		return err
	}
	if !plain {
		c := call{gitDir: w.gitDir(), workTree: w.dir}
		if err := w.mirror.git.run(ctx, c, "read-tree", "-u", "--reset", "--end-of-options", w.commit.SHA); err != nil {
			return locally(err)
		}
	}
	if w.clone.LFS {
		if err := w.pullLFS(ctx); err != nil {
			return err
		}
	}
	if w.clone.Submodules {
		return w.addSubmodules(ctx, w.dir, w.commit.CloneURL, 0)
	}
	return nil
}

// locally takes the meaning of a broken transfer from a process that made none.
func locally(err error) error {
	var f *failure
	if errors.As(err, &f) && errors.Is(f.kind, ErrTransport) {
		return fmt.Errorf("git %s: %s", f.verb, f.said)
	}
	return err
}

func (w *workspace) writeGitDir(ctx context.Context) error {
	packed, err := w.packedRefs(ctx)
	if err != nil {
		return err
	}
	files := map[string]string{
		"HEAD":                    w.commit.SHA + "\n",
		"config":                  w.config(),
		"objects/info/alternates": filepath.Join(w.mirror.dir, "objects") + "\n",
		"packed-refs":             packed,
	}
	if w.clone.Depth > 0 {
		edge, err := w.shallow(ctx)
		if err != nil {
			return err
		}
		if edge != "" { // the file alone, though empty, means shallow
			files["shallow"] = edge
		}
	}
	for _, d := range []string{"objects/info", "refs"} {
		if err := os.MkdirAll(filepath.Join(w.gitDir(), d), 0o755); err != nil {
			return err
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(w.gitDir(), name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// config is the workspace's own: nothing of the repository's or the server's
// choice but the URL, whose characters parseRemote has judged.
func (w *workspace) config() string {
	var b strings.Builder
	version := 0
	if w.mirror.Hash == "sha256" {
		version = 1
	}
	fmt.Fprintf(&b, "[core]\n\trepositoryformatversion = %d\n\tbare = false\n\tlogallrefupdates = true\n", version)
	if version == 1 {
		b.WriteString("[extensions]\n\tobjectFormat = sha256\n")
	}
	if w.commit.CloneURL != "" {
		quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(w.commit.CloneURL)
		fmt.Fprintf(&b, "[remote \"origin\"]\n\turl = \"%s\"\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n", quoted)
	}
	return b.String()
}

// packedRefs is the remote's branches and tags as git clone would leave them. The
// commit's own branch stands at the commit, wherever the server's is by now. A
// shallow clone has that branch, or the commit's own tag, and no other.
func (w *workspace) packedRefs(ctx context.Context) (string, error) {
	own := map[string]string{}
	if branch := w.commit.Branch(); branch != "" {
		own["refs/remotes/origin/"+branch] = w.commit.SHA
	}
	if w.clone.Depth > 0 && w.commit.Tag() == "" {
		return packRefs(nil, own), nil
	}
	known, err := w.mirror.clonedRefs(ctx)
	if err != nil {
		return "", err
	}
	if w.clone.Depth > 0 {
		known = slices.DeleteFunc(slices.Clone(known), func(r ref) bool { return r.name != w.commit.Ref })
	}
	return packRefs(known, own), nil
}

// shallow lists the commits whose parents are left out: those that are as far
// from the commit as the depth says. See gitformat-shallow.
func (w *workspace) shallow(ctx context.Context) (string, error) {
	var edge strings.Builder
	level, seen := []string{w.commit.SHA}, map[string]bool{w.commit.SHA: true}
	for depth := 1; len(level) > 0; depth++ {
		var next []string
		for _, sha := range level {
			parents, err := w.mirror.parents(ctx, sha)
			if err != nil {
				return "", err
			}
			if depth == w.clone.Depth {
				if len(parents) > 0 {
					edge.WriteString(sha + "\n")
				}
				continue
			}
			for _, p := range parents {
				if !seen[p] {
					seen[p] = true
					next = append(next, p)
				}
			}
		}
		level = next
	}
	return edge.String(), nil
}

// parents reads a commit's.
func (m *mirror) parents(ctx context.Context, sha string) (parents []string, err error) {
	kind, data, err := m.contents(ctx, sha)
	if err != nil {
		return nil, fmt.Errorf("read commit %s: %w", short(sha), err)
	}
	if kind != "commit" {
		return nil, fmt.Errorf("%s is a %s and no commit: %w", short(sha), kind, ErrCorrupt)
	}
	for line := range bytes.Lines(data) {
		if len(line) == 1 { // the message follows
			break
		}
		if p, found := bytes.CutPrefix(bytes.TrimSuffix(line, []byte("\n")), []byte("parent ")); found {
			parents = append(parents, string(p))
		}
	}
	return parents, nil
}

// pullLFS brings the large files themselves. It speaks to the remote's server,
// or where the repository's .lfsconfig says.
func (w *workspace) pullLFS(ctx context.Context) error {
	c := call{gitDir: w.gitDir(), workTree: w.dir, remote: &w.mirror.remote, config: [][2]string{
		{"filter.lfs.clean", "git-lfs clean -- %f"},
		{"filter.lfs.smudge", "git-lfs smudge -- %f"},
		{"filter.lfs.process", "git-lfs filter-process"},
		{"filter.lfs.required", "true"},
	}}
	return w.mirror.git.run(ctx, c, "lfs", "pull", "origin")
}
