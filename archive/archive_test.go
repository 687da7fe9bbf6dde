package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/codepr/narwhal/archive"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var stamp = time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)

// tree writes files: "dir/" is a folder, "a -> b" a link, "x*" executable.
func tree(t testing.TB, dir string, files map[string]string) string {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, strings.TrimSuffix(name, "*"))
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		link, target, isLink := strings.Cut(name, " -> ")
		switch {
		case isLink:
			must(t, os.Symlink(target, filepath.Join(dir, link)))
			continue
		case strings.HasSuffix(name, "/"):
			must(t, os.MkdirAll(path, 0o755))
		case strings.HasSuffix(name, "*"):
			must(t, os.WriteFile(path, []byte(text), 0o755))
		default:
			must(t, os.WriteFile(path, []byte(text), 0o640))
		}
		must(t, os.Chtimes(path, stamp, stamp))
	}
	return dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// files tells what lies in dir: "mode text" or "-> target", by path.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		switch {
		case d.IsDir():
			all[rel+"/"] = info.Mode().Perm().String()
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			all[rel] = "-> " + target
			return err
		default:
			data, err := os.ReadFile(path)
			all[rel] = fmt.Sprintf("%v %s", info.Mode().Perm(), data)
			return err
		}
		return nil
	}))
	return all
}

func pack(t *testing.T, opts archive.PackOptions) ([]byte, archive.Summary) {
	t.Helper()
	var buf bytes.Buffer
	sum, err := archive.Pack(context.Background(), &buf, opts)
	must(t, err)
	return buf.Bytes(), sum
}

func unpack(t *testing.T, data []byte, opts archive.UnpackOptions) archive.Summary {
	t.Helper()
	sum, err := archive.Unpack(context.Background(), bytes.NewReader(data), opts)
	must(t, err)
	return sum
}

func paths(sum archive.Summary) (out []string) {
	for _, e := range sum.Entries {
		out = append(out, e.Path)
	}
	return out
}

func TestThereAndBack(t *testing.T) {
	src := tree(t, t.TempDir(), map[string]string{
		"dist/app*": "binary", "dist/a/b/c.txt": "deep", "dist/empty/": "", "dist/l -> a/b": "", "dist/dangling -> nowhere": "", "dist/z": "",
		"dist/large": strings.Repeat("0123456789abcdef", 100_000), "other": "not asked for", "dist/" + strings.Repeat("long/", 40) + "ü name": "x",
	})
	must(t, os.Chmod(filepath.Join(src, "dist/a/b"), 0o555))
	data, sum := pack(t, archive.PackOptions{Places: archive.Places{Root: src}, Paths: []string{"dist/"}})
	if sum.Files != 7 || sum.Bytes != 6+4+1_600_000+1 {
		t.Errorf("packed %d files, %d bytes", sum.Files, sum.Bytes)
	}
	dst := t.TempDir()
	back := unpack(t, data, archive.UnpackOptions{Places: archive.Places{Root: dst}})
	if !slices.Equal(paths(sum), paths(back)) || back.Bytes != sum.Bytes {
		t.Errorf("packed %v\nunpacked %v", paths(sum), paths(back))
	}
	want := files(t, src)
	delete(want, "other")
	if got := files(t, dst); !maps.Equal(got, want) {
		t.Errorf("got  %.600v\nwant %.600v", got, want)
	}
	for _, name := range []string{"dist/app", "dist/a/b/c.txt", "dist/empty"} {
		if info, err := os.Stat(filepath.Join(dst, name)); err != nil || !info.ModTime().Equal(stamp) {
			t.Errorf("%s is of %v (%v), want %v", name, info.ModTime(), err, stamp)
		}
	}
	// Once more over itself: what is there is replaced, read-only or not.
	must(t, os.WriteFile(filepath.Join(dst, "dist/app"), []byte("newer"), 0o600))
	unpack(t, data, archive.UnpackOptions{Places: archive.Places{Root: dst}})
	if got := files(t, dst); !maps.Equal(got, want) {
		t.Errorf("over itself: got  %.600v\nwant %.600v", got, want)
	}
	must(t, os.Chmod(filepath.Join(src, "dist/a/b"), 0o755))
	must(t, os.Chmod(filepath.Join(dst, "dist/a/b"), 0o755))
}

