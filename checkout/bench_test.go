package checkout

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/codepr/narwhal/pipeline"
)

func smallTree() files {
	tree := files{"narwhal.yml": "jobs: []\n"}
	for i := range 20 {
		tree[fmt.Sprintf("pkg%d/file%d.go", i%4, i)] = fmt.Sprintf("package pkg%d\n", i%4)
	}
	return tree
}

// BenchmarkCheckout makes a workspace of 21 files from a mirror that has the
// commit; taking it away again is not counted.
func BenchmarkCheckout(b *testing.B) {
	o := newOrigin(b)
	c := o.at(o.commit("refs/heads/main", smallTree()), "refs/heads/main")
	s := open(b)
	ensure(b, s, c)
	for name, clone := range map[string]pipeline.Clone{"full": {}, "depth=1": {Depth: 1}} {
		b.Run(name, func(b *testing.B) {
			root := b.TempDir()
			for i := 0; b.Loop(); i++ {
				dir := filepath.Join(root, fmt.Sprint(i))
				if err := os.Mkdir(dir, 0o755); err != nil {
					b.Fatal(err)
				}
				if err := s.Checkout(context.Background(), c, clone, dir); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEnsureWarm asks for a commit that the mirror has.
func BenchmarkEnsureWarm(b *testing.B) {
	o := newOrigin(b)
	c := o.at(o.commit("refs/heads/main", smallTree()), "refs/heads/main")
	s := open(b)
	ensure(b, s, c)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Ensure(context.Background(), c); err != nil {
			b.Fatal(err)
		}
	}
}
