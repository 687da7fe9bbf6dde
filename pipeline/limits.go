package pipeline

import "time"

// MaxSize is the most bytes that a file may have.
const MaxSize = 1 << 20

// MaxScript is the most bytes that the commands of a step may have: a shell gets them
// as one argument, which is what Linux takes.
const MaxScript = 127 << 10

const (
	maxJobs  = 256
	maxSteps = 1000 // in the whole file

	maxMatrixKeys   = 16
	maxMatrixValues = 4096 // combinations before exclude
	maxMatrixItems  = 1024 // of include and of exclude, each
	// maxPlanNodes bounds what the file has with matrices and the top's defaults
	// written out.
	maxPlanNodes = 4 * maxNodes
	maxRefDepth  = 50 // variables made of variables
	// maxGlobWork bounds the comparing of globs with changed paths, in
	// characters times characters. What goes beyond it counts as changed.
	maxGlobWork = 100_000_000

	maxInputs      = 50
	maxInputValue  = 4 << 10
	maxDescription = 500
	maxSchedules   = 20
	maxServices    = 16
	maxCaches      = 16
	maxPaths       = 100 // of a cache or of artifacts, and globs of a when
	maxPathLen     = 1024
	maxSecrets     = 100
	maxGroupName   = 200
	maxGroupLimit  = 1000
	maxCacheKey    = 500
	maxRetries     = 10
	maxExitCodes   = 100

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

	maxJobName = 63
	// maxSuggested is how many variables of an env are looked through for the one
	// that was meant.
	maxSuggested = 200

	maxNameLen  = 100
	maxImageLen = 512
	maxPackage  = 128
	maxEnvValue = 64 << 10

	defaultTimeout = time.Hour
	maxTimeout     = 7 * 24 * time.Hour
	maxBackoff     = 24 * time.Hour
	maxExpire      = 10 * 366 * 24 * time.Hour
	defaultReady   = 30 * time.Second
	maxReady       = time.Hour

	defaultCPU = 1000 // milli-CPU
	minCPU     = 10   // the least that a container can be limited to
	maxCPU     = 1024 * 1000

	defaultMemory = 1 << 30
	minMemory     = 6 << 20 // the least that Docker accepts
	maxBytes      = 1 << 50 // memory and disk

	maxPriority   = 100
	maxCloneDepth = 1_000_000
)
