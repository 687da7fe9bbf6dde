//go:build race

package sim

// defaultSeeds are few with the race detector: a run is one goroutine.
const defaultSeeds = 100
