package pipeline

// File is a narwhal.yml that has been read and has nothing wrong with it that
// could be told without a commit.
type File struct {
	// Name is what people see, as it is written; empty where the file has none.
	Name string
	// Inputs are in the order of the file.
	Inputs []Input
	// Schedules are those of all branches.
	Schedules []Schedule
	// Warnings are what is allowed and probably not meant, by position.
	Warnings Errors
	// WantsPaths says that some when asks which paths the commit changes: nobody
	// needs to find out for other files.
	WantsPaths bool

	file  string // its name, for errors
	top   outer
	jobs  []*body
	image string // the operator's default
}

// outer is what stands at the top of a file beside its jobs.
type outer struct {
	name     *entry
	settings []entry
	inputs   *entry
	schedule *entry
	body     *entry // steps or jobs
}

// body is a job as it stands in the file: one, whatever its matrix makes of it.
type body struct {
	name      string
	entry     entry   // for positions
	settings  []entry // its own, none of the top's
	needs     []name
	steps     entry
	allow     *entry // allow_failure
	instances []instance
}

// instance is one of the jobs that a body stands for.
type instance struct {
	name   string
	values map[string]string // nil without a matrix; else has every key of it
	given  map[string]string // those that the combination has
}

// Facts are what is known of the commit that a file is planned for.
type Facts struct {
	Repo   string // such as "acme/api"
	Commit string // SHA
	Ref    string // such as "refs/heads/main"
	Branch string // that was pushed, or empty
	Tag    string // that was pushed, or empty
	Base   string // the branch that a pull request is for, or empty
	Event  string // push, tag, pull_request, manual or schedule
	// PullRequest is its number, or empty.
	PullRequest string
	Build       string // its number
	// Inputs are those that the starter gave.
	Inputs map[string]string
	// Changed are the paths that the commit changes, from the root, with slashes.
	Changed []string
	// ChangedKnown is false where Changed could not be found out: every path
	// counts as changed then.
	ChangedKnown bool
}

// variables are those of every step that are known before it runs.
func (f Facts) variables() map[string]string {
	return map[string]string{
		"CI": "true", "NARWHAL": "true",
		"NARWHAL_REPO": f.Repo, "NARWHAL_COMMIT": f.Commit, "NARWHAL_REF": f.Ref, "NARWHAL_BRANCH": f.Branch,
		"NARWHAL_TAG": f.Tag, "NARWHAL_EVENT": f.Event, "NARWHAL_BUILD": f.Build,
		"NARWHAL_PULL_REQUEST": f.PullRequest, "NARWHAL_BASE": f.Base,
	}
}

// target is the branch that a when's branch means. A tag has none.
func (f Facts) target() string {
	if f.Event == eventPullRequest {
		return f.Base
	}
	return f.Branch
}

const (
	eventPullRequest = "pull_request"
	eventManual      = "manual"
	eventSchedule    = "schedule"
)

var eventNames = []string{"push", "tag", eventPullRequest, eventManual, eventSchedule}