func TestSameFilesSameBytes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	content := map[string]string{}
	for i := range 300 {
		content[fmt.Sprintf("d%d/f%d", i%7, i)] = strings.Repeat(fmt.Sprint(random.Uint64()), random.IntN(3000))
	}
	src := tree(t, t.TempDir(), content)
	first, sum := pack(t, archive.PackOptions{Places: archive.Places{Root: src}, Paths: []string{"d3", ".", "d1/**"}})
	second, _ := pack(t, archive.PackOptions{Places: archive.Places{Root: src}, Paths: []string{"d3", ".", "d1/**"}})
	if !bytes.Equal(first, second) {
		t.Error("the same files gave other bytes")
	}
	if sum.Files != 300 {
		t.Errorf("%d files, want each once", sum.Files)
	}
}

func TestPatterns(t *testing.T) {
	src := tree(t, t.TempDir(), map[string]string{
		"a/x.go": "", "a/b/y.go": "", "a/b/z.txt": "", "a-b": "", "c/y.go": "", "dist/app.js": "", "dist/app.map": "", "dist/tmp/x": "",
		"~/odd": "", "link -> a": "", "out -> /etc": "", "[x]": "",
	})
	for _, c := range []struct {
		paths, exclude string
		want           string
		missing        string
	}{
		{paths: "a", want: "a a/b a/b/y.go a/b/z.txt a/x.go"},
		{paths: "./a/ a/x.go", want: "a a/b a/b/y.go a/b/z.txt a/x.go"},
		{paths: "**/*.go", want: "a/b/y.go a/x.go c/y.go"},
		{paths: "{a,c}/*.go", want: "a/x.go c/y.go"},
		{paths: "dist", exclude: "dist/*.map dist/tmp/", want: "dist dist/app.js"},
		{paths: "dist", exclude: "**/*.map", want: "dist dist/app.js dist/tmp dist/tmp/x"},
		{paths: "link out", want: "link out"},
		{paths: "*/odd", want: "./~/odd"},
		{paths: `\[x\]`, want: "[x]"},
		{paths: "nothing no/*.where a-b", want: "a-b", missing: "nothing no/*.where"},
	} {
		opts := archive.PackOptions{Places: archive.Places{Root: src}, Paths: strings.Fields(c.paths), Exclude: strings.Fields(c.exclude)}
		data, sum := pack(t, opts)
		if got := strings.Join(paths(sum), " "); got != c.want || strings.Join(sum.Missing, " ") != c.missing {
			t.Errorf("%s without %q: got %s (missing %v), want %s", c.paths, c.exclude, got, sum.Missing, c.want)
		}
		listed, err := archive.List(context.Background(), bytes.NewReader(data), archive.Limits{})
		if err != nil || !slices.Equal(paths(listed), paths(sum)) {
			t.Errorf("%s: listed %v, %v", c.paths, paths(listed), err)
		}
		dst := t.TempDir()
		unpack(t, data, archive.UnpackOptions{Places: archive.Places{Root: dst}, OutsideLinks: true, Paths: opts.Paths})
	}
	for _, bad := range []string{"", "../x", "a/../../x", "a\x00", "/", "~/../x", "[a", "~/x"} {
		_, err := archive.Pack(context.Background(), io.Discard, archive.PackOptions{Places: archive.Places{Root: src}, Paths: []string{bad}})
		if !errors.Is(err, archive.ErrPath) {
			t.Errorf("%q: want ErrPath, got %v", bad, err)
		}
	}
	for _, through := range []string{"out/passwd", "out/*"} {
		var buf bytes.Buffer
		sum, err := archive.Pack(context.Background(), &buf, archive.PackOptions{Places: archive.Places{Root: src}, Paths: []string{through}})
		if err == nil && sum.Files > 0 {
			t.Errorf("%q took %v by a link that leads out", through, paths(sum))
		}
	}
}

