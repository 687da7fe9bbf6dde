package copies

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/codepr/narwhal/fsm"
)

const headerOwner = "X-Narwhal-Owner" // the ID of the node that sends

// ServeHTTP is Take for other nodes. Only nodes reach it: the port's TLS asks for a
// certificate of the cluster's.
func (c *Copier) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var chunks []Chunk
	if err := readMessage(r.Body, &chunks); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer, err := c.Take(r.Context(), fsm.NodeID(r.Header.Get(headerOwner)), chunks)
	if err != nil {
		c.cfg.Log.Warn("keep another node's logs", "node", r.Header.Get(headerOwner), "error", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	data, err := encoding.Marshal(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(data) // the sender has gone: it asks again
}

// Tell is Peers.Tell over HTTP: url is where another node's copier is served, and road
// reaches it.
func Tell(ctx context.Context, road http.RoundTripper, self fsm.NodeID, url string, chunks []Chunk) (Answer, error) {
	var answer Answer
	data, err := encoding.Marshal(chunks)
	if err != nil {
		return answer, fmt.Errorf("encode chunks of logs: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(data))
	if err != nil {
		return answer, err
	}
	req.Header.Set(headerOwner, string(self))
	resp, err := road.RoundTrip(req)
	if err != nil {
		return answer, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // what there is of it
		return answer, fmt.Errorf("it answered %s: %s", resp.Status, bytes.TrimSpace(text))
	}
	return answer, readMessage(resp.Body, &answer)
}
