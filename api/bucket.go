package api

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// NodeBucket is a node's bucket as it tells by gossip.
type NodeBucket struct {
	ID      string `json:"id" doc:"As the bucket's own mark says"`
	Down    bool   `json:"down,omitempty" doc:"The node can't use it now"`
	Waiting int    `json:"waiting,omitempty" doc:"How many blobs stay on the node until they are there; more than 1,000 are told as 1,000"`
}

// BucketHealth is how the bucket stands, as the node that answers sees it.
type BucketHealth struct {
	URL   string    `json:"url" doc:"Without its query"`
	ID    string    `json:"id" doc:"As the bucket's own mark says"`
	Error string    `json:"error,omitempty" doc:"Why it can't be used now"`
	Since time.Time `json:"since,omitzero" doc:"When that began"`
}

// disagreement says in words which nodes that are there have which bucket, where it is
// not the same one; empty where it is.
func disagreement(members []Member) string {
	with := make(map[string][]string)
	for _, m := range members {
		if !m.Alive {
			continue
		}
		id := ""
		if m.Bucket != nil {
			id = m.Bucket.ID
		}
		with[id] = append(with[id], cmp.Or(m.Name, string(m.ID)))
	}
	if len(with) < 2 {
		return ""
	}
	var parts []string
	for _, id := range slices.Sorted(maps.Keys(with)) {
		names := strings.Join(slices.Sorted(slices.Values(with[id])), ", ")
		if id == "" {
			parts = append(parts, names+" without one")
			continue
		}
		parts = append(parts, fmt.Sprintf("%s with %s", names, id))
	}
	return "the nodes don't have the same bucket: " + strings.Join(parts, "; ") + ": start all with the same --blob-bucket"
}
