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
	f.Add([]byte(multipliers()["aliases of elsewhere"]))
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
			if n := values(reflect.ValueOf(p)); n > mostValues {
				t.Fatalf("%d bytes of a file made a plan of %d values", len(data), n)
			}
			_ = p.String()
		}
	})
}

// mostValues is above what Read lets a file have written out: a plan has the needs of
// each job by the names of all that a matrix makes, and the variables of inputs and
// matrices, beside that.
const mostValues = maxPlanNodes + maxJobs*(maxJobs+2*(maxInputs+maxMatrixKeys)+100)

// values counts what is set in a value, keys included.
func values(v reflect.Value) (n int) {
	switch v.Kind() {
	case reflect.Pointer:
		return values(v.Elem()) // of nil there is none
	case reflect.Struct:
		for i := range v.NumField() {
			n += values(v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			n += values(v.Index(i))
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			n += 2
		}
	case reflect.Invalid:
	default:
		if !v.IsZero() {
			n = 1
		}
	}
	return n
}
