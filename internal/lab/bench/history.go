package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/codepr/narwhal/fsm"
	"github.com/codepr/narwhal/pipeline"
)

// history is a state in which that many builds have passed, each of one small job on
// two nodes: made by the commands that a cluster makes it by.
func history(builds int) (*fsm.State, error) {
	plan, err := planOf(file("make test", "")["narwhal.yml"])
	if err != nil {
		return nil, err
	}
	h := &past{state: fsm.NewKeeping(builds), at: time.Now().Add(-time.Duration(builds) * time.Minute).UTC(), plan: plan}
	for i := range 2 {
		h.do(fsm.Command{UpsertNode: &fsm.UpsertNode{Node: fsm.Node{
			ID: nodeOf(i), Name: fmt.Sprintf("past%d", i+1), Capacity: pipeline.Resources{CPU: 8000, Memory: 16 << 30, Disk: 100 << 30}, Executor: "docker",
		}}})
	}
	for i := range builds {
		h.build(i)
		if h.err != nil {
			return nil, fmt.Errorf("make build %d of the past: %w", i+1, h.err)
		}
	}
	for i := range 2 {
		h.do(fsm.Command{RemoveNode: &fsm.RemoveNode{Node: nodeOf(i)}})
	}
	return h.state, h.err
}

func planOf(text string) (pipeline.Pipeline, error) {
	read, err := pipeline.Read("narwhal.yml", []byte(text), pipeline.Options{})
	if err != nil {
		return pipeline.Pipeline{}, err
	}
	return read.Plan(pipeline.Facts{Event: string(fsm.EventPush), Branch: "main", Ref: "refs/heads/main"})
}

func nodeOf(i int) fsm.NodeID { return fsm.NodeID(digest("node", i)[:16]) }

func digest(of string, n int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", of, n))
	return hex.EncodeToString(sum[:])
}

// past makes a state, until it fails.
type past struct {
	state *fsm.State
	at    time.Time
	plan  pipeline.Pipeline
	err   error
}

func (h *past) do(c fsm.Command) {
	if h.err != nil {
		return
	}
	h.at = h.at.Add(5 * time.Millisecond)
	c.At = h.at
	var results []fsm.Result
	h.state, results = fsm.Apply(h.state, h.state.Index()+1, 1, []fsm.Command{c})
	h.err = results[0].Err
}

func (h *past) build(i int) {
	h.at = h.at.Add(time.Minute)
	h.do(fsm.Command{AddBuild: &fsm.AddBuild{Key: digest("key", i)[:32], Commit: fsm.Commit{
		Repo: fmt.Sprintf("acme/service-%d", i%50), CloneURL: fmt.Sprintf("https://git.example.com/acme/service-%d.git", i%50), SHA: digest("sha", i)[:40],
		Ref: "refs/heads/main", Event: fsm.EventPush, Message: fmt.Sprintf("Mend what commit %d broke", i), Author: "A. Developer", Forge: "github",
	}}})
	for seq := range uint32(2) {
		h.job(fsm.JobID{Build: fsm.BuildID(i + 1), Seq: seq}, nodeOf(i%2), nodeOf(1-i%2))
	}
}

func (h *past) job(id fsm.JobID, on, second fsm.NodeID) {
	h.do(fsm.Command{AssignJob: &fsm.AssignJob{Job: id, N: 1, Node: on}})
	ref := fsm.AttemptRef{Job: id, N: 1, Token: fsm.Token{Index: h.state.Index()}}
	h.do(fsm.Command{StartAttempt: &fsm.StartAttempt{Ref: ref}})
	o := fsm.Outcome{Status: fsm.Passed}
	if id.Seq == 0 {
		plan := h.plan
		o.Plan = &plan
	} else {
		began := h.at
		h.at = h.at.Add(time.Second)
		o.PeakMemory, o.CPUTime = 100<<20, time.Second
		o.Steps = []fsm.StepResult{{Name: "step", Status: fsm.Passed, StartedAt: began, EndedAt: h.at, PeakMemory: 90 << 20, CPUTime: time.Second}}
	}
	h.do(fsm.Command{FinishAttempt: &fsm.FinishAttempt{Ref: ref, Outcome: o}})
	h.do(fsm.Command{SealLog: &fsm.SealLog{Ref: ref, Bytes: 4000, Log: fsm.Blob{
		Digest: digest(id.String(), 1), Size: 700, Holders: []fsm.NodeID{on, second},
	}}})
}
