package checkout

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/codepr/narwhal/bundle"
)

// importAll brings commits from the bundles that `narwhal push` left.
func (m *mirror) importAll(ctx context.Context, batch []*want) {
	for _, w := range batch {
		err := m.importOne(ctx, w)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			err = fmt.Errorf("import bundle %s of %s: %w", short(w.commit.Bundle), m.Repo, err)
		}
		w.end(err)
	}
}

// importOne hands the bundle's pack to git index-pack, which checks every
// object and every link, as a fetch does; git's own road from a bundle checks
// nothing and wants the file protocol.
func (m *mirror) importOne(ctx context.Context, w *want) (err error) {
	if m.bundles == nil {
		return fmt.Errorf("this node keeps no bundles: %w", ErrForbidden)
	}
	path, err := m.bundles.Path(ctx, w.commit.Bundle, w.commit.Holders)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	header, pack, err := bundle.ReadHeader(f)
	if err != nil {
		return fmt.Errorf("%w: %w", err, ErrCorrupt)
	}
	if header.Hash != m.Hash {
		return fmt.Errorf("its objects are %s: %w", header.Hash, ErrInvalid)
	}
	for _, need := range header.Needs {
		if ok, err := m.has(ctx, need); err != nil || !ok {
			return fmt.Errorf("it needs commit %s, which is not here: %w", short(need), errors.Join(ErrNotFound, err))
		}
	}
	args := []string{"index-pack", "--stdin", "--fix-thin", "--strict=" + blemishes(), "--threads=1"}
	if err := m.git.run(ctx, call{gitDir: m.dir, stdin: pack}, args...); err != nil {
		var said *failure
		if errors.As(err, &said) && errors.Is(said.kind, ErrTransport) {
			err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return errors.Join(err, m.clearLeftovers())
	}
	if ok, err := m.has(ctx, w.commit.SHA); err != nil || !ok {
		return fmt.Errorf("commit %s is not in it: %w", short(w.commit.SHA), errors.Join(ErrNotFound, err))
	}
	return m.keep(w.commit.SHA)
}

// keep gives a commit a ref of its own, by way of a lock as git does.
func (m *mirror) keep(sha string) error {
	path := filepath.Join(m.dir, "refs", "narwhal", sha)
	// pack-refs takes empty folders away.
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := writeSynced(path+".lock", []byte(sha+"\n")); err != nil {
		return err
	}
	return os.Rename(path+".lock", path)
}
