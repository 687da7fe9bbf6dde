package checkout

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // git's, as a checksum
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// A tree is plain when writing it takes none of git's judgement: it is small, has
// only folders and regular files, names that mean the same on every file system,
// and no attributes. Most are. They are written from here, with objects from the
// mirror's reader: starting a git process costs more than all the rest. Any other
// tree is git's to write, or to refuse.

// Limits of a plain tree. All of it is in memory for a moment.
const (
	plainFiles = 500
	plainBytes = 4 << 20
)

// plainFile is a regular file of a plain tree.
type plainFile struct {
	path string // slash-separated, relative
	oid  string
	exec bool
	data []byte
}

// plainTree reads the commit's tree, in the index's order; ok is false where it is
// not plain. It changes nothing.
func (m *mirror) plainTree(ctx context.Context, sha string) (all []plainFile, ok bool, err error) {
	if m.Hash != "sha1" {
		return nil, false, nil
	}
	err = m.withReader(ctx, func(r *reader) (err error) {
		all, ok = nil, false
		root, err := r.objects([]string{sha + "^{tree}"}, maxObject)
		if err != nil {
			return err
		}
		p := plainReader{reader: r}
		if ok, err = p.folder("", root[0]); !ok || err != nil {
			return err
		}
		if ok, err = p.contents(); ok {
			all = p.files
		}
		return err
	})
	if errors.Is(err, errIncomplete) { // git finds it, or says what is missing
		return nil, false, nil
	}
	return all, ok, err
}

var errIncomplete = errors.New("an object of the tree is not there")

type plainReader struct {
	*reader
	files []plainFile
	trees int
}

// plainName leaves out what NTFS, HFS+ and shells read in another way than git.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_.+@=,-]*[A-Za-z0-9_+@=,-]$`)

func isPlain(name string) bool {
	folded := strings.ToLower(name)
	return plainName.MatchString(name) && folded != ".git" && folded != ".gitattributes"
}

// folder adds what is in a tree object. Entries come in the index's order as long
// as they come in the tree's, which is checked.
func (p *plainReader) folder(prefix string, tree []byte) (ok bool, err error) {
	before := ""
	for len(tree) > 0 {
		mode, rest, found := bytes.Cut(tree, []byte(" "))
		raw, rest, ended := bytes.Cut(rest, []byte{0})
		if !found || !ended || len(rest) < sha1.Size {
			return false, nil // git says what is wrong with it
		}
		oid := hex.EncodeToString(rest[:sha1.Size])
		tree = rest[sha1.Size:]
		name, key := string(raw), string(raw)
		if string(mode) == "40000" {
			key += "/"
		}
		if !isPlain(name) || key <= before || name == strings.TrimSuffix(before, "/") {
			return false, nil
		}
		before = key
		switch string(mode) {
		case "40000":
			if ok, err := p.subfolder(prefix+key, oid); !ok || err != nil {
				return false, err
			}
		case "100644", "100755":
			if len(p.files) == plainFiles {
				return false, nil
			}
			p.files = append(p.files, plainFile{path: prefix + name, oid: oid, exec: string(mode) == "100755"})
		default: // a symbolic link, a submodule, or a mode of long ago
			return false, nil
		}
	}
	return true, nil
}

func (p *plainReader) subfolder(prefix, oid string) (ok bool, err error) {
	if p.trees++; p.trees > plainFiles || len(prefix) > 1024 {
		return false, nil
	}
	tree, err := p.objects([]string{oid}, maxObject)
	if err != nil {
		return false, err
	}
	return p.folder(prefix, tree[0])
}

// contents reads the files, if they are small enough together.
func (p *plainReader) contents() (ok bool, err error) {
	oids := make([]string, len(p.files))
	for i, f := range p.files {
		oids[i] = f.oid
	}
	data, err := p.objects(oids, plainBytes)
	if errors.Is(err, errTooBig) {
		return false, nil
	}
	for i := range data {
		p.files[i].data = data[i]
	}
	return err == nil, err
}

