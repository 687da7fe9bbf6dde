package sim

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// within is how many seeds may pass before a planted bug is found.
const within = 400

// combined are bugs that do harm only together with another, since a second
// line holds: both are planted.
var combined = map[string]string{
	"NoResync": "WorkOncePerLeader",
}

// TestPlantedBugs shows what the checks are worth: every bug of Bugs is found.
func TestPlantedBugs(t *testing.T) {
	all := reflect.TypeOf(Bugs{})
	for i := range all.NumField() {
		name := all.Field(i).Name
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var bugs Bugs
			plant(&bugs, name)
			found := hunt(bugs)
			if found == "" {
				t.Errorf("not found within %d seeds", within)
			}
			t.Log(name, found)
		})
	}
}

func plant(bugs *Bugs, name string) {
	reflect.ValueOf(bugs).Elem().FieldByName(name).SetBool(true)
	if with := combined[name]; with != "" {
		plant(bugs, with)
	}
}

func hunt(bugs Bugs) string {
	for s := *first; s < *first+within; s++ {
		if _, err := Run(Options{Seed: s, Bugs: bugs}); err != nil {
			what, _, _ := strings.Cut(err.Error(), "\n")
			return fmt.Sprintf("after %d seeds: %s", s-*first+1, what)
		}
	}
	return ""
}