// A cache lies outside the workspace, and its home may be another one next time.
func TestOutsideTheWorkspace(t *testing.T) {
	at := tree(t, t.TempDir(), map[string]string{"go/pkg/mod/m@v1/x.go": "x", "go/pkg/sum": "no", "h1/.m2/repo/a": "a", "h1/.rc": "rc", "src/node_modules/n": "n"})
	src := archive.Places{Root: filepath.Join(at, "src"), Home: filepath.Join(at, "h1")}
	list := []string{filepath.Join(at, "go/pkg/mod"), "~/.m2/repo", "~/.rc", "node_modules"}
	data, sum := pack(t, archive.PackOptions{Places: src, Paths: list})
	if sum.Files != 4 || len(sum.Missing) > 0 {
		t.Fatalf("packed %v, missing %v", paths(sum), sum.Missing)
	}
	must(t, os.RemoveAll(filepath.Join(at, "go")))
	dst := archive.Places{Root: filepath.Join(at, "new/src"), Home: filepath.Join(at, "new/home")}
	unpack(t, data, archive.UnpackOptions{Places: dst, Paths: list})
	got := files(t, at)
	for name, want := range map[string]string{"go/pkg/mod/m@v1/x.go": "x", "new/home/.m2/repo/a": "a", "new/home/.rc": "rc", "new/src/node_modules/n": "n"} {
		if got[name] != "-rw-r----- "+want {
			t.Errorf("%s is %q", name, got[name])
		}
	}
	// With fewer paths than it was packed from, it is refused.
	for i := range list {
		_, err := archive.Unpack(context.Background(), bytes.NewReader(data), archive.UnpackOptions{Places: dst, Paths: slices.Delete(slices.Clone(list), i, i+1)})
		if !errors.Is(err, archive.ErrUnsafe) {
			t.Errorf("without %s: want ErrUnsafe, got %v", list[i], err)
		}
	}
	_, err := archive.Unpack(context.Background(), bytes.NewReader(data), archive.UnpackOptions{Places: dst})
	if !errors.Is(err, archive.ErrUnsafe) {
		t.Errorf("without paths: want ErrUnsafe, got %v", err)
	}
}

func TestPackLimits(t *testing.T) {
	src := tree(t, t.TempDir(), map[string]string{"a": "12345", "b": "12345", "c": strings.Repeat("x", 300<<10)})
	for _, c := range []struct {
		opts archive.PackOptions
		want string
	}{
		{archive.PackOptions{Limit: 9}, "10 bytes in 2 files so far, and the limit is 9 bytes"},
		{archive.PackOptions{Limit: 20}, "limit is 20 bytes"},
		{archive.PackOptions{MaxFiles: 2}, "more than 2 files"},
	} {
		c.opts.Root, c.opts.Paths = src, []string{"a", "b", "c"}
		_, err := archive.Pack(context.Background(), io.Discard, c.opts)
		if !errors.Is(err, archive.ErrTooLarge) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want ErrTooLarge and %q, got %v", c.want, err)
		}
	}
	pack(t, archive.PackOptions{Places: archive.Places{Root: src}, Paths: []string{"a", "b"}, Limit: 10, MaxFiles: 2})

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := archive.Pack(ctx, io.Discard, archive.PackOptions{Places: archive.Places{Root: src}, Paths: []string{"."}}); !errors.Is(err, context.Canceled) {
		t.Errorf("want canceled, got %v", err)
	}
	full := errors.New("disk full")
	if _, err := archive.Pack(context.Background(), broken{full}, archive.PackOptions{Places: archive.Places{Root: src}, Paths: []string{"."}}); !errors.Is(err, full) {
		t.Errorf("want %v, got %v", full, err)
	}
}

type broken struct{ err error }

func (b broken) Write([]byte) (int, error) { return 0, b.err }

