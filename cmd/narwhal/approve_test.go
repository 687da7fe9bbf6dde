package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
)

// decide runs a command against a node that shows the job with these attempts, and
// gives the decisions that were sent.
func decide(t *testing.T, cmd *cobra.Command, attempts int, args ...string) (sent []string, err error) {
	t.Helper()
	j := api.Job{ID: fsm.JobID{Build: 4, Seq: 2}, Name: "ship", Status: fsm.Queued}
	for n := range attempts {
		j.Attempts = append(j.Attempts, api.Attempt{N: n + 1})
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			sent = append(sent, r.URL.String())
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(j); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	cmd.SetArgs(append(args, "--addr", s.URL, "--token", "t"))
	cmd.SetOut(io.Discard)
	cmd.SetErr(io.Discard)
	err = cmd.ExecuteContext(t.Context())
	return sent, err
}

// TestDecideOnTheAttemptSeen: a decision carries the attempt that the job had, so that
// it reaches no other one that has come meanwhile.
func TestDecideOnTheAttemptSeen(t *testing.T) {
	for verb, cmd := range map[string]*cobra.Command{"approve": approveCommand(), "reject": rejectCommand()} {
		sent, err := decide(t, cmd, 2, "4.2", "--step", "roll out")
		if want := []string{"/api/v1/jobs/4.2/" + verb + "?attempt=2&step=roll+out"}; err != nil || !slices.Equal(sent, want) {
			t.Errorf("%s sent %q, want %q: %v", verb, sent, want, err)
		}
	}
	sent, err := decide(t, approveCommand(), 0, "4.2", "--step", "ship")
	if err == nil || !strings.Contains(err.Error(), "narwhal why 4.2") || len(sent) > 0 {
		t.Errorf("with no attempt it sent %q: %v", sent, err)
	}
}
