package fsm

import (
	"cmp"
	"hash/fnv"
	"slices"
)

// Rank orders nodes for a key, each key in an order of its own, so that what the keys
// stand for is spread over them, and moves little when one comes or goes: rendezvous
// hashing (Thaler and Ravishankar, 1998).
func Rank(key string, nodes []NodeID) []NodeID {
	weights := make(map[NodeID]uint64, len(nodes))
	for _, id := range nodes {
		h := fnv.New64a()
		_, _ = h.Write([]byte(key + string(id))) // never fails
		weights[id] = h.Sum64()
	}
	return slices.SortedFunc(slices.Values(nodes), func(a, b NodeID) int {
		return cmp.Or(cmp.Compare(weights[b], weights[a]), cmp.Compare(a, b))
	})
}

// LogKey is what the nodes that may have a copy of an attempt's log are ranked by.
func LogKey(job JobID, attempt int) string { return AttemptRef{Job: job, N: attempt}.String() }
