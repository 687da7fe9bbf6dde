// Command supervisor stands for the narwhal binary in the tests of package
// executor: only its hidden command is there.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/codepr/narwhal/supervise"
)

func main() {
	if len(os.Args) != 3 || os.Args[1] != "supervise" {
		fmt.Fprintln(os.Stderr, "usage: supervisor supervise DIR")
		os.Exit(2)
	}
	os.Exit(supervise.Main(context.Background(), os.Args[2], os.Environ()))
}
