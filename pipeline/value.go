package pipeline

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// units of memory and disk, in bytes.
var units = map[string]int64{
	"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
	"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40,
}

var (
	errCPU   = errors.New("expected a number of CPUs such as 2, 0.5 or 500m")
	errBytes = errors.New("expected a size such as 512Mi, 2Gi, 1G or a number of bytes")
	errTime  = errors.New("expected a time such as 90s, 20m, 1h30m or 1d")
)

// ParseCPU reads CPUs, such as "2", "0.5" or "500m", as milli-CPU.
func ParseCPU(s string) (int64, error) {
	var milli int64
	var err error
	if digits, ok := strings.CutSuffix(s, "m"); ok {
		milli, err = scaled(digits, 1)
	} else {
		milli, err = scaled(s, 1000)
	}
	if err != nil {
		return 0, errCPU
	}
	if milli < minCPU || milli > maxCPU {
		return 0, fmt.Errorf("must be from %dm to %d", minCPU, maxCPU/1000)
	}
	return milli, nil
}

// ParseSize reads a size, such as "512Mi" or "2G", as bytes.
func ParseSize(s string) (int64, error) {
	end := strings.LastIndexAny(s, "0123456789.") + 1
	unit, ok := units[s[end:]]
	if !ok {
		for _, u := range []string{"Ki", "Mi", "Gi", "Ti"} {
			if got := s[end:]; end > 0 && strings.EqualFold(got[:1], u[:1]) && len(got) <= 3 {
				return 0, fmt.Errorf("%w: did you mean %s%s?", errBytes, s[:min(end, 20)], u)
			}
		}
		return 0, errBytes
	}
	n, err := scaled(s[:end], unit)
	if err != nil {
		return 0, errBytes
	}
	if n < 1 || n > maxBytes {
		return 0, errors.New("must be from 1 byte to 1024Ti")
	}
	return n, nil
}

// parseMemory gives bytes.
func parseMemory(s string) (int64, error) {
	n, err := ParseSize(s)
	if err == nil && n < minMemory {
		return 0, fmt.Errorf("must be at least %s", size(minMemory))
	}
	return n, err
}

// scaled gives a decimal number times a unit, rounded down to a whole number.
func scaled(s string, unit int64) (int64, error) {
	whole, frac, dot := strings.Cut(s, ".")
	if len(s) > 32 || !digits(whole) || dot && (!digits(frac) || unit == 1) {
		return 0, strconv.ErrSyntax
	}
	n, ok := new(big.Rat).SetString(s)
	if !ok {
		return 0, strconv.ErrSyntax
	}
	n.Mul(n, new(big.Rat).SetInt64(unit))
	product := new(big.Int).Quo(n.Num(), n.Denom())
	if !product.IsInt64() {
		return math.MaxInt64, nil // above every limit
	}
	return product.Int64(), nil
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// parseTimeout reads the time that a job or step may take.
func parseTimeout(s string) (time.Duration, error) { return parseTime(s, maxTimeout) }

// timeUpTo gives a parser of times of at most so much.
func timeUpTo(most time.Duration) func(string) (time.Duration, error) {
	return func(s string) (time.Duration, error) { return parseTime(s, most) }
}

// parseTime reads a Go duration, which may begin with whole days.
func parseTime(s string, most time.Duration) (time.Duration, error) {
	rest := s
	var total time.Duration
	if days, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 32)
		if err != nil {
			return 0, errTime
		}
		total, rest = time.Duration(min(n, 100_000))*24*time.Hour, after
	}
	if rest != "" || s == "" {
		d, err := time.ParseDuration(rest)
		switch {
		case err != nil && digits(s):
			return 0, fmt.Errorf("%w: %s of what?", errTime, s[:min(len(s), 20)])
		case err != nil, total > 0 && (rest[0] == '-' || rest[0] == '+'):
			return 0, errTime
		}
		if d > most {
			d = most + 1
		}
		total += d
	}
	if total <= 0 {
		return 0, errors.New("must be more than 0")
	}
	switch {
	case total <= most:
		return total, nil
	case most >= 24*time.Hour:
		return 0, fmt.Errorf("must be at most %dd", most/(24*time.Hour))
	}
	return 0, fmt.Errorf("must be at most %s", most)
}

func isControl(c rune) bool { return unicode.IsControl(c) || c == '\u2028' || c == '\u2029' }

// matches says whether s is first, then up to most-1 characters of rest. Both
// are sets of ASCII classes: 'a' letters, '0' digits, the rest themselves.
func matches(s, first, rest string, most int) bool {
	if s == "" || len(s) > most || !inSet(s[0], first) {
		return false
	}
	for i := range len(s) {
		if !inSet(s[i], rest) {
			return false
		}
	}
	return true
}

func inSet(c byte, set string) bool {
	switch {
	case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
		return strings.IndexByte(set, 'a') >= 0
	case c >= '0' && c <= '9':
		return strings.IndexByte(set, '0') >= 0
	}
	return strings.IndexByte(set, c) >= 0
}

func isJobName(s string) bool  { return jobNames.fit(s, maxJobName) }
func isEnvName(s string) bool  { return variableNames.fit(s, 255) }
func isLabelKey(s string) bool { return labelNames.fit(s, 63) }

// isPackage keeps options (-y) and shell out of an installer's command line.
func isPackage(s string) bool { return matches(s, "a0@", "a0@+._:=~/-", maxPackage) }

// isHost says whether s can be a host name on a network: one label of it, in
// lower case, since resolvers differ on the rest.
func isHost(s string) bool {
	return matches(s, "a0", "a0-", 63) && s[len(s)-1] != '-' && s == strings.ToLower(s) && s != "localhost"
}

// isInside says whether a path, which may be a glob, stays in the workspace.
func isInside(path string) bool {
	if path == "" || path[0] == '/' || path[0] == '~' {
		return false
	}
	for part := range strings.SplitSeq(path, "/") {
		if part == ".." {
			return false
		}
	}
	return true
}
