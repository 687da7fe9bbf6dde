package archive_test

import (
	stdtar "archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/codepr/narwhal/archive"
)

func compress(t testing.TB, data []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	must(t, err)
	out := z.EncodeAll(data, nil)
	must(t, z.Close())
	return out
}

func dir(name string) stdtar.Header {
	return stdtar.Header{Name: name, Typeflag: stdtar.TypeDir, Mode: 0o755}
}

func link(name, to string) stdtar.Header {
	return stdtar.Header{Name: name, Linkname: to, Typeflag: stdtar.TypeSymlink}
}

func hard(name, to string) stdtar.Header {
	return stdtar.Header{Name: name, Linkname: to, Typeflag: stdtar.TypeLink}
}

// evil is a file that holds "evil".
func evil(name string) stdtar.Header {
	return stdtar.Header{Name: name, Typeflag: stdtar.TypeReg, Mode: 0o644, Size: 4}
}

func rawTar(t testing.TB, headers ...stdtar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := stdtar.NewWriter(&buf)
	for _, h := range headers {
		must(t, w.WriteHeader(&h))
		if h.Typeflag == stdtar.TypeReg {
			_, err := io.WriteString(w, strings.Repeat("evil", int(h.Size)/4))
			must(t, err)
		}
	}
	must(t, w.Close())
	return buf.Bytes()
}

func special(kind byte) stdtar.Header {
	return stdtar.Header{Name: "dev", Typeflag: kind, Mode: 0o666, Devmajor: 1, Devminor: 3}
}

