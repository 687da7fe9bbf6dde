package pipeline

import "time"

// MaxSize is the most bytes that a file may have.
const MaxSize = 1 << 20

const (
	maxJobs  = 256
	maxSteps = 1000 // in the whole file

	// A file is measured with its aliases written out, so that a few anchors
	// cannot multiply to more than this, and neither can defaults that each
	// job gets a copy of.
	maxNodes    = 100_000
	maxExpanded = 4 * MaxSize // bytes of text
	maxDepth    = 64

	maxErrors = 50
	// maxFound bounds the work on a file that is nothing but errors. It is
	// above maxErrors because errors are not found in the order of the file.
	maxFound = 1000

	maxNameLen  = 100
	maxImageLen = 512
	maxPackage  = 128
	maxEnvValue = 64 << 10

	defaultTimeout = time.Hour
	maxTimeout     = 7 * 24 * time.Hour

	defaultCPU = 1000 // milli-CPU
	minCPU     = 10   // the least that a container can be limited to
	maxCPU     = 1024 * 1000

	defaultMemory = 1 << 30
	minMemory     = 6 << 20 // the least that Docker accepts
	maxBytes      = 1 << 50 // memory and disk

	maxPriority   = 100
	maxCloneDepth = 1_000_000
)