// objects reads several objects in one exchange, if they have no more than limit
// bytes together: else the error is errTooBig, and the reader stays usable.
func (r *reader) objects(names []string, limit int64) ([][]byte, error) {
	if err := r.ask("info", names); err != nil {
		return nil, err
	}
	var total int64
	for range names {
		_, size, err := r.header()
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errIncomplete // and no fs.ErrNotExist: what else was answered is unread
		}
		if err != nil {
			return nil, err
		}
		total += size
	}
	if total > limit {
		return nil, errTooBig
	}
	if err := r.ask("contents", names); err != nil {
		return nil, err
	}
	out := make([][]byte, len(names))
	for i := range names {
		_, size, err := r.header()
		if err != nil {
			return nil, err
		}
		if out[i], err = r.body(size); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// ask sends commands, no more than a pipe holds while git is stuck on its answers.
func (r *reader) ask(verb string, names []string) error {
	var b strings.Builder
	for _, name := range names {
		b.WriteString(verb + " " + name + "\n")
	}
	if b.Len() > 60<<10 {
		return fmt.Errorf("ask git cat-file: %d objects at once are too many", len(names))
	}
	_, err := io.WriteString(r.in, b.String())
	return err
}

// writePlain writes a plain tree and its index; ok is false where git has to.
func (w *workspace) writePlain(ctx context.Context) (ok bool, err error) {
	all, ok, err := w.mirror.plainTree(ctx, w.commit.SHA)
	if !ok || err != nil {
		return false, err
	}
	index := newIndex(len(all))
	made := ""
	for _, f := range all {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		path := filepath.Join(w.dir, filepath.FromSlash(f.path))
		if folder := filepath.Dir(path); folder != made && folder != w.dir {
			if err := os.MkdirAll(folder, 0o777); err != nil {
				return false, err
			}
			made = folder
		}
		stat, err := writeFile(path, f)
		if err != nil {
			return false, err
		}
		index.add(f, stat)
	}
	return true, os.WriteFile(filepath.Join(w.gitDir(), "index"), index.bytes(), 0o644)
}

// writeFile writes a new file with the mode that git would give it.
func writeFile(path string, of plainFile) (stat fileStat, err error) {
	mode := os.FileMode(0o666)
	if of.exec {
		mode = 0o777
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return stat, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(of.data); err != nil {
		return stat, err
	}
	info, err := f.Stat()
	if err != nil {
		return stat, err
	}
	return statOf(info), nil
}

// fileStat is what git's index remembers of a file, to see that it is unchanged.
type fileStat struct {
	ctimeSec, ctimeNsec, mtimeSec, mtimeNsec uint32
	dev, ino, uid, gid, size                 uint32
}

// index is git's, version 2, without extensions: see gitformat-index.
type index struct{ b []byte }

func newIndex(entries int) *index {
	b := append([]byte("DIRC"), 0, 0, 0, 2)
	return &index{binary.BigEndian.AppendUint32(b, uint32(entries))}
}

func (x *index) add(f plainFile, s fileStat) {
	begin := len(x.b)
	mode := uint32(0o100644)
	if f.exec {
		mode = 0o100755
	}
	for _, v := range []uint32{s.ctimeSec, s.ctimeNsec, s.mtimeSec, s.mtimeNsec, s.dev, s.ino, mode, s.uid, s.gid, s.size} {
		x.b = binary.BigEndian.AppendUint32(x.b, v)
	}
	oid, err := hex.DecodeString(f.oid)
	if err != nil {
		panic("checkout: an object ID that was made from bytes is none: " + f.oid)
	}
	x.b = append(x.b, oid...)
	x.b = binary.BigEndian.AppendUint16(x.b, uint16(min(len(f.path), 0xfff)))
	x.b = append(x.b, f.path...)
	for pad := 8 - (len(x.b)-begin)%8; pad > 0; pad-- { // one NUL at least
		x.b = append(x.b, 0)
	}
}

func (x *index) bytes() []byte {
	sum := sha1.Sum(x.b) //nolint:gosec // git's, as a checksum
	return append(x.b, sum[:]...)
}