// Each is refused, and nothing changes beside the folder that it is unpacked to.
func TestAttacks(t *testing.T) {
	for name, c := range map[string]struct {
		entries []stdtar.Header
		opts    archive.UnpackOptions
		there   map[string]string // in the folder before
		want    error
	}{
		"parent":                  {entries: []stdtar.Header{evil("../outside/secret")}, want: archive.ErrUnsafe},
		"parent further in":       {entries: []stdtar.Header{evil("a/../../outside/secret")}, want: archive.ErrUnsafe},
		"parent of home":          {entries: []stdtar.Header{evil("~/../outside/secret")}, opts: archive.UnpackOptions{Paths: []string{"~"}}, want: archive.ErrUnsafe},
		"absolute":                {entries: []stdtar.Header{evil("OUTSIDE/secret")}, want: archive.ErrUnsafe},
		"absolute with paths":     {entries: []stdtar.Header{evil("OUTSIDE/secret")}, opts: archive.UnpackOptions{Paths: []string{"a", "/go"}}, want: archive.ErrUnsafe},
		"beside its path":         {entries: []stdtar.Header{evil("ab")}, opts: archive.UnpackOptions{Paths: []string{"a"}}, want: archive.ErrUnsafe},
		"absolute, then parent":   {entries: []stdtar.Header{evil("OUTSIDE/in/../secret")}, opts: archive.UnpackOptions{Paths: []string{"OUTSIDE/in"}}, want: archive.ErrUnsafe},
		"double slash":            {entries: []stdtar.Header{evil("/" + "OUTSIDE/secret")}, opts: archive.UnpackOptions{Paths: []string{"a"}}, want: archive.ErrUnsafe},
		"backslash is a name":     {entries: []stdtar.Header{evil(`..\outside\secret`)}},
		"link out":                {entries: []stdtar.Header{link("l", "../outside")}, want: archive.ErrUnsafe},
		"link out, absolute":      {entries: []stdtar.Header{link("l", "OUTSIDE")}, want: archive.ErrUnsafe},
		"link out by a folder":    {entries: []stdtar.Header{link("d/l", "../../outside")}, want: archive.ErrUnsafe},
		"link out by links":       {entries: []stdtar.Header{link("d", "."), link("l", "d/d/d/../../../../outside")}, want: archive.ErrUnsafe},
		"link out by links, late": {entries: []stdtar.Header{link("a", "d/.."), link("d", "x/.."), link("x", "."), link("z", "a/../outside")}, want: archive.ErrUnsafe},
		"through a link":          {entries: []stdtar.Header{link("l", "../outside"), evil("l/secret")}, want: archive.ErrUnsafe},
		"through a link, allowed": {entries: []stdtar.Header{link("l", "OUTSIDE"), evil("l/secret")}, opts: archive.UnpackOptions{OutsideLinks: true}, want: archive.ErrUnsafe},
		"through a link as a folder": {entries: []stdtar.Header{link("l", "OUTSIDE"), dir("l"), evil("l/secret")},
			opts: archive.UnpackOptions{OutsideLinks: true}, want: archive.ErrUnsafe},
		"link after its folder":  {entries: []stdtar.Header{evil("l/x"), link("l", "OUTSIDE"), evil("l/secret")}, opts: archive.UnpackOptions{OutsideLinks: true}, want: archive.ErrUnsafe},
		"onto a link":            {entries: []stdtar.Header{link("l", "OUTSIDE/secret"), evil("l")}, opts: archive.UnpackOptions{OutsideLinks: true}, want: archive.ErrUnsafe},
		"onto a link that is":    {entries: []stdtar.Header{evil("l")}, there: map[string]string{"l -> OUTSIDE/secret": ""}},
		"through a link that is": {entries: []stdtar.Header{evil("l/secret")}, there: map[string]string{"l -> OUTSIDE": ""}},
		"folder on a link":       {entries: []stdtar.Header{dir("l"), evil("l/secret")}, there: map[string]string{"l -> OUTSIDE": ""}},
		"hard link out":          {entries: []stdtar.Header{hard("l", "../outside/secret")}, want: archive.ErrUnsafe},
		"hard link, absolute":    {entries: []stdtar.Header{hard("l", "OUTSIDE/secret")}, want: archive.ErrUnsafe},
		"hard link by a link":    {entries: []stdtar.Header{link("y", "OUTSIDE/secret"), hard("l", "y")}, opts: archive.UnpackOptions{OutsideLinks: true}, want: archive.ErrUnsafe},
		"hard link to a folder":  {entries: []stdtar.Header{dir("d"), hard("l", "d")}, want: archive.ErrUnsafe},
		"hard link to what is":   {entries: []stdtar.Header{hard("l", "mine")}, there: map[string]string{"mine": "m"}, want: archive.ErrUnsafe},
		"hard link, then write":  {entries: []stdtar.Header{evil("a"), hard("l", "a"), evil("l")}, want: archive.ErrUnsafe},
		"twice":                  {entries: []stdtar.Header{evil("a"), evil("a")}, want: archive.ErrUnsafe},
		"twice, spelled anew":    {entries: []stdtar.Header{evil("a"), evil("./a")}, want: archive.ErrUnsafe},
		"file, then folder":      {entries: []stdtar.Header{evil("a"), evil("a/b")}, want: archive.ErrUnsafe},
		"folder, then file":      {entries: []stdtar.Header{evil("a/b"), evil("a")}, want: archive.ErrUnsafe},
		"the folder itself":      {entries: []stdtar.Header{evil("./.")}, want: archive.ErrUnsafe},
		"device":                 {entries: []stdtar.Header{special(stdtar.TypeChar)}, want: archive.ErrUnsafe},
		"block device":           {entries: []stdtar.Header{special(stdtar.TypeBlock)}, want: archive.ErrUnsafe},
		"fifo":                   {entries: []stdtar.Header{special(stdtar.TypeFifo)}, want: archive.ErrUnsafe},
		"name without end":       {entries: []stdtar.Header{evil(strings.Repeat("a/", 5000) + "a")}, want: archive.ErrUnsafe},
		"empty link":             {entries: []stdtar.Header{link("l", "")}, want: archive.ErrUnsafe},
		"more than it may":       {entries: []stdtar.Header{evil("a"), evil("b")}, opts: archive.UnpackOptions{Limits: archive.Limits{Bytes: 7}}, want: archive.ErrTooLarge},
		"more entries":           {entries: []stdtar.Header{evil("a"), evil("b")}, opts: archive.UnpackOptions{Limits: archive.Limits{Entries: 1}}, want: archive.ErrTooLarge},
		"setuid":                 {entries: []stdtar.Header{{Name: "s", Typeflag: stdtar.TypeReg, Mode: 0o4755, Size: 4}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := tree(t, t.TempDir(), map[string]string{"outside/secret": "secret", "root/": "", "home/": ""})
			outside := filepath.Join(at, "outside")
			for name := range c.there {
				tree(t, filepath.Join(at, "root"), map[string]string{strings.ReplaceAll(name, "OUTSIDE", outside): "mine"})
			}
			for i := range c.entries {
				c.entries[i].Name = strings.ReplaceAll(c.entries[i].Name, "OUTSIDE", outside)
				c.entries[i].Linkname = strings.ReplaceAll(c.entries[i].Linkname, "OUTSIDE", outside)
			}
			for i := range c.opts.Paths {
				c.opts.Paths[i] = strings.ReplaceAll(c.opts.Paths[i], "OUTSIDE", outside)
			}
			c.opts.Places = archive.Places{Root: filepath.Join(at, "root"), Home: filepath.Join(at, "home")}
			data := compress(t, rawTar(t, c.entries...))
			_, err := archive.Unpack(context.Background(), bytes.NewReader(data), c.opts)
			if (err == nil) != (c.want == nil) || !errors.Is(err, c.want) {
				t.Errorf("want %v, got %v", c.want, err)
			}
			if got := files(t, outside); !maps.Equal(got, map[string]string{"secret": "-rw-r----- secret"}) {
				t.Errorf("outside lies %v", got)
			}
			all := slices.Sorted(maps.Keys(files(t, at)))
			if slices.ContainsFunc(all, func(p string) bool {
				return !strings.HasPrefix(p, "root/") && !strings.HasPrefix(p, "home/") && !strings.HasPrefix(p, "outside/")
			}) {
				t.Errorf("there lies %v", all)
			}
			if info, err := os.Lstat(filepath.Join(outside, "secret")); err != nil || !info.ModTime().Equal(stamp) {
				t.Errorf("the secret was touched: %v, %v", info.ModTime(), err)
			}
			if info, err := os.Lstat(filepath.Join(at, "root/s")); err == nil && info.Mode() != 0o755 {
				t.Errorf("mode is %v", info.Mode())
			}
		})
	}
}

