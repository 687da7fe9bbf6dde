package api

import (
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/codepr/narwhal/fsm"
)

// Secret is a secret as the API shows it: never its value.
type Secret struct {
	Repo     string    `json:"repo,omitempty" doc:"Empty: for all repositories"`
	Name     string    `json:"name,omitempty" doc:"Of the environment variable"`
	Registry string    `json:"registry,omitempty" doc:"The host, where it is a registry's credentials"`
	By       string    `json:"by"`
	At       time.Time `json:"at"`
}

func (s *Server) secretRoutes(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "list-secrets", Method: http.MethodGet, Path: prefix + "/secrets", Tags: []string{"secrets"},
		Summary: "List secrets, without their values", Middlewares: s.placed(withState),
	}, s.listSecrets)
	huma.Register(api, huma.Operation{
		OperationID: "set-secret", Method: http.MethodPut, Path: prefix + "/secrets/{name}", Tags: []string{"secrets"}, DefaultStatus: http.StatusNoContent,
		Summary: "Keep a secret, encrypted", Description: "No answer ever holds its value.",
		Middlewares: s.placed(redirect), MaxBodyBytes: maxBody, BodyReadTimeout: bodyWithin,
	}, s.setSecret)
	huma.Register(api, huma.Operation{
		OperationID: "remove-secret", Method: http.MethodDelete, Path: prefix + "/secrets/{name}", Tags: []string{"secrets"}, DefaultStatus: http.StatusNoContent,
		Summary: "Forget a secret", Middlewares: s.placed(redirect),
	}, s.removeSecret)
	huma.Register(api, huma.Operation{
		OperationID: "set-registry", Method: http.MethodPut, Path: prefix + "/registries/{host}", Tags: []string{"secrets"}, DefaultStatus: http.StatusNoContent,
		Summary: "Keep the credentials of an image registry, encrypted", Middlewares: s.placed(redirect), MaxBodyBytes: maxBody, BodyReadTimeout: bodyWithin,
	}, s.setRegistry)
	huma.Register(api, huma.Operation{
		OperationID: "remove-registry", Method: http.MethodDelete, Path: prefix + "/registries/{host}", Tags: []string{"secrets"}, DefaultStatus: http.StatusNoContent,
		Summary: "Forget the credentials of an image registry", Middlewares: s.placed(redirect),
	}, s.removeRegistry)
}

type secretList struct {
	Body struct {
		Secrets []Secret `json:"secrets"`
	}
}

func (s *Server) listSecrets(ctx context.Context, in *struct {
	ReadInput
	Repo string `query:"repo" doc:"Only what this repository's jobs can name"`
},
) (*secretList, error) {
	out := &secretList{}
	out.Body.Secrets = []Secret{}
	for secret := range stateOf(ctx).Secrets() {
		if in.Repo != "" && secret.Repo != "" && secret.Repo != in.Repo {
			continue
		}
		v := Secret{Repo: secret.Repo, Name: secret.Name, By: secret.By, At: secret.At}
		if host, ok := strings.CutPrefix(secret.Name, fsm.RegistrySecret("")); ok {
			v.Name, v.Registry = "", host
		}
		out.Body.Secrets = append(out.Body.Secrets, v)
	}
	return out, nil
}

// OfRepo is what a secret is for.
type OfRepo struct {
	Repo string `query:"repo" maxLength:"200" doc:"The repository whose jobs may name it; empty: all repositories"`
}

type empty struct {
	Index uint64 `header:"X-Narwhal-Index"`
}

func (s *Server) setSecret(ctx context.Context, in *struct {
	OfRepo
	Name string `path:"name"`
	Body struct {
		Value string `json:"value" minLength:"1"`
	}
},
) (*empty, error) {
	if err := checkSecretName(in.Name); err != nil {
		return nil, err
	}
	return s.keepSecret(ctx, in.Repo, in.Name, in.Body.Value)
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,254}$`)

// reserved begin the names of variables that narwhal itself sets.
var reserved = []string{"NARWHAL_", "MATRIX_", "INPUT_"}

func checkSecretName(name string) error {
	if !envName.MatchString(name) {
		return problem(http.StatusUnprocessableEntity, CodeInvalid,
			"name %.60q: a secret is given as an environment variable: use letters, digits and _, the first no digit", name)
	}
	for _, prefix := range reserved {
		if strings.HasPrefix(name, prefix) {
			return problem(http.StatusUnprocessableEntity, CodeInvalid, "name %.60q: what begins with %s is narwhal's own: choose another", name, prefix)
		}
	}
	return nil
}

func (s *Server) keepSecret(ctx context.Context, repo, name, value string) (*empty, error) {
	sealed, err := s.deps.Sealer.Seal(repo, name, value)
	if err != nil {
		return nil, problem(http.StatusUnprocessableEntity, CodeInvalid, "%s", err)
	}
	return s.change(ctx, fsm.Command{SetSecret: &fsm.SetSecret{
		Secret: fsm.Secret{Repo: repo, Name: name, Sealed: sealed, By: byAPI, At: time.Now().UTC()},
	}})
}

// change proposes a command whose answer is its index.
func (s *Server) change(ctx context.Context, c fsm.Command) (*empty, error) {
	result, err := s.deps.Proposer.Propose(ctx, c)
	if err != nil {
		return nil, s.asProblem(err)
	}
	return &empty{Index: result.Index}, nil
}

func (s *Server) removeSecret(ctx context.Context, in *struct {
	OfRepo
	Name string `path:"name"`
},
) (*empty, error) {
	return s.forgetSecret(ctx, in.Repo, in.Name, "secret "+in.Name)
}

func (s *Server) forgetSecret(ctx context.Context, repo, name, what string) (*empty, error) {
	if kept, ok := stateOf(ctx).Secret(repo, name); !ok || kept.Repo != repo {
		where := "for all repositories"
		if repo != "" {
			where = "of " + repo
		}
		return nil, problem(http.StatusNotFound, CodeNotFound, "there is no %s %s: see `narwhal secret list`", what, where)
	}
	return s.change(ctx, fsm.Command{RemoveSecret: &fsm.RemoveSecret{Repo: repo, Name: name, By: byAPI}})
}

// Credentials are a registry's.
type Credentials struct {
	Username string `json:"username" minLength:"1"`
	Password string `json:"password" minLength:"1" doc:"Or an access token"`
}

// host of a registry, with its port, as it stands before an image's name.
var registryHost = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?$`)

func (s *Server) setRegistry(ctx context.Context, in *struct {
	OfRepo
	Host string `path:"host" maxLength:"255" example:"registry.example.com:5000"`
	Body Credentials
},
) (*empty, error) {
	if !registryHost.MatchString(in.Host) {
		return nil, problem(http.StatusUnprocessableEntity, CodeInvalid, "host %.60q: want it as it stands before an image's name, such as registry.example.com:5000, or docker.io", in.Host)
	}
	value, err := json.Marshal(in.Body)
	if err != nil {
		return nil, s.asProblem(err)
	}
	return s.keepSecret(ctx, in.Repo, fsm.RegistrySecret(in.Host), string(value))
}

func (s *Server) removeRegistry(ctx context.Context, in *struct {
	OfRepo
	Host string `path:"host" maxLength:"255"`
},
) (*empty, error) {
	return s.forgetSecret(ctx, in.Repo, fsm.RegistrySecret(in.Host), "registry "+in.Host)
}
