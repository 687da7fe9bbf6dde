package mend

import (
	"slices"
	"time"

	"github.com/codepr/narwhal/fsm"
)

// copies is how many nodes are to hold each blob, where there are as many.
const copies = 2

// Sight is who is there.
type Sight struct {
	Alive []fsm.NodeID
	// Away says since when a node that is said to hold something is not there. One that
	// has left for good is in neither.
	Away map[fsm.NodeID]time.Time
	// Bucket is where blobs belong besides those that people pushed; empty for none. Then
	// Uploaders are those of Alive that can put them there now.
	Bucket    fsm.NodeID
	Uploaders []fsm.NodeID
	// Lacking are nodes that have been asked for what they are said to hold, and have it
	// no more.
	Lacking map[Lack]bool
}

// Lack is a blob that a node does not have any more.
type Lack struct {
	Ref    fsm.BlobRef
	Digest string
	Node   fsm.NodeID
}

// absent are the holders that are not among those who are there.
func absent(s *fsm.State, alive []fsm.NodeID) map[fsm.NodeID]bool {
	out := make(map[fsm.NodeID]bool)
	for _, b := range s.Blobs() {
		for _, id := range b.Holders {
			if !id.IsBucket() && !slices.Contains(alive, id) {
				out[id] = true
			}
		}
	}
	return out
}

// Task is one copy to be made.
type Task struct {
	Ref      fsm.BlobRef
	Blob     fsm.Blob
	From, To fsm.NodeID
	have     []fsm.NodeID // those that are there, From among them
}

// Holders are who has the blob once the task is done. What is in the bucket needs no
// second node: the one that gave it may drop it.
func (t *Task) Holders() []fsm.NodeID {
	if t.To.IsBucket() {
		return []fsm.NodeID{t.From, t.To}
	}
	return append(slices.Clone(t.have), t.To)
}

// Plan lists the copies that are missing now: of blobs that somebody who is there
// holds, and too few others. A holder that has been away for less than patience counts:
// it may come back with what it has. What nobody has who is there can't be helped. What
// is on nodes and belongs in the bucket is to be put there; while nobody can, it is kept
// on nodes as if there were none.
func Plan(s *fsm.State, see Sight, patience time.Duration, now time.Time) []Task {
	want := min(copies, len(see.Alive))
	alive := make(map[fsm.NodeID]bool, len(see.Alive))
	for _, id := range see.Alive {
		alive[id] = true
	}
	var tasks []Task
	for ref, b := range s.Blobs() {
		var here []fsm.NodeID
		have := 0
		for _, id := range b.Holders {
			since, away := see.Away[id]
			switch {
			case see.Lacking[Lack{ref, b.Digest, id}]:
			case alive[id]:
				here = append(here, id)
				have++
			case away && now.Sub(since) < patience:
				have++
			}
		}
		if len(here) == 0 {
			continue
		}
		if see.Bucket != "" && ref.Kind != fsm.BlobBundle && !slices.Contains(b.Holders, see.Bucket) {
			if from, ok := uploader(here, see.Uploaders); ok {
				tasks = append(tasks, Task{Ref: ref, Blob: b, From: from, To: see.Bucket, have: here})
				continue
			}
		}
		if have >= want || slices.ContainsFunc(b.Holders, fsm.NodeID.IsBucket) {
			continue
		}
		others := slices.DeleteFunc(slices.Clone(see.Alive), func(id fsm.NodeID) bool { return slices.Contains(here, id) })
		tasks = append(tasks, Task{Ref: ref, Blob: b, From: here[0], To: fsm.Rank(b.Digest, others)[0], have: here})
	}
	return tasks
}

// uploader is the first of those that hold a blob that can put it into the bucket.
func uploader(here, uploaders []fsm.NodeID) (fsm.NodeID, bool) {
	i := slices.IndexFunc(here, func(id fsm.NodeID) bool { return slices.Contains(uploaders, id) })
	if i < 0 {
		return "", false
	}
	return here[i], true
}
