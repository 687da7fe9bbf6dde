package fsm

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/codepr/narwhal/pipeline"
)

// snapshotVersion is the first item of a snapshot. Older ones stay readable:
// version 1 had no secrets, caches and schedules, version 2 no timelines and audit log,
// version 3 no remotes and heads.
const snapshotVersion = 4

// head is a snapshot's first item; the counts say how many items of each kind
// follow, in the order of the fields.
type head struct {
	Version   uint      `json:"version"`
	Index     uint64    `json:"index"`
	Now       time.Time `json:"now"`
	Epoch     uint64    `json:"epoch"`
	History   int       `json:"history"`
	NextBuild BuildID   `json:"next_build"`
	NextEvent uint64    `json:"next_event"`
	Dropped   uint64    `json:"dropped"`
	Sinks     SetSinks  `json:"sinks"`
	Nodes     int       `json:"nodes"`
	Builds    int       `json:"builds"`
	Jobs      int       `json:"jobs"`
	Outbox    int       `json:"outbox"`

	Secrets   int `json:"secrets,omitempty"`
	Caches    int `json:"caches,omitempty"`
	Schedules int `json:"schedules,omitempty"`

	Timelines int    `json:"timelines,omitempty"`
	Deeds     int    `json:"deeds,omitempty"`
	NextDeed  uint64 `json:"next_deed,omitempty"`

	Remotes int `json:"remotes,omitempty"`
	Heads   int `json:"heads,omitempty"`

	StateVersion uint `json:"state_version,omitempty"`
}

// written is the oldest version of a snapshot that can say all that the state has: nodes
// of before take it, as long as the state is theirs. What is newer comes with a
// State.Version of its own.
func (s *State) written() (version, stateVersion uint) {
	if s.version < 2 {
		return 3, 0
	}
	return snapshotVersion, s.version
}

// WriteTo streams the state as a snapshot: a head, then nodes, builds,
// jobs, the outbox, secrets, caches, schedules, timelines, the audit log, remotes and heads, one CBOR item each.
// Indexes are left out; Restore makes them.
func (s *State) WriteTo(w io.Writer) (int64, error) {
	cw := &countingWriter{w: w}
	enc := encMode.NewEncoder(cw)
	version, stateVersion := s.written()
	err := enc.Encode(head{
		Version: version, StateVersion: stateVersion, Index: s.index, Now: s.now, Epoch: s.epoch, History: s.history,
		NextBuild: s.nextBuild, NextEvent: s.nextEvent, Dropped: s.dropped, Sinks: s.sinks,
		Nodes: s.nodes.Len(), Builds: s.builds.Len(), Jobs: s.jobs.Len(), Outbox: s.outbox.Len(),
		Secrets: s.secrets.Len(), Caches: s.caches.Len(), Schedules: s.schedules.Len(),
		Timelines: s.timelines.Len(), Deeds: s.deeds.Len(), NextDeed: s.nextDeed,
		Remotes: s.remotes.Len(), Heads: s.heads.Len(),
	})
	if err == nil {
		err = writeTree(enc.Encode, s.nodes)
	}
	if err == nil {
		err = writeTree(enc.Encode, s.builds)
	}
	if err == nil {
		err = writeTree(enc.Encode, s.jobs)
	}
	if err == nil {
		err = writeTree(enc.Encode, s.outbox)
	}
	if err == nil {
		err = writeTree(enc.Encode, s.secrets)
	}
	if err == nil {
		err = writeTree(enc.Encode, s.caches)
	}
	if err == nil {
		err = writeTree(enc.Encode, s.schedules)
	}
	if err == nil {
		err = writeTree(enc.Encode, s.timelines)
	}
	if err == nil {
		err = writeTree(enc.Encode, s.deeds)
	}
	if err == nil {
		err = writeTree(enc.Encode, s.remotes)
	}
	if err == nil {
		err = writeTree(enc.Encode, s.heads)
	}
	if err != nil {
		return cw.n, fmt.Errorf("write snapshot: %w", err)
	}
	return cw.n, nil
}

func writeTree[T any](encode func(any) error, tree *iradix.Tree[T]) error {
	it := tree.Root().Iterator()
	for _, v, ok := it.Next(); ok; _, v, ok = it.Next() {
		if err := encode(v); err != nil {
			return err
		}
	}
	return nil
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// Restore reads what WriteTo wrote and makes the indexes anew.
func Restore(r io.Reader) (*State, error) {
	dec := decMode.NewDecoder(r)
	var h head
	if err := dec.Decode(&h); err != nil {
		return nil, fmt.Errorf("read snapshot head: %w", err)
	}
	if h.Version < 1 || h.Version > snapshotVersion {
		return nil, fmt.Errorf("%w (snapshot version %d, this node reads up to %d)", ErrUpgrade, h.Version, snapshotVersion)
	}
	tx := begin(New(), h.Index)
	tx.now, tx.epoch, tx.history = h.Now, h.Epoch, h.History
	tx.nextBuild, tx.nextEvent, tx.dropped, tx.sinks = h.NextBuild, h.NextEvent, h.Dropped, h.Sinks
	tx.nextDeed = max(h.NextDeed, 1)
	tx.version = max(h.StateVersion, 1)
	if err := tx.readAll(dec.Decode, &h); err != nil {
		return nil, fmt.Errorf("read snapshot at index %d: %w", h.Index, err)
	}
	return tx.commit(), nil
}

func (tx *txn) readAll(decode func(any) error, h *head) error {
	err := readItems(decode, h.Nodes, func(n *Node) { tx.nodes.Insert([]byte(n.ID), n) })
	if err == nil {
		err = readItems(decode, h.Builds, func(b *Build) {
			tx.putBuild(b)
			tx.indexBuild(b)
		})
	}
	if err == nil {
		var before *pipeline.Job
		err = readItems(decode, h.Jobs, func(j *Job) { // in the order of their plans
			share(j.Spec, before)
			before = j.Spec
			tx.putJob(j)
		})
	}
	if err == nil {
		err = readItems(decode, h.Outbox, tx.putTransition)
	}
	if err == nil {
		err = readItems(decode, h.Secrets, func(s *Secret) { tx.secrets.Insert(nameKey(s.Repo, s.Name), s) })
	}
	if err == nil {
		err = readItems(decode, h.Caches, tx.putCache)
	}
	if err == nil {
		err = readItems(decode, h.Schedules, func(s *Schedule) {
			tx.schedules.Insert(scheduleKey(s.Repo, s.Branch, &s.Spec), s)
		})
	}
	if err == nil {
		err = readItems(decode, h.Timelines, func(t *timeline) { tx.timelines.Insert(t.Build.key(), t) })
	}
	if err == nil {
		err = readItems(decode, h.Deeds, func(d *Deed) { tx.deeds.Insert(seqKey(d.Seq), d) })
	}
	if err == nil {
		err = readItems(decode, h.Remotes, func(r *Remote) {
			tx.remotes.Insert(nameKey(r.Repo), r)
			tx.remoteCount++
		})
	}
	if err == nil {
		err = readItems(decode, h.Heads, func(h *Head) {
			tx.heads.Insert(nameKey(h.Repo, h.Ref), h)
			tx.headCount++
		})
	}
	return err
}

func readItems[T any](decode func(any) error, n int, take func(*T)) error {
	for range n {
		v := new(T)
		if err := decode(v); err != nil {
			return err
		}
		take(v)
	}
	return nil
}

// Hash is the SHA-256 of the state's snapshot: equal on all nodes at an equal
// index.
func (s *State) Hash() (string, error) {
	h := sha256.New()
	if _, err := s.WriteTo(h); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
