package api

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/codepr/narwhal/fsm"
)

// SealsPath is where a node tells the leader of logs that were sealed, by POST with a
// list of fsm.SealLog. The answer is a list of SealAnswer.
const SealsPath = nodePrefix + "/seals"

// maxSeals bounds one call, in bytes.
const maxSeals = 16 << 20

// SealAnswer says what became of one seal.
type SealAnswer string

// The answers.
const (
	SealEntered SealAnswer = "entered"
	SealEarly   SealAnswer = "early"   // the attempt has not ended yet
	SealRefused SealAnswer = "refused" // the attempt is not known any more
)

func (s *Server) enterSeals(w http.ResponseWriter, r *http.Request) {
	var seals []fsm.SealLog
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxSeals)).Decode(&seals); err != nil {
		problem(http.StatusUnprocessableEntity, CodeInvalid, "%s", err).write(w)
		return
	}
	commands := make([]fsm.Command, len(seals))
	for i := range seals {
		commands[i].SealLog = &seals[i]
	}
	results, err := s.deps.Proposer.ProposeAll(r.Context(), commands)
	if err != nil {
		s.writeError(w, err)
		return
	}
	answers := make([]SealAnswer, len(results))
	for i, result := range results {
		switch {
		case result.Err == nil:
			answers[i] = SealEntered
		case errors.Is(result.Err, fsm.ErrNotEnded):
			answers[i] = SealEarly
		default:
			answers[i] = SealRefused
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answers) // the node has gone: it tells again
}
