package client_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/codepr/narwhal/api"
	"github.com/codepr/narwhal/fsm"
)

// TestSettle has a write go to the leader, and then the node that the client was
// given waited for; after reads alone there is nothing to wait for.
func TestSettle(t *testing.T) {
	leader := fake(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(api.HeaderIndex, "42")
		fmt.Fprint(w, `{"id":7}`)
	})
	var asked []string
	follower := fake(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			asked = append(asked, r.URL.Path+"?"+r.URL.RawQuery)
			fmt.Fprint(w, `{"id":7}`)
			return
		}
		w.Header().Set(api.HeaderLeader, strings.TrimPrefix(leader, "http://"))
		w.Header().Set("Location", leader+r.URL.Path)
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	c := newClient(t, follower)
	if _, err := c.Build(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	asked = nil
	c.Settle(t.Context())
	if asked != nil {
		t.Errorf("after a read it asked for %v", asked)
	}
	if _, err := c.CancelBuild(t.Context(), fsm.BuildID(7)); err != nil {
		t.Fatal(err)
	}
	c.Settle(t.Context())
	if len(asked) != 1 || asked[0] != "/api/v1/leader?index=42" {
		t.Errorf("after a write it asked for %v", asked)
	}
	// Whoever can't be asked keeps nobody: the write is done.
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	c.Settle(ended)
}
