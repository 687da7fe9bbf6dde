package executor

import (
	"fmt"
	"strconv"

	"github.com/codepr/narwhal/fsm"
)

// The labels of everything that narwhal makes in an engine.
const (
	labelCluster = "narwhal.cluster"
	labelNode    = "narwhal.node"
	labelBuild   = "narwhal.build"
	labelJob     = "narwhal.job"
	labelAttempt = "narwhal.attempt"
	labelToken   = "narwhal.token"
)

func labels(t Task) map[string]string {
	return map[string]string{
		labelCluster: t.Cluster,
		labelNode:    string(t.Node),
		labelBuild:   strconv.FormatUint(uint64(t.Ref.Job.Build), 10),
		labelJob:     t.Ref.Job.String(),
		labelAttempt: strconv.Itoa(t.Ref.N),
		labelToken:   t.Ref.Token.String(),
	}
}

// parseRef reads an attempt from how labels and environments write it.
func parseRef(job, n, token string) (fsm.AttemptRef, error) {
	var ref fsm.AttemptRef
	id, err := fsm.ParseJobID(job)
	if err != nil {
		return ref, err
	}
	number, err := strconv.Atoi(n)
	if err != nil {
		return ref, fmt.Errorf("attempt %q: %w", n, err)
	}
	if err := ref.Token.UnmarshalText([]byte(token)); err != nil {
		return ref, err
	}
	ref.Job, ref.N = id, number
	return ref, nil
}
