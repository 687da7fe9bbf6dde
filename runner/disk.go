package runner

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/codepr/narwhal/pipeline"
)

// Mark is a level of a file system: a share of it that is in use or, where Percent
// is 0, bytes that are free.
type Mark struct {
	Percent int
	Free    int64
}

// ParseMark reads a mark as operators write it: 85%, or the size that is free, such
// as 20Gi.
func ParseMark(text string) (Mark, error) {
	if share, ok := strings.CutSuffix(text, "%"); ok {
		n, err := strconv.Atoi(share)
		if err != nil || n < 1 || n > 99 {
			return Mark{}, fmt.Errorf("want a share in use from 1%% to 99%%, or a size that stays free")
		}
		return Mark{Percent: n}, nil
	}
	size, err := pipeline.ParseSize(text)
	if err == nil && size <= 0 {
		err = fmt.Errorf("want more than 0")
	}
	return Mark{Free: size}, err
}

// String says it in words.
func (m Mark) String() string {
	if m.Percent > 0 {
		return fmt.Sprintf("%d%% in use", m.Percent)
	}
	return fmt.Sprintf("%s free", bytesText(m.Free))
}

// used is how many bytes of a file system are in use at the mark.
func (m Mark) used(size int64) int64 {
	if m.Percent > 0 {
		return size / 100 * int64(m.Percent)
	}
	return max(0, size-m.Free)
}

// Marks say when a disk is cleared. The zero value leaves it alone.
type Marks struct {
	High Mark // above it what was least recently used goes …
	Low  Mark // … until no more than this is in use
}

// Validate says whether the two contradict each other, as far as can be told without
// a disk.
func (m Marks) Validate() error {
	if m.High.Percent > 0 && m.Low.Percent > 0 && m.Low.Percent >= m.High.Percent ||
		m.High.Percent == 0 && m.Low.Percent == 0 && m.Low.Free < m.High.Free {
		return fmt.Errorf("the low mark of the disk (%s) must leave more free than the high one (%s)", m.Low, m.High)
	}
	return nil
}

func (m Marks) on() bool { return m != Marks{} }

// level is how full a file system is, in bytes.
type level struct{ size, used int64 }

func (l level) String() string {
	return fmt.Sprintf("%d%% of %s", l.used*100/max(1, l.size), bytesText(l.size))
}

// strain is what is known of a disk besides its level.
type strain struct {
	full  bool // it was, when last looked at
	idle  bool // no attempt is alive on this node
	tried bool // what could go has gone
}

// assess says how many bytes are to be made free, and whether the node takes no jobs.
//
// A disk is full when it is above the high mark with nothing more to remove, and at
// once where two thirds of what is above that mark are used too. It ends at the low
// mark, so that one job more does not fill it again; between the marks it ends with
// the last job here, since nothing else would bring it any lower.
func assess(l level, m Marks, s strain) (free int64, full bool) {
	high := m.High.used(l.size)
	low := min(high, m.Low.used(l.size))
	switch {
	case !m.on() || l.used <= low:
		return 0, false
	case l.used > high:
		full = s.full || s.tried || l.used > high+(l.size-high)*2/3
	default:
		full = s.full && !(s.tried && s.idle)
	}
	if l.used > high || s.full {
		free = l.used - low
	}
	if s.tried {
		free = 0
	}
	return free, full
}

// Kept is one thing that a shelf has and that may go.
type Kept struct {
	Bytes int64 // 0 where its size is not known
	Used  time.Time
}

// share divides what is to be freed among shelves, so that over all of them what
// was least recently used goes first. Where that is of unknown size it goes alone,
// as one byte: how much is left to do is seen then.
func share(shelves [][]Kept, free int64) []int64 {
	type item struct {
		Kept
		shelf int
	}
	var all []item
	for i, list := range shelves {
		for _, k := range list {
			all = append(all, item{k, i})
		}
	}
	slices.SortStableFunc(all, func(a, b item) int { return cmp.Or(a.Used.Compare(b.Used), a.shelf-b.shelf) })
	shares := make([]int64, len(shelves))
	for i, k := range all {
		if free <= 0 || k.Bytes == 0 && i > 0 {
			break
		}
		shares[k.shelf] += max(1, k.Bytes)
		free -= k.Bytes
		if k.Bytes == 0 {
			break
		}
	}
	return shares
}

// bytesText says a number of bytes as people would.
func bytesText(n int64) string {
	for _, unit := range []struct {
		bytes int64
		name  string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= unit.bytes {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(unit.bytes), unit.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
