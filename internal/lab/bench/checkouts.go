package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/codepr/narwhal/checkout"
	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// sources writes n files of about size bytes in folders, as repositories have them:
// words, which compress.
func sources(dir string, n, size int) error {
	random := rand.New(rand.NewPCG(1, 2))
	words := make([]string, 2000)
	for i := range words {
		words[i] = fmt.Sprintf("w%x", random.Uint32()>>(random.IntN(24)))
	}
	for i := range n {
		path := filepath.Join(dir, fmt.Sprintf("d%d/e%d/f%d.go", i%17, i%53, i))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		var text bytes.Buffer
		for want := size/2 + random.IntN(size); text.Len() < want; {
			text.WriteString(words[random.IntN(len(words))])
			text.WriteByte(" \n"[random.IntN(8)/7])
		}
		if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// checkouts compares a workspace of 1,700 files from a warm mirror with what git
// itself can do from one, in turns.
func checkouts(ctx context.Context, b *bench) error {
	const files = 1700
	n := number("N", 15)
	if err := sources(b.repo.Dir, files, 16<<10); err != nil {
		return err
	}
	sha, err := b.repo.Commit("sources", nil)
	if err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	mirrors, err := checkout.Open(checkout.Config{Dir: filepath.Join(b.dir, "mirrors"), Protocols: []string{"file"}}, log)
	if err != nil {
		return err
	}
	defer func() { _ = mirrors.Close() }()
	commit := fsm.Commit{Repo: b.repo.Name, CloneURL: b.repo.URL(), SHA: sha, Ref: "refs/heads/main", Event: fsm.EventPush}
	if err := mirrors.Ensure(ctx, commit); err != nil {
		return err
	}
	bare := filepath.Dir(mirrors.ObjectsDir(commit))
	methods := []struct {
		name string
		make func(dir string) error
	}{
		{"narwhal", func(dir string) error {
			if err := os.Mkdir(dir, 0o755); err != nil {
				return err
			}
			return mirrors.Checkout(ctx, commit, pipeline.Clone{}, dir)
		}},
		{"archive", func(dir string) error {
			return shell(ctx, `mkdir "$1" && git --git-dir="$2" archive "$3" | tar -x -C "$1"`, dir, bare, sha)
		}},
		{"worktree", func(dir string) error {
			return shell(ctx, `git --git-dir="$2" worktree add -q --detach "$1" "$3"`, dir, bare, sha)
		}},
		{"shared", func(dir string) error {
			return shell(ctx, `git clone -q --shared --no-checkout "$2" "$1" && git -C "$1" checkout -q --detach "$3"`, dir, bare, sha)
		}},
	}
	say("%d checkouts of %d files by each of %d methods, in turns", n, files, len(methods))
	took := make([][]float64, len(methods))
	for i := range n + 1 {
		for m := range methods {
			dir := filepath.Join(b.dir, fmt.Sprintf("work-%d-%d", i, m))
			began := time.Now()
			if err := methods[m].make(dir); err != nil {
				return fmt.Errorf("%s: %w", methods[m].name, err)
			}
			elapsed := milliseconds(time.Since(began))
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
			if i > 0 { // the first warms up
				took[m] = append(took[m], elapsed)
			}
		}
	}
	fastest := 0.0
	for m := range methods {
		median := percentile(took[m], 50)
		print(methods[m].name+"_p50_ms", median)
		if m > 0 && (fastest == 0 || median < fastest) {
			fastest = median
		}
	}
	print("ratio_p50", percentile(took[0], 50)/fastest)
	return nil
}

// shell runs a script with arguments.
func shell(ctx context.Context, script string, args ...string) error {
	cmd := exec.CommandContext(ctx, "bash", append([]string{"-eo", "pipefail", "-c", script, "bench"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