func TestBombs(t *testing.T) {
	var buf bytes.Buffer
	z, err := zstd.NewWriter(&buf)
	must(t, err)
	w := stdtar.NewWriter(z)
	zeros := make([]byte, 1<<20)
	must(t, w.WriteHeader(&stdtar.Header{Name: "zeros", Typeflag: stdtar.TypeReg, Mode: 0o644, Size: 300 << 20}))
	for range 300 {
		_, err := w.Write(zeros)
		must(t, err)
	}
	must(t, errors.Join(w.Close(), z.Close()))
	check := func(what string, limits archive.Limits, data []byte, want error) {
		t.Helper()
		_, err := archive.List(context.Background(), bytes.NewReader(data), limits)
		if !errors.Is(err, want) {
			t.Errorf("%s: want %v, got %v", what, want, err)
		}
		at := t.TempDir()
		_, err = archive.Unpack(context.Background(), bytes.NewReader(data), archive.UnpackOptions{Places: archive.Places{Root: at}, Limits: limits})
		if !errors.Is(err, want) {
			t.Errorf("%s: want %v, got %v", what, want, err)
		}
	}
	check("by ratio", archive.Limits{}, buf.Bytes(), archive.ErrTooLarge)
	check("by bytes", archive.Limits{Ratio: 1 << 40, Bytes: 299 << 20}, buf.Bytes(), archive.ErrTooLarge)
	check("allowed", archive.Limits{Ratio: 1 << 40}, buf.Bytes(), nil)

	// A size that no disk has, and a stream that never gives it.
	huge := rawTar(t, evil("a"))
	copy(huge[124:136], "77777777777\x00")
	sum := 0
	copy(huge[148:156], "        ")
	for _, b := range huge[:512] {
		sum += int(b)
	}
	copy(huge[148:156], fmt.Sprintf("%06o\x00 ", sum))
	check("a size that isn't there", archive.Limits{Bytes: 1 << 50}, compress(t, huge), archive.ErrCorrupt)
	check("a size over the limit", archive.Limits{Bytes: 1 << 30}, compress(t, huge), archive.ErrTooLarge)
	// A window that takes all memory.
	check("a window of 2 GiB", archive.Limits{}, []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0, 0, 0, 0}, archive.ErrCorrupt)
	check("more after its end", archive.Limits{}, compress(t, append(rawTar(t, evil("a")), make([]byte, 3<<20)...)), archive.ErrCorrupt)
}

