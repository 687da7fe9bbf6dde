package sim

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write the scripts' output into testdata")

// TestScripts runs testdata/*.txt: comments, a line "run seed=N faults=D [calm]
// [bug=NAME]", "----", and all that happens in that run. They are read as stories,
// and show what a change of the decisions changes.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			head, _, _ := strings.Cut(string(data), "----\n")
			got := head + "----\n" + story(t, head)
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(data) {
				t.Errorf("%s differs (-rewrite accepts it):\n%s", file, got)
			}
		})
	}
}

func story(t *testing.T, head string) string {
	var out strings.Builder
	opt := Options{Trace: &out}
	for _, line := range strings.Split(head, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != "run" {
			continue
		}
		for _, word := range words[1:] {
			k, v, _ := strings.Cut(word, "=")
			var err error
			switch k {
			case "seed":
				_, err = fmt.Sscan(v, &opt.Seed)
			case "faults":
				opt.Faults, err = time.ParseDuration(v)
			case "calm":
				opt.Calm = true
			case "bug":
				plant(&opt.Bugs, v)
			}
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		}
	}
	if _, err := Run(opt); err != nil {
		fmt.Fprintln(&out, strings.SplitN(err.Error(), "\n", 2)[0])
	}
	return out.String()
}
