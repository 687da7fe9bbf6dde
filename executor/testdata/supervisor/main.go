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
	args := os.Args[1:]
	switch {
	case len(args) == 2 && args[0] == "supervise":
		os.Exit(supervise.Main(context.Background(), args[1], os.Environ()))
	case len(args) == 3 && args[0] == "supervise" && args[1] == "--warm":
		os.Exit(supervise.Await(context.Background(), args[2], os.Environ()))
	case len(args) == 4 && args[0] == "supervise" && args[1] == "--satellite":
		os.Exit(supervise.Satellite(context.Background(), args[2], args[3], os.Environ()))
	default:
		fmt.Fprintln(os.Stderr, "usage: supervisor supervise [--warm | --satellite NAME] DIR")
		os.Exit(2)
	}
}