func TestBrokenStreams(t *testing.T) {
	src := tree(t, t.TempDir(), map[string]string{"a": strings.Repeat("some text ", 1000), "b": "b", "c/d": "d"})
	data, _ := pack(t, archive.PackOptions{Places: archive.Places{Root: src}, Paths: []string{"."}})
	try := func(what string, data []byte) {
		t.Helper()
		_, err := archive.Unpack(context.Background(), bytes.NewReader(data), archive.UnpackOptions{Places: archive.Places{Root: t.TempDir()}})
		if !errors.Is(err, archive.ErrCorrupt) {
			t.Errorf("%s: want ErrCorrupt, got %v", what, err)
		}
	}
	for n := range len(data) {
		if n == 0 {
			continue // below
		}
		try(fmt.Sprintf("the first %d of %d bytes", n, len(data)), data[:n])
	}
	z, err := zstd.NewReader(nil)
	must(t, err)
	defer z.Close()
	whole, err := z.DecodeAll(data, nil)
	must(t, err)
	for i := range data {
		flipped := bytes.Clone(data)
		flipped[i] ^= 0x10
		if decompressed, err := z.DecodeAll(flipped, nil); err == nil && bytes.Equal(decompressed, whole) {
			continue // a bit that means nothing
		}
		if _, err := archive.List(context.Background(), bytes.NewReader(flipped), archive.Limits{}); !errors.Is(err, archive.ErrCorrupt) {
			t.Errorf("byte %d flipped: want ErrCorrupt, got %v", i, err)
		}
	}
	try("no bytes", nil)
	try("text", []byte("this is no archive"))
	try("a tar without zstd", rawTar(t, evil("a")))

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := archive.Unpack(ctx, bytes.NewReader(data), archive.UnpackOptions{Places: archive.Places{Root: t.TempDir()}}); !errors.Is(err, context.Canceled) {
		t.Errorf("want canceled, got %v", err)
	}
}

func FuzzUnpack(f *testing.F) {
	for _, entries := range [][]stdtar.Header{
		{evil("a"), dir("d"), evil("d/b"), link("l", "d"), hard("h", "a")}, {link("l", "../.."), evil("l/x")}, {evil("~/x"), evil("/abs/y")}, {link("d", "."), link("l", "d/d/../..")},
	} {
		f.Add(rawTar(f, entries...))
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	must(f, err)
	f.Fuzz(func(t *testing.T, data []byte) {
		packed := z.EncodeAll(data, nil)
		at := tree(t, t.TempDir(), map[string]string{"root/": "", "home/": ""})
		before := files(t, at)
		for _, paths := range [][]string{nil, {"~/x", "a", "d/*"}} {
			_, _ = archive.Unpack(context.Background(), bytes.NewReader(packed), archive.UnpackOptions{ // most are no archives
				Places: archive.Places{Root: filepath.Join(at, "root"), Home: filepath.Join(at, "home")}, Paths: paths, Limits: archive.Limits{Bytes: 1 << 20, Entries: 100},
			})
		}
		for name := range files(t, at) {
			if _, ok := before[name]; !ok && !strings.HasPrefix(name, "root/") && !strings.HasPrefix(name, "home/x") {
				t.Errorf("it wrote %s", name)
			}
		}
	})
}

// TestManyNames: what lists an archive remembers them, and there is a bound to it; what
// counts them does not.
func TestManyNames(t *testing.T) {
	var headers []stdtar.Header
	for i := range 300 {
		headers = append(headers, evil(fmt.Sprintf("%d-%s", i, strings.Repeat("n", 1000))))
	}
	data := compress(t, rawTar(t, headers...))
	small := archive.Limits{Names: 200_000}
	if _, err := archive.List(t.Context(), bytes.NewReader(data), small); !errors.Is(err, archive.ErrTooLarge) || !strings.Contains(err.Error(), "names of") {
		t.Errorf("listed: %v", err)
	}
	files, size, err := archive.Count(t.Context(), bytes.NewReader(data), archive.Limits{})
	if err != nil || files != 300 || size != 1200 {
		t.Errorf("counted %d files of %d bytes: %v", files, size, err)
	}
	if _, _, err := archive.Count(t.Context(), bytes.NewReader(data[:len(data)-8]), archive.Limits{}); err == nil {
		t.Error("counted what is torn")
	}
}
