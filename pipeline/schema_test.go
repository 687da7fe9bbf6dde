package pipeline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
)

const schemaFile = "../docs/narwhal.schema.json"

func TestSchemaFile(t *testing.T) {
	if *rewrite {
		if err := os.WriteFile(schemaFile, Schema(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, Schema()) {
		t.Errorf("%s is not what Schema gives: run this test with -rewrite", schemaFile)
	}
}

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("narwhal.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("narwhal.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// sample is a file that is read without an error.
type sample struct {
	name string
	data []byte
}

// samples are all files of the tests and of the documents that are right.
func samples(t *testing.T) []sample {
	t.Helper()
	var all []sample
	scripts, _ := filepath.Glob("testdata/*.txt")
	for _, path := range scripts {
		script, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range script.Files {
			if filepath.Ext(f.Name) == ".yml" {
				all = append(all, sample{filepath.Base(path) + " " + f.Name, f.Data})
			}
		}
	}
	files, _ := filepath.Glob("testdata/real/*.yml")
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, sample{path, data})
	}
	doc, err := os.ReadFile("../docs/pipeline.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllSubmatch(doc, -1) {
		all = append(all, sample{fmt.Sprintf("docs/pipeline.md, block %d", i+1), m[1]})
	}
	return slices.DeleteFunc(all, func(s sample) bool {
		_, err := Read("narwhal.yml", s.data, Options{})
		return err != nil
	})
}

// asJSON gives a file as an editor's validator sees it.
func asJSON(t *testing.T, data []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(data, &v); err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	encoded, err := json.Marshal(texted(v))
	if err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	back, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	return back
}

// texted makes keys strings, as JSON has them.
func texted(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = texted(v[k])
		}
	case map[any]any:
		m := make(map[string]any, len(v))
		for k := range v {
			m[fmt.Sprint(k)] = texted(v[k])
		}
		return m
	case []any:
		for i := range v {
			v[i] = texted(v[i])
		}
	}
	return v
}

func TestSchemaTakesWhatIsRead(t *testing.T) {
	schema := compiled(t)
	all := samples(t)
	if len(all) < 40 {
		t.Errorf("only %d samples", len(all))
	}
	for _, s := range all {
		if err := schema.Validate(asJSON(t, s.data)); err != nil {
			t.Errorf("%s: %v\n%s", s.name, err, s.data)
		}
	}
}

// everyKey is the script whose files have every key there is.
const everyKey = "every.txt"

// TestEveryKey keeps the mutations below honest.
func TestEveryKey(t *testing.T) {
	used := make(map[string]bool)
	for _, s := range samples(t) {
		if !strings.HasPrefix(s.name, everyKey) {
			continue
		}
		walkPlaces(asJSON(t, s.data), object(inTop), func(v map[string]any, p *place) {
			for k := range v {
				used[p.id+"."+k] = true
			}
		})
	}
	for _, p := range places {
		for _, f := range p.fields {
			if !used[p.id+"."+f.key] {
				t.Errorf("%s has no %q %s", everyKey, f.key, p.where)
			}
		}
	}
}

// walkPlaces visits the maps of a document that are places.
func walkPlaces(v any, s *shape, visit func(map[string]any, *place)) {
	switch s.kind {
	case isList:
		if list, ok := v.([]any); ok {
			for _, item := range list {
				walkPlaces(item, s.of, visit)
			}
		}
	case isMap:
		if m, ok := v.(map[string]any); ok {
			for k, item := range m {
				if !strings.HasPrefix(k, "x-") {
					walkPlaces(item, s.of, visit)
				}
			}
		}
	case isEither:
		for _, one := range s.any {
			walkPlaces(v, one, visit)
		}
	case isObject:
		if m, ok := v.(map[string]any); ok {
			visit(m, s.in)
			for _, f := range s.in.fields {
				if item, ok := m[f.key]; ok {
					walkPlaces(item, f.takes, visit)
				}
			}
		}
	}
}

// mutations change one value at a time and give the file that has it, and whether
// the schema must see what is wrong with it.
func mutations(root any, s *shape, try func(what string, must bool)) {
	walkPlaces(root, s, func(m map[string]any, p *place) {
		if p.rest == nil {
			m["zzz"] = "a"
			try("an unknown key "+p.where, true)
			delete(m, "zzz")
		}
		for _, key := range slices.Sorted(maps.Keys(m)) {
			if strings.HasPrefix(key, "x-") {
				continue
			}
			was := m[key]
			for _, wrong := range []any{[]any{[]any{1}}, map[string]any{"zzz": map[string]any{"zzz": map[string]any{}}}} {
				m[key] = wrong
				try(fmt.Sprintf("%s %s: %v", key, p.where, wrong), true)
			}
			for _, odd := range []any{"no such thing", 7777777, -7777777, true, 1.5, "", nil} {
				m[key] = odd
				try(fmt.Sprintf("%s %s: %v", key, p.where, odd), false)
			}
			delete(m, key)
			try(fmt.Sprintf("no %s %s", key, p.where), false)
			m[key] = was
		}
	})
}

// TestSchemaAgainstRead changes every value of the files with every key. What the schema
// refuses must be refused by Read; of a wrong type or a key that there isn't, both
// must tell.
func TestSchemaAgainstRead(t *testing.T) {
	schema := compiled(t)
	count, refused := 0, 0
	for _, s := range samples(t) {
		if !strings.HasPrefix(s.name, everyKey) {
			continue
		}
		root := asJSON(t, s.data)
		mutations(root, object(inTop), func(what string, must bool) {
			count++
			data, err := json.Marshal(root) // which is YAML too
			if err != nil {
				t.Fatal(err)
			}
			read, wrong := error(nil), schema.Validate(asJSON(t, data))
			if _, read = Read("narwhal.yml", data, Options{}); wrong != nil {
				refused++
			}
			switch {
			case wrong != nil && read == nil:
				t.Errorf("%s: %s: the schema refuses it, Read doesn't: %v", s.name, what, wrong)
			case must && (read == nil || wrong == nil):
				t.Errorf("%s: %s: read %v, schema %v", s.name, what, read, wrong)
			}
		})
	}
	t.Logf("%d changes, %d refused by the schema", count, refused)
	if refused < 900 {
		t.Errorf("of %d changes the schema refuses %d", count, refused)
	}
}

// TestKeyNames compares the two ways of saying which keys there are.
func TestKeyNames(t *testing.T) {
	words := []string{"", "a", "x", "xa", "x-", "x-a", "X-a", "x_", "x.", "x/", "_", "_a", "9", "9a", "a9", "a-b", "a.b", "a/b", "-a", ".a", "/a", "a b", "ä", "a_", "x9", "xx-"}
	for _, k := range []keyNames{variableNames, inputNames, matrixNames, jobNames, labelNames} {
		re := regexp.MustCompile(k.pattern)
		for _, w := range words {
			if got, want := re.MatchString(w), k.fit(w, 63) && !strings.HasPrefix(w, "x-"); got != want {
				t.Errorf("%s: %q fits: %v, want %v", k.pattern, w, got, want)
			}
		}
	}
}