func TestOddFiles(t *testing.T) {
	src := tree(t, t.TempDir(), map[string]string{"a": "a", "set": "s"})
	must(t, syscall.Mkfifo(filepath.Join(src, "fifo"), 0o600))
	must(t, os.Chmod(filepath.Join(src, "set"), 0o755|fs.ModeSetuid))
	data, sum := pack(t, archive.PackOptions{Places: archive.Places{Root: src}, Paths: []string{"."}})
	if !slices.Equal(sum.Skipped, []string{"fifo"}) || sum.Files != 2 {
		t.Errorf("skipped %v of %v", sum.Skipped, paths(sum))
	}
	dst := t.TempDir()
	unpack(t, data, archive.UnpackOptions{Places: archive.Places{Root: dst}})
	if info, err := os.Stat(filepath.Join(dst, "set")); err != nil || info.Mode() != 0o755 {
		t.Errorf("set is %v, %v", info.Mode(), err)
	}
}

func TestHardLinks(t *testing.T) {
	src := tree(t, t.TempDir(), map[string]string{"a": "shared", "d/": ""})
	must(t, os.Link(filepath.Join(src, "a"), filepath.Join(src, "d/b")))
	apart, sum := pack(t, archive.PackOptions{Places: archive.Places{Root: src}, Paths: []string{"."}})
	if sum.Bytes != 12 {
		t.Errorf("%d bytes", sum.Bytes)
	}
	one, sum := pack(t, archive.PackOptions{Places: archive.Places{Root: src}, Paths: []string{"a", "d"}, HardLinks: true})
	if sum.Bytes != 6 || sum.Files != 2 {
		t.Errorf("%d bytes in %d files", sum.Bytes, sum.Files)
	}
	for _, c := range []struct {
		data []byte
		same bool
		opts archive.UnpackOptions
	}{{apart, false, archive.UnpackOptions{}}, {one, true, archive.UnpackOptions{}}, {one, false, archive.UnpackOptions{Paths: []string{"a", "d"}}}} {
		c.opts.Root = t.TempDir()
		unpack(t, c.data, c.opts)
		a, err1 := os.Stat(filepath.Join(c.opts.Root, "a"))
		b, err2 := os.Stat(filepath.Join(c.opts.Root, "d/b"))
		must(t, errors.Join(err1, err2))
		if got := files(t, c.opts.Root); os.SameFile(a, b) != c.same || got["a"] != got["d/b"] {
			t.Errorf("a and d/b are the same: %v, and hold %v", os.SameFile(a, b), got)
		}
	}
}

func TestOpen(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 100_000)
	src := tree(t, t.TempDir(), map[string]string{"a": "first", "dist/large": large, "l -> a": ""})
	data, _ := pack(t, archive.PackOptions{Places: archive.Places{Root: src}, Paths: []string{"."}})
	for name, want := range map[string]string{"a": "first", "dist/large": large} {
		r, e, err := archive.Open(context.Background(), bytes.NewReader(data), name, archive.Limits{})
		must(t, err)
		got, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil || string(got) != want || e.Size != int64(len(want)) {
			t.Errorf("%s: %d bytes, %+v, %v", name, len(got), e, err)
		}
	}
	for _, name := range []string{"no", "dist", "l", "", "../a"} {
		if _, _, err := archive.Open(context.Background(), bytes.NewReader(data), name, archive.Limits{}); !errors.Is(err, archive.ErrNotFound) {
			t.Errorf("%q: want ErrNotFound, got %v", name, err)
		}
	}
	got := map[string]int{}
	must(t, archive.Each(context.Background(), bytes.NewReader(data), archive.Limits{}, func(e archive.Entry, r io.Reader) error {
		text, err := io.ReadAll(r)
		got[e.Path] = len(text)
		return err
	}))
	if want := (map[string]int{".": 0, "a": 5, "dist": 0, "dist/large": len(large), "l": 0}); !maps.Equal(got, want) {
		t.Errorf("each: %v, want %v", got, want)
	}
	stop := errors.New("enough")
	if err := archive.Each(context.Background(), bytes.NewReader(data), archive.Limits{}, func(archive.Entry, io.Reader) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("want %v, got %v", stop, err)
	}
	r, _, err := archive.Open(context.Background(), bytes.NewReader(data), "a", archive.Limits{})
	must(t, err)
	must(t, r.Close()) // before it is read
}
