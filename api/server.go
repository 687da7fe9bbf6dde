package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"golang.org/x/sync/errgroup"
)

const (
	prefix        = "/api/v1"
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	stopWithin    = 5 * time.Second
	maxHeader     = 64 << 10 // bytes
)

// Server is a node's API.
type Server struct {
	config  Config
	deps    Deps
	log     *slog.Logger
	mux     *http.ServeMux // what people and programs reach
	nodes   *http.ServeMux // what nodes reach beyond it
	openAPI *huma.OpenAPI
	pages   pages
	assets  assets
}

// New makes the API of a node. It starts nothing.
func New(config Config, deps Deps, log *slog.Logger) (*Server, error) {
	if err := errors.Join(config.Validate(), deps.validate()); err != nil {
		return nil, err
	}
	useProblems()
	files, err := readAssets()
	if err != nil {
		return nil, err
	}
	views, err := parsePages(files)
	if err != nil {
		return nil, err
	}
	s := &Server{config: config.withDefaults(), deps: deps, log: log, mux: http.NewServeMux(), nodes: http.NewServeMux(), pages: views, assets: files}
	if err := s.routes(); err != nil {
		return nil, err
	}
	return s, nil
}

// routes names every URL.
func (s *Server) routes() error {
	config := huma.DefaultConfig("narwhal", s.config.Version)
	// The document is served by us, with the streams in it; huma's page about it
	// would load scripts from elsewhere.
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", ""
	config.CreateHooks = nil
	config.Info.Description = "Every node answers. Writes at a node that does not lead are answered 307 to the leader's address, named in " + HeaderLeader + "."
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", Description: "The cluster's API token, nwa_…"},
	}
	config.Security = []map[string][]string{{"token": {}}}
	api := humago.New(s.mux, config)
	s.openAPI = api.OpenAPI()

	s.buildRoutes(api)
	s.jobRoutes(api)
	s.scheduleRoutes(api)
	s.hookRoutes(api)
	s.secretRoutes(api)
	s.testRoutes(api)
	s.timelineRoutes(api)
	s.artifactRoutes(api)
	s.nodeRoutes(api)
	s.statusRoutes(api)
	s.streamRoutes()
	s.pushRoutes()
	s.snapshotRoutes()
	s.crashRoutes()
	s.schemaRoute()
	s.pageRoutes()
	s.internalRoutes()
	s.borrowedRoutes()
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		problem(http.StatusNotFound, CodeNotFound, "there is nothing at %s %s; the URLs are in %s/openapi.json", r.Method, r.URL.Path, prefix).write(w)
	})
	return s.documentRoutes()
}

// borrowedRoutes are those that others answer.
func (s *Server) borrowedRoutes() {
	if s.deps.Hooks != nil {
		for path, summary := range map[string]string{"/hooks/github": "Take a webhook of GitHub's", "/commit": "Take a commit from a script, or a webhook of GitHub's"} {
			s.document(&huma.Operation{
				OperationID: strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", "-"), Method: http.MethodPost, Path: path, Tags: []string{"webhooks"},
				Summary: summary, Description: "Signed by X-Hub-Signature-256 instead of a token. Any node takes it, keeps it, and hands its commit to the leader.",
				Security: noToken, Responses: map[string]*huma.Response{"202": {Description: "Accepted: it is built"}, "200": {Description: "There is nothing to build"}},
			}, here, s.deps.Hooks.ServeHTTP)
		}
	}
	if s.deps.Metrics != nil {
		s.document(&huma.Operation{
			OperationID: "metrics", Method: http.MethodGet, Path: "/metrics", Tags: []string{"cluster"}, Summary: "Prometheus metrics",
			Responses: map[string]*huma.Response{"200": {Description: "Prometheus' text format"}},
		}, here, s.deps.Metrics.ServeHTTP)
	}
}

// noToken is how the document says that an operation needs none.
var noToken = []map[string][]string{{}}

// documentRoutes serves the OpenAPI document, made once all else is in it.
func (s *Server) documentRoutes() error {
	text, err := json.MarshalIndent(s.openAPI, "", " ")
	if err != nil {
		return fmt.Errorf("make OpenAPI document: %w", err)
	}
	yaml, err := s.openAPI.YAML()
	if err != nil {
		return fmt.Errorf("make OpenAPI document: %w", err)
	}
	serve := func(kind string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			_, _ = w.Write(body) // the client has gone: there is nobody to tell
		}
	}
	s.mux.HandleFunc("GET "+prefix+"/openapi.json", serve("application/openapi+json", text))
	s.mux.HandleFunc("GET "+prefix+"/openapi.yaml", serve("application/openapi+yaml", yaml))
	return nil
}

// document adds a route that huma does not serve to the OpenAPI document.
func (s *Server) document(op *huma.Operation, where place, handle http.HandlerFunc) {
	s.openAPI.AddOperation(op)
	s.mux.HandleFunc(op.Method+" "+op.Path, s.raw(where, handle))
}

// Handler is for the public port.
func (s *Server) Handler() http.Handler { return s.guard(s.mux) }

// NodeHandler is for the port that only nodes of the cluster reach, over mutual
// TLS: all of Handler, whose requests still need a token, and the bundles and
// logs that nodes hand each other.
func (s *Server) NodeHandler() http.Handler {
	public := s.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := s.nodes.Handler(r); pattern != "" {
			defer s.recoverPanic(w, r)
			s.nodes.ServeHTTP(w, r)
			return
		}
		public.ServeHTTP(w, r)
	})
}

// Run serves the public port and the nodes' until ctx ends, and returns when all
// requests have: streams end at once, others have five seconds.
func (s *Server) Run(ctx context.Context, public, nodes net.Listener) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.serve(ctx, public, s.Handler()) })
	group.Go(func() error { return s.serve(ctx, nodes, s.NodeHandler()) })
	return group.Wait()
}

func (s *Server) serve(ctx context.Context, ln net.Listener, handler http.Handler) error {
	srv := &http.Server{
		Handler: handler, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	streams, endStreams := context.WithCancel(context.WithoutCancel(ctx))
	defer endStreams()
	srv.BaseContext = func(net.Listener) context.Context { return streams }
	var stopping errgroup.Group
	served := make(chan struct{})
	stopping.Go(func() error {
		select {
		case <-ctx.Done():
		case <-served:
			return nil
		}
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
		defer cancel()
		stop := time.AfterFunc(stopWithin/10, endStreams) // short requests are let finish first
		defer stop.Stop()
		if err := srv.Shutdown(grace); err != nil {
			return srv.Close()
		}
		return nil
	})
	err := srv.Serve(ln)
	close(served)
	if stopped := stopping.Wait(); errors.Is(err, http.ErrServerClosed) {
		err = stopped
	}
	if err != nil {
		return fmt.Errorf("serve API on %s: %w", ln.Addr(), err)
	}
	return nil
}

// LoginURL makes a URL that signs a browser in: once, within ten minutes, at this
// node.
func (s *Server) LoginURL() string {
	return s.config.URL + "/login?code=" + s.deps.Auth.newCode()
}
