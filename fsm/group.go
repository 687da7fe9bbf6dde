package fsm

import (
	"encoding/binary"
	"iter"
	"slices"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/codepr/narwhal/pipeline"
)

// Group is the job's concurrency group; ok is false where it is in none.
func (j *Job) Group() (c *pipeline.Concurrency, ok bool) {
	if j.Spec == nil || j.Spec.Concurrency == nil {
		return nil, false
	}
	return j.Spec.Concurrency, true
}

// Slots are a concurrency group's places that are taken, as the state has it or
// as a round of placements would have it.
type Slots struct {
	Holders []JobID   // one a place: a job that lies on a node, or the first open job of a build that shares its place
	builds  []BuildID // those that share a place
}

// Admits reports whether j, which is of the group, may be placed beside who is
// there.
func (s *Slots) Admits(j *Job) bool {
	c, _ := j.Group()
	return len(s.Holders) < c.Limit || s.shares(j)
}

// Add counts j in.
func (s *Slots) Add(j *Job) {
	if s.shares(j) {
		return
	}
	s.Holders = append(s.Holders, j.ID)
	if c, _ := j.Group(); c.PerBuild {
		s.builds = append(s.builds, j.ID.Build)
	}
}

// shares reports whether j's build has its place already, for all of its jobs.
func (s *Slots) shares(j *Job) bool {
	c, _ := j.Group()
	return c.PerBuild && slices.Contains(s.builds, j.ID.Build)
}

// Slots counts who holds a place in a concurrency group.
func (s *State) Slots(group string) Slots {
	return slots(s.groups.Root(), group, s.builds.Get)
}

// slots goes over a group's open jobs. A build that shares a place holds it from
// the first placement of one of them until none is open.
func slots(groups *iradix.Node[*Job], group string, build func([]byte) (*Build, bool)) Slots {
	var s Slots
	for j := range inGroup(groups, group) {
		c, _ := j.Group()
		switch {
		case !c.PerBuild:
			if j.Status.Placed() {
				s.Holders = append(s.Holders, j.ID)
			}
		case slices.Contains(s.builds, j.ID.Build):
		default:
			if b, ok := build(j.ID.Build.key()); ok && slices.Contains(b.Entered, group) {
				s.Holders, s.builds = append(s.Holders, j.ID), append(s.builds, j.ID.Build)
			}
		}
	}
	return s
}

// Group yields the open jobs of a concurrency group, the oldest build's first.
func (s *State) Group(group string) iter.Seq[*Job] { return inGroup(s.groups.Root(), group) }

func inGroup(groups *iradix.Node[*Job], group string) iter.Seq[*Job] {
	return func(yield func(*Job) bool) {
		it := groups.Iterator()
		it.SeekPrefix(groupPrefix(group))
		eachJob(it, yield)
	}
}

// groupKey indexes a group's jobs. The name may hold any byte, so its length
// goes before it.
func groupKey(group string, id JobID) []byte { return append(groupPrefix(group), id.key()...) }

func groupPrefix(group string) []byte {
	k := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(group)+12), uint32(len(group)))
	return append(k, group...)
}
