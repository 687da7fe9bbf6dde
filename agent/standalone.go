package agent

import (
	"log/slog"
	"net/http"
)

// Standalone is what `narwhal agent` serves on a host that belongs to no cluster
// and reaches only RabbitMQ: the webhooks, and /healthz, which answers 503 while
// the broker would take no commit (/health is its name in the original). It keeps no
// deliveries. The caller runs the publisher.
func Standalone(config Config, publisher *Publisher, log *slog.Logger) (http.Handler, error) {
	hooks, err := NewHooks(config, publisher, Record{}, log)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/hooks/", hooks)
	mux.Handle("/commit", hooks)
	health := func(w http.ResponseWriter, _ *http.Request) {
		if !publisher.Connected() {
			writeJSON(w, http.StatusServiceUnavailable, answer{Status: "unavailable", Reason: "not connected to RabbitMQ, or blocked by it"})
			return
		}
		writeJSON(w, http.StatusOK, answer{Status: "ok"})
	}
	mux.HandleFunc("GET /healthz", health)
	mux.HandleFunc("GET /health", health)
	return mux, nil
}
