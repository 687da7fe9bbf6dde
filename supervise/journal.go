package supervise

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// RecordKind tells the journal's records apart.
type RecordKind string

// The kinds.
const (
	RecordBegun   RecordKind = "begun"   // a process that had waited for its job was given it
	RecordStart   RecordKind = "start"   // a step is about to run: from here on it may have
	RecordProcess RecordKind = "process" // a step started a session of processes
	RecordWait    RecordKind = "wait"    // a step waits for a person
	RecordGo      RecordKind = "go"      // a person has decided on it
	RecordStep    RecordKind = "step"    // a step ended
	RecordStop    RecordKind = "stop"    // narwhal asked for the job's end
	RecordTold    RecordKind = "told"    // the supervisor was told to end the job, whoever that did
	RecordSaved   RecordKind = "saved"   // an archive is whole
	RecordEnd     RecordKind = "end"     // the job ended; the last one counts
)

// Record is a line of the journal.
type Record struct {
	Kind RecordKind `json:"kind"`
	At   time.Time  `json:"at"`
	Step int        `json:"step,omitempty"`
	// Pid leads the session; Start and Boot tell it from a later process with the
	// same number.
	Pid     int             `json:"pid,omitempty"`
	Start   uint64          `json:"start,omitempty"` // clock ticks since boot
	Boot    string          `json:"boot,omitempty"`
	Result  *fsm.StepResult `json:"result,omitempty"`
	Outcome *fsm.Outcome    `json:"outcome,omitempty"`
	Saved   *Saved          `json:"saved,omitempty"`
}

// Journal is appended to, a record a line, by one write each.
type Journal struct{ file *os.File }

// OpenJournal opens the journal at path, and makes it where there is none,
// writable by all for the same reason as a log.
func OpenJournal(path string) (*Journal, error) {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return &Journal{file}, nil
}

// Append adds a record.
func (j *Journal) Append(r Record) error {
	r.At = time.Now().UTC()
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("append to journal: %w", err)
	}
	// The job may have left half a line, which is not to swallow the record.
	if _, err := j.file.Write(slices.Concat([]byte{'\n'}, line, []byte{'\n'})); err != nil {
		return fmt.Errorf("append to journal: %w", err)
	}
	return nil
}

// Close closes it.
func (j *Journal) Close() error { return j.file.Close() }

// Note appends one record to the journal at path.
func Note(path string, r Record) error {
	j, err := OpenJournal(path)
	if err != nil {
		return err
	}
	return errors.Join(j.Append(r), j.Close())
}

// A job can write to its own journal: what is read is bounded, and what makes no
// sense is passed over. Of a journal that is longer than maxJournal its first part is
// read, and the last lastJournal bytes, which have room for the largest end: by then
// nothing of the job runs.
const (
	maxJournal  = 16 << 20
	lastJournal = 4 << 20
	// maxRecords is how many of the first are kept at least, and of the last: twice what
	// the largest job has.
	maxRecords = 32 << 10
	maxMessage = 4 << 10
	maxSteps   = 1000
)

// ReadJournal gives the records that are there; none where there is no journal.
func ReadJournal(path string) ([]Record, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	first, last := int64(maxJournal), int64(0)
	if info.Size() > maxJournal {
		first, last = maxJournal-lastJournal, lastJournal
	}
	var some someRecords
	err = some.read(io.LimitReader(file, first))
	if err == nil && last > 0 {
		err = some.read(io.NewSectionReader(file, info.Size()-last, last))
	}
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	return append(some.first, some.last...), nil
}

// someRecords are the first maxRecords of a journal, and the last.
type someRecords struct{ first, last []Record }

func (s *someRecords) read(from io.Reader) error {
	in := bufio.NewReader(from)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // what has no end was torn by a crash
		}
		if err != nil {
			return err
		}
		var r Record
		switch {
		case json.Unmarshal(bytes.TrimSpace(line), &r) != nil || !r.sound():
		case len(s.first) < maxRecords:
			s.first = append(s.first, r)
		default:
			if len(s.last) == 2*maxRecords {
				s.last = slices.Clone(s.last[maxRecords:])
			}
			s.last = append(s.last, r)
		}
	}
}

