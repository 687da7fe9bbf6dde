package pipeline

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"github.com/klauspost/compress/zstd"
)

const (
	// MaxWritten is the most bytes that a plan may have as CBOR, with matrices and
	// the top's defaults written out: every node keeps it in memory.
	MaxWritten = 8 << 20
	// MaxPacked is the most bytes that it may have packed: it travels as one entry
	// of the replicated log, which takes 256 KiB.
	MaxPacked = 224 << 10
)

// room is what Read keeps of both for commits: it measures the plan of an example,
// and names and inputs of real ones may be longer.
func room(most int) int { return most - most/8 }

// Written encodes a plan: equal ones have equal bytes.
func (p Pipeline) Written() ([]byte, error) {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, fmt.Errorf("set up cbor: %w", err)
	}
	data, err := mode.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode plan: %w", err)
	}
	return data, nil
}

// Pack compresses a plan: the jobs of a matrix are all but the same.
func (p Pipeline) Pack() ([]byte, error) {
	data, err := p.Written()
	if err != nil {
		return nil, err
	}
	return squeeze(data)
}

// Plans that Read or Plan refuse by their size alone.
const (
	tooMuch  = "with the top's defaults and matrices written out the jobs have %d bytes, this one most of them: at most %d are allowed"
	tooDense = "packed for the cluster's log the jobs have %d bytes, and this one is the largest: at most %d are allowed; " +
		"keep what is long in files of the repository, and run these"
)

// measured sees that a plan stays within the limits: most is what becomes of each.
func (r *reader) measured(f *File, p Pipeline, most func(int) int) {
	written, err := p.Written()
	size := len(written)
	message, limit := tooMuch, most(MaxWritten)
	if err == nil && size <= limit && size > most(MaxPacked) {
		var packed []byte
		packed, err = squeeze(written)
		size, message, limit = len(packed), tooDense, most(MaxPacked)
	}
	switch {
	case err != nil:
		r.errorf(f.jobs[0].entry.at, "%v", err)
	case size > limit:
		r.errorf(f.heaviest(p, message == tooDense).entry.at, message, size, limit)
	}
}

// heaviest is the job with the most bytes: with all that its matrix makes, or of one.
func (f *File) heaviest(p Pipeline, one bool) *body {
	heaviest, most, at := f.jobs[0], 0, 0
	for _, b := range f.jobs {
		sum := 0
		for i := range b.instances {
			written, _ := Pipeline{Jobs: p.Jobs[at+i : at+i+1]}.Written() // which p was too
			if sum += len(written); one {
				sum = len(written)
			}
		}
		if at += len(b.instances); sum > most {
			heaviest, most = b, sum
		}
	}
	return heaviest
}

func squeeze(data []byte) ([]byte, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		return nil, fmt.Errorf("set up zstd: %w", err)
	}
	return enc.EncodeAll(data, nil), nil
}

// Unpack reads what Pack made. It takes no more than MaxWritten, whatever the bytes
// are, and knows every field, or fails with a cbor.UnknownFieldError.
func Unpack(packed []byte) (*Pipeline, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxWritten))
	if err != nil {
		return nil, fmt.Errorf("set up zstd: %w", err)
	}
	defer dec.Close()
	data, err := dec.DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("unpack plan: %w", err)
	}
	mode, err := cbor.DecOptions{ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, DupMapKey: cbor.DupMapKeyEnforcedAPF}.DecMode()
	if err != nil {
		return nil, fmt.Errorf("set up cbor: %w", err)
	}
	p := new(Pipeline)
	if err := mode.Unmarshal(data, p); err != nil {
		return nil, fmt.Errorf("decode plan: %w", err)
	}
	return p, nil
}
