package executor

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/filters"

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
	labelRole    = "narwhal.role"
	labelName    = "narwhal.name" // a service's or a satellite's
	labelSlot    = "narwhal.slot" // of what was made ahead, which has none of an attempt's labels
)

// The roles.
const (
	roleJob       = "job"
	roleService   = "service"
	roleSatellite = "satellite" // runs the steps that have an image of their own
	roleNetwork   = "network"   // of one attempt
	roleNode      = "node"      // the network of all attempts that have none
	roleVolume    = "volume"
	roleWarm      = "warm" // the container that a job may get; then it has the attempt's name
)

func labels(t Task, role, name string) map[string]string {
	l := map[string]string{
		labelCluster: t.Cluster,
		labelNode:    string(t.Node),
		labelBuild:   strconv.FormatUint(uint64(t.Ref.Job.Build), 10),
		labelJob:     t.Ref.Job.String(),
		labelAttempt: strconv.Itoa(t.Ref.N),
		labelToken:   t.Ref.Token.String(),
		labelRole:    role,
	}
	if name != "" {
		l[labelName] = name
	}
	return l
}

// ours matches what has this cluster's and node's labels.
func (d *Docker) ours() filters.Args {
	return filters.NewArgs(
		filters.Arg("label", labelCluster+"="+d.cfg.Cluster),
		filters.Arg("label", labelNode+"="+string(d.cfg.Node)),
	)
}

// of matches what belongs to the attempt.
func (d *Docker) of(ref fsm.AttemptRef) filters.Args {
	args := d.ours()
	args.Add("label", labelJob+"="+ref.Job.String())
	args.Add("label", labelAttempt+"="+strconv.Itoa(ref.N))
	args.Add("label", labelToken+"="+ref.Token.String())
	return args
}

// refOf reads whose a labelled thing is.
func refOf(labels map[string]string) (fsm.AttemptRef, error) {
	return parseRef(labels[labelJob], labels[labelAttempt], labels[labelToken])
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

// refName is a file's or folder's name that is the attempt's alone.
func refName(ref fsm.AttemptRef) string { return fmt.Sprintf("%s_%d_%s", ref.Job, ref.N, ref.Token) }

// parseRefName reads what refName wrote.
func parseRefName(name string) (fsm.AttemptRef, error) {
	parts := strings.Split(name, "_")
	if len(parts) != 3 {
		return fsm.AttemptRef{}, fmt.Errorf("%q names no attempt", name)
	}
	return parseRef(parts[0], parts[1], parts[2])
}
