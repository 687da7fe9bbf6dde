package supervise

import "github.com/codepr/narwhal/pipeline"

// Restore is an archive that is unpacked before the first step: into the job's
// folder, and what was saved with an absolute path to where it was.
type Restore struct {
	Name    string `json:"name"`    // in messages, such as "cache gomod-1" or "artifacts of build"
	Archive string `json:"archive"` // a file in InDir
	// Paths are all that it may write to; anywhere in the job's folder where there
	// are none.
	Paths []string `json:"paths,omitempty"`
	// Optional lets the job go on where it can't be unpacked.
	Optional bool `json:"optional,omitempty"`
}

// Cache is what is packed for the next builds. That it could not be is said in
// the log, and fails no job.
type Cache struct {
	Name  string   `json:"name"` // in messages
	Key   string   `json:"key"`  // goes into the journal's record
	Paths []string `json:"paths"`
	File  string   `json:"file"` // in OutDir
}

// Artifacts are the files that the job leaves.
type Artifacts struct {
	Paths   []string       `json:"paths,omitempty"`   // globs, from the job's folder
	Exclude []string       `json:"exclude,omitempty"` // globs
	When    pipeline.RunOn `json:"when,omitempty"`    // of the job's steps
	File    string         `json:"file,omitempty"`    // in OutDir
	// JUnit are globs of reports, which are packed into JUnitFile whatever has
	// become of the steps.
	JUnit     []string `json:"junit,omitempty"`
	JUnitFile string   `json:"junit_file,omitempty"` // in OutDir
}
