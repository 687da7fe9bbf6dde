package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Repository is a git repository on this machine, for builds to fetch from.
type Repository struct {
	Name string
	Dir  string
}

// NewRepository makes an empty one with a branch named main.
func NewRepository(dir, name string) (*Repository, error) {
	r := &Repository{Name: name, Dir: dir}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if _, err := r.Git("init", "--quiet", "--initial-branch", "main"); err != nil {
		return nil, err
	}
	return r, nil
}

// URL is where nodes fetch it from.
func (r *Repository) URL() string { return "file://" + r.Dir }

// Git runs git in it.
func (r *Repository) Git(args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = r.Dir
	cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=lab", "GIT_AUTHOR_EMAIL=lab@example.org", "GIT_COMMITTER_NAME=lab",
		"GIT_COMMITTER_EMAIL=lab@example.org", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// Commit writes files, by path and content, and commits them. It returns the SHA.
func (r *Repository) Commit(message string, files map[string]string) (string, error) {
	for path, text := range files {
		path = filepath.Join(r.Dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	if _, err := r.Git("add", "--all"); err != nil {
		return "", err
	}
	if _, err := r.Git("commit", "--quiet", "--allow-empty", "--message", message); err != nil {
		return "", err
	}
	return r.Git("rev-parse", "HEAD")
}

// Commits makes n commits on main, one after the other, by one git process. Each
// changes a file of its own.
func (r *Repository) Commits(n int) ([]string, error) {
	var in strings.Builder
	in.WriteString("reset refs/heads/main\nfrom refs/heads/main^0\n\n")
	for i := range n {
		text := fmt.Sprintf("change %d\n", i)
		fmt.Fprintf(&in, "commit refs/heads/main\ncommitter lab <lab@example.org> %d +0000\ndata %d\n%s\nM 100644 inline changes/%d.txt\ndata %d\n%s\n",
			1_700_000_000+i, len(text), text, i%16, len(text), text)
	}
	cmd := exec.Command("git", "fast-import", "--quiet")
	cmd.Dir, cmd.Stdin = r.Dir, strings.NewReader(in.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("git fast-import: %w: %s", err, out)
	}
	list, err := r.Git("rev-list", "--reverse", fmt.Sprintf("--max-count=%d", n), "main")
	if err != nil {
		return nil, err
	}
	return strings.Fields(list), nil
}
