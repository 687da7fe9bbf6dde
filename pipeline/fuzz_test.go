package pipeline

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// FuzzRead looks for panics, for errors that cannot be shown, for plans that
// break what checkPlan states, and for answers that differ between two calls. It
// plans what can be read for some commits.
func FuzzRead(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		script, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range script.Files {
			if filepath.Ext(file.Name) == ".yml" {
				f.Add(file.Data)
			}
		}
	}
	real, err := filepath.Glob("testdata/real/*.yml")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range real {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Read("narwhal.yml", data, Options{})
		again, err2 := Read("narwhal.yml", data, Options{})
		if (file == nil) != (again == nil) || !reflect.DeepEqual(err, err2) {
			t.Fatalf("two answers: %v and %v", err, err2)
		}
		if err != nil {
			checkErrors(t, err)
			return
		}
		for _, facts := range []Facts{onMain, {}, {Event: "pull_request", Base: "main", Changed: []string{"a/b.go", ""}, ChangedKnown: true}, {Event: "tag", Tag: "v1"}} {
			p, err := file.Plan(facts)
			q, err2 := again.Plan(facts)
			if !reflect.DeepEqual(p, q) || !reflect.DeepEqual(err, err2) {
				t.Fatalf("two plans: %v %v and %v %v", p, err, q, err2)
			}
			if err != nil {
				checkErrors(t, err)
				continue
			}
			checkPlan(t, p)
			_ = p.String()
		}
	})
}
