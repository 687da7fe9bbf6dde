package api

import (
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/codepr/narwhal/pipeline"
)

// SchemaPath is where every node serves the JSON Schema of narwhal.yml, for editors. It
// needs no token: editors have none, and the file is in the repository too.
const SchemaPath = "/narwhal.schema.json"

func (s *Server) schemaRoute() {
	schema := pipeline.Schema()
	s.document(&huma.Operation{
		OperationID: "read-schema", Method: http.MethodGet, Path: SchemaPath, Tags: []string{"pipelines"},
		Summary: "Read the JSON Schema of narwhal.yml", Description: "As `narwhal schema` prints it. Needs no token.", Security: noToken,
		Responses: map[string]*huma.Response{"200": {Description: "The schema", Content: map[string]*huma.MediaType{
			"application/schema+json": {Schema: s.openAPI.Components.Schemas.Schema(reflect.TypeFor[map[string]any](), true, "Schema")},
		}}},
	}, here, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/schema+json")
		w.Header().Set("Access-Control-Allow-Origin", "*") // editors in browsers fetch it too
		_, _ = w.Write(schema)                             // the client has gone: there is nobody to tell
	})
}