// BoundJournal leaves of a journal that is longer than what is read of it what tells of
// a job that has ended. It is for when nothing writes to it any more.
func BoundJournal(path string) error {
	info, err := os.Stat(path)
	if err != nil || info.Size() <= maxJournal {
		return nil
	}
	records, err := ReadJournal(path)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	for _, r := range lasting(records) {
		line, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("bound journal: %w", err)
		}
		text.Write(append(line, '\n'))
	}
	short := path + ".short"
	if err := errors.Join(os.WriteFile(short, text.Bytes(), 0o666), os.Rename(short, path)); err != nil {
		return fmt.Errorf("bound journal: %w", err)
	}
	return nil
}

// lasting are the records that tell what became of a job, of each kind no more than it
// can have had: the last ones.
func lasting(records []Record) (kept []Record) {
	count := make(map[RecordKind]int)
	for _, r := range slices.Backward(records) {
		if r.Kind != RecordProcess && count[r.Kind] < maxSteps {
			count[r.Kind]++
			kept = append(kept, r)
		}
	}
	slices.Reverse(kept)
	return kept
}

// Outcome gives what the last end record says; ok is false where there is none.
func Outcome(records []Record) (o fsm.Outcome, ok bool) {
	for i := len(records) - 1; i >= 0; i-- {
		if r := records[i]; r.Kind == RecordEnd {
			return *r.Outcome, true
		}
	}
	return fsm.Outcome{}, false
}

// Has reports whether a record of the kind is there.
func Has(records []Record, kind RecordKind) bool {
	for _, r := range records {
		if r.Kind == kind {
			return true
		}
	}
	return false
}

// sound brings a record within bounds, and reports whether it makes sense.
func (r *Record) sound() bool {
	switch r.Kind {
	case RecordBegun, RecordStart, RecordProcess, RecordStop, RecordTold, RecordWait, RecordGo:
		return true
	case RecordStep:
		return r.Result != nil && soundStep(r.Result)
	case RecordSaved:
		return r.Saved != nil && r.Saved.Files >= 0 && r.Saved.Bytes >= 0 && len(r.Saved.Key) <= maxMessage
	case RecordEnd:
		return r.Outcome != nil && soundOutcome(r.Outcome)
	default:
		return false
	}
}

func soundOutcome(o *fsm.Outcome) bool {
	// A job that runs steps brings no jobs, and which blobs are its own is not for
	// it to say.
	o.Plan, o.Packed, o.Artifacts, o.Tests = nil, nil, nil, nil
	o.Message = clip(o.Message)
	o.PeakMemory, o.CPUTime = max(o.PeakMemory, 0), max(o.CPUTime, 0)
	if len(o.Steps) > maxSteps {
		return false
	}
	for i := range o.Steps {
		if !soundStep(&o.Steps[i]) {
			return false
		}
	}
	return soundEnd(o.Status, o.Cause)
}

// soundEnd reports whether a job can come to such an end, by its steps or by what the
// executor says of its containers. Others' words, such as that it was replaced, are
// not for it to use, and what is no word at all is for nobody.
func soundEnd(status fsm.Status, cause fsm.Cause) bool {
	switch status {
	case fsm.Passed:
		return cause == ""
	case fsm.Failed, fsm.Errored, fsm.Canceled:
		return slices.Contains(ends, cause)
	default:
		return false
	}
}

var ends = []fsm.Cause{"", fsm.CauseFailure, fsm.CauseTimeout, fsm.CauseOOM, fsm.CauseCanceled,
	fsm.CauseConfig, fsm.CauseRejected, fsm.CauseNodeLost}

func soundStep(s *fsm.StepResult) bool {
	s.Name = clip(s.Name)
	s.PeakMemory, s.CPUTime, s.Tries = max(s.PeakMemory, 0), max(s.CPUTime, 0), max(s.Tries, 0)
	noImage := s.Status == fsm.Errored && s.Cause == fsm.CauseImagePull // a job of which that is said has no journal
	return s.Status == fsm.Skipped && s.Cause == "" || noImage || soundEnd(s.Status, s.Cause)
}

func clip(text string) string {
	if len(text) > maxMessage {
		text = text[:maxMessage]
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
