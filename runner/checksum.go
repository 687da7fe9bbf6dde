package runner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

const (
	maxSummedFiles = 10_000
	maxSummedBytes = 256 << 20
	// noSum stands where there is nothing to sum up.
	noSum = "none"
)

// checksums replaces ${checksum:PATH} by a sum of the checkout's files. A commit
// may hold what it likes: no link leads out of its checkout.
type checksums struct {
	dir  string
	say  say
	done map[string]string
}

// replace gives text with each ${checksum:PATH} in it replaced.
func (c *checksums) replace(ctx context.Context, text string) (string, error) {
	const begin = "${checksum:"
	var out strings.Builder
	for {
		before, after, found := strings.Cut(text, begin)
		path, rest, closed := strings.Cut(after, "}")
		if !found || !closed {
			out.WriteString(text)
			return out.String(), nil
		}
		sum, err := c.sum(ctx, path)
		if err != nil {
			return "", err
		}
		out.WriteString(before + sum)
		text = rest
	}
}

// sum gives the sum of what a path or pattern names, once; its error is ctx's.
func (c *checksums) sum(ctx context.Context, pattern string) (string, error) {
	if sum, ok := c.done[pattern]; ok {
		return sum, nil
	}
	sum, err := c.read(ctx, pattern)
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		c.say("cache: no checksum of %s: %v", pattern, err)
		sum = noSum
	}
	if c.done == nil {
		c.done = make(map[string]string)
	}
	c.done[pattern] = sum
	return sum, nil
}

func (c *checksums) read(ctx context.Context, pattern string) (sum string, err error) {
	root, err := os.OpenRoot(c.dir)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	paths, err := doublestar.Glob(root.FS(), strings.TrimPrefix(pattern, "./"), doublestar.WithNoFollow())
	if err != nil {
		return "", err
	}
	slices.Sort(paths)
	h := sha256.New()
	files, left := 0, int64(maxSummedBytes)
	for _, path := range paths {
		if info, err := root.Stat(path); err != nil || !info.Mode().IsRegular() {
			continue // a folder that the pattern fits too
		}
		if files++; files > maxSummedFiles {
			return "", fmt.Errorf("it names more than %d files", maxSummedFiles)
		}
		n, err := add(ctx, h, root, path, left)
		if err != nil {
			return "", err
		}
		left -= n
	}
	if files == 0 {
		return "", errors.New("the checkout has no such file")
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

// add sums up a file with its name and size, so that no two sets of files are
// one to it.
func add(ctx context.Context, h hash.Hash, root *os.Root, path string, limit int64) (n int64, err error) {
	f, err := root.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	own := sha256.New()
	n, err = io.Copy(own, io.LimitReader(untilDone{ctx, f}, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("its files have more than %d bytes", maxSummedBytes)
	}
	fmt.Fprintf(h, "%q %x\n", path, own.Sum(nil)) // a hash takes all
	return n, err
}
