//go:build !race

package sim

// defaultSeeds take about half a minute on two processors.
const defaultSeeds = 1000
