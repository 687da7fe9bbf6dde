package pipeline

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRealFiles reads testdata/real/*.yml, as people would write them, and
// compares what they come to with the .plan beside each.
func TestRealFiles(t *testing.T) {
	paths, err := filepath.Glob("testdata/real/*.yml")
	if err != nil || len(paths) < 12 {
		t.Fatalf("%d files, %v", len(paths), err)
	}
	for _, path := range paths {
		base := strings.TrimSuffix(path, ".yml")
		t.Run(filepath.Base(base), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			name, got := outcome(t, base, data)
			if name != base+".plan" {
				t.Fatal(got)
			}
			if *rewrite {
				if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(name)
			if err != nil || string(want) != got {
				t.Errorf("got\n%s\nwant\n%s%v", got, want, err)
			}
		})
	}
}
