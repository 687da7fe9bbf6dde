// Package joblog owns the log of an attempt: a file of one record a line,
//
//	<RFC 3339 time with milliseconds>\t<step index>\t<text>\n
//
// that is only ever appended to, so an offset in bytes names a place in it for
// ever and a follower resumes at one. It doesn't own where the file lies, how
// long it is kept, or how it travels to another node.
//
// Invariant: a record is written whole by one write to a file opened for
// appending, so several writers, in one process or several, never mix their
// records. What a reader is given is valid UTF-8 and at most MaxLine bytes long,
// whatever is in the file: a job may write to its own log.
//
// Start reading at Writer; Follow is the other end.
package joblog

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// MaxLine is where a line of output is cut, in bytes. What is left of it makes
// the next record.
const MaxLine = 64 << 10

// Narwhal is the step index of narwhal's own words.
const Narwhal = -1

const (
	timeLayout = "2006-01-02T15:04:05.000Z07:00"
	maxRecord  = MaxLine + len(timeLayout) + 16
	maxSeen    = 1 << 20 // where a reader ends a record that has no end
)

// Line is a record of the log.
type Line struct {
	Time   time.Time `json:"time"`   // zero where the record has none
	Step   int       `json:"step"`   // from 0; Narwhal for narwhal's own words
	Text   string    `json:"text"`   // valid UTF-8 without a line feed
	Offset int64     `json:"offset"` // the byte after this record: where to resume
}

// parse reads a record without its line feed. What is none, because the job
// wrote to its log behind our back, is shown as it stands.
func parse(record []byte) Line {
	stamp, rest, ok := bytes.Cut(record, []byte{'\t'})
	index, text, ok2 := bytes.Cut(rest, []byte{'\t'})
	at, errTime := time.Parse(timeLayout, string(stamp))
	step, errStep := strconv.Atoi(string(index))
	if !ok || !ok2 || errTime != nil || errStep != nil || step < Narwhal {
		return Line{Step: Narwhal, Text: valid(record)}
	}
	return Line{Time: at, Step: step, Text: valid(text)}
}

func valid(text []byte) string {
	if len(text) > MaxLine {
		text = text[:runeStart(text, MaxLine)]
	}
	return strings.ToValidUTF8(string(text), "\uFFFD")
}
