package pipeline

import (
	"bytes"
	"encoding/json"
)

// Schema gives the JSON Schema (draft 2020-12) of a narwhal.yml, for editors. What
// it refuses Read refuses too; Read, which knows more, refuses more.
func Schema() []byte {
	defs := make(map[string]any, len(places))
	for _, p := range places {
		defs[p.id] = p.schema()
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	// Nothing here fails to encode: there are maps, lists, strings and numbers.
	_ = enc.Encode(map[string]any{
		"$schema":     "https://json-schema.org/draft/2020-12/schema",
		"title":       "narwhal.yml",
		"description": "What narwhal builds for a commit.",
		"$ref":        "#/$defs/" + inTop.id,
		"$defs":       defs,
	})
	return b.Bytes()
}

// ignored are the keys that give YAML anchors a home.
const ignored = "^x-"

func (p *place) schema() map[string]any {
	properties := make(map[string]any, len(p.fields))
	for _, f := range p.fields {
		s := f.takes.schema()
		s["description"] = f.doc
		properties[f.key] = s
	}
	s := map[string]any{
		"type":                 "object",
		"properties":           properties,
		"patternProperties":    map[string]any{ignored: true},
		"additionalProperties": false,
	}
	if p.rest != nil {
		s["additionalProperties"] = p.rest.schema()
	}
	if len(p.must) > 0 {
		s["required"] = p.must
	}
	var groups []any
	for _, keys := range p.one {
		var either []any
		for _, k := range keys {
			either = append(either, map[string]any{"required": []string{k}})
		}
		groups = append(groups, map[string]any{"oneOf": either})
	}
	if groups != nil {
		s["allOf"] = groups
	}
	return s
}

// reference is in a text that holds a ${…}, which nothing is known of yet.
const reference = `\$\{`

func (s *shape) schema() map[string]any {
	var to map[string]any
	switch s.kind {
	case isText:
		types := []string{"string", "number", "boolean"}
		if s.nothing {
			types = append(types, "null")
		}
		return map[string]any{"type": types}
	case isNumber:
		to = anyOf(map[string]any{"type": "integer", "minimum": s.least, "maximum": s.most},
			map[string]any{"type": "string", "pattern": `^[+-]?[0-9]+$|` + reference})
	case isBool:
		to = anyOf(map[string]any{"type": "boolean"}, map[string]any{"type": "string", "pattern": "^(true|false)$|" + reference})
	case isChoice:
		to = anyOf(map[string]any{"enum": s.words}, map[string]any{"type": "string", "pattern": reference})
	case isList:
		to = map[string]any{"type": "array", "items": s.of.schema()}
		if s.some {
			to["minItems"] = 1
		}
	case isMap:
		to = s.mapSchema()
	case isObject:
		to = map[string]any{"$ref": "#/$defs/" + s.in.id}
	case isEither:
		var all []map[string]any
		for _, one := range s.any {
			all = append(all, one.schema())
		}
		to = anyOf(all...)
	}
	if s.nothing {
		return anyOf(to, map[string]any{"type": "null"})
	}
	return to
}

func anyOf(all ...map[string]any) map[string]any { return map[string]any{"anyOf": all} }

func (s *shape) mapSchema() map[string]any {
	to := map[string]any{
		"type":                 "object",
		"patternProperties":    map[string]any{ignored: true, s.names.pattern: s.of.schema()},
		"additionalProperties": false,
	}
	if s.some {
		to["minProperties"] = 1
	}
	return to
}
