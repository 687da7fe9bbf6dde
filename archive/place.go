package archive

import (
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Places are the folders that an archive's names are taken from, as absolute
// paths of this machine.
type Places struct {
	Root string // of relative names: the workspace
	Home string // of ~; empty where there is none
}

// place is a path or pattern, split where wildcards may begin.
type place struct {
	prefix  string // of its entries' names: "", "~/.m2/" or "/go/pkg/"
	dir     string // what prefix stands for on this machine; may be reached through links
	pattern string // below dir, with slashes
}

// locate finds the place of a path as a file of ours has it.
func (p Places) locate(name string) (place, error) {
	if name == "" || strings.ContainsRune(name, 0) {
		return place{}, fmt.Errorf("%w: %q", ErrPath, name)
	}
	if !doublestar.ValidatePattern(name) {
		return place{}, fmt.Errorf("%w: %q is no pattern: look at its brackets", ErrPath, name)
	}
	rest, ofHome := strings.CutPrefix(name, "~/")
	switch {
	case name == "~":
		rest, ofHome = ".", true
	case path.IsAbs(name):
		if rest = strings.TrimPrefix(path.Clean(name), "/"); rest == "" {
			return place{}, fmt.Errorf("%w: %q is everything there is", ErrPath, name)
		}
		return split("/", "/", rest), nil
	default:
		rest = path.Clean(rest)
	}
	if rest == ".." || strings.HasPrefix(rest, "../") || path.IsAbs(rest) {
		return place{}, fmt.Errorf("%w: %q leads out", ErrPath, name)
	}
	if !ofHome {
		return place{dir: p.Root, pattern: rest}, nil
	}
	if p.Home == "" {
		return place{}, fmt.Errorf("%w: %q: there is no home directory here", ErrPath, name)
	}
	return split("~/", p.Home, rest), nil
}

// split moves what has no wildcards into the place's folder, all but its last part.
func split(prefix, dir, rest string) place {
	base, pattern := doublestar.SplitPattern(rest)
	if base == "." {
		return place{prefix: prefix, dir: dir, pattern: pattern}
	}
	return place{prefix: prefix + base + "/", dir: filepath.Join(dir, filepath.FromSlash(base)), pattern: pattern}
}

// entryName is the name in the archive of what lies at rel below the place.
func (p place) entryName(rel string) string {
	switch {
	case rel == "." && p.prefix != "":
		return strings.TrimSuffix(p.prefix, "/")
	case p.prefix == "" && (rel == "~" || strings.HasPrefix(rel, "~/")):
		return "./" + rel
	}
	return p.prefix + rel
}

// find gives the path below the place of the entry name; ok is false where the
// place has no such entry.
func (p place) find(name string) (rel string, ok bool) {
	if p.prefix == "" {
		name, ok = workspaceName(name)
		return name, ok && p.holds(name)
	}
	if name+"/" == p.prefix {
		rel = "."
	} else if rel, ok = strings.CutPrefix(name, p.prefix); !ok || !fs.ValidPath(rel) {
		return "", false
	}
	return rel, p.holds(rel)
}

// workspaceName gives the path below the workspace of an entry that is there.
func workspaceName(name string) (rel string, ok bool) {
	if name == "~" || strings.HasPrefix(name, "~/") {
		return "", false
	}
	rel = strings.TrimPrefix(name, "./")
	return rel, fs.ValidPath(rel) && !strings.ContainsRune(rel, 0)
}

// holds reports whether rel is what the pattern names, or lies in it.
func (p place) holds(rel string) bool {
	if p.pattern == "." {
		return true
	}
	if !hasMeta(p.pattern) {
		return rel == p.pattern || strings.HasPrefix(rel, p.pattern+"/")
	}
	for {
		if doublestar.MatchUnvalidated(p.pattern, rel) {
			return true
		}
		if rel == "." {
			return false
		}
		rel = path.Dir(rel)
	}
}

func hasMeta(pattern string) bool { return strings.ContainsAny(pattern, `*?[{\`) }
