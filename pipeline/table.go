package pipeline

import "slices"

// settings stand at the top, as the default for every job, and in a job.
var settings = []field{
	{"when", when, "Whether it runs: on_success, on_failure, always, manual, or what the commit must be like."},
	{"image", text, "The container image that the steps run in."},
	{"env", envMap, "Environment variables."},
	{"secrets", texts, "Names of secrets, each given as an environment variable."},
	{"labels", &shape{kind: isMap, of: text, names: labelNames, nothing: true}, "What a node must be labelled with; os, arch and node are built in."},
	{"resources", object(inResources), "What is reserved on the node, and the hard limit."},
	{"timeout", text, "How long the job may take, such as 20m."},
	{"retry", retry, "Which ends of the job are tried again, and how often."},
	{"clone", object(inClone), "How the repository is checked out."},
	{"on_node_loss", choice(string(NodeLossRerun), string(NodeLossFail)), "What becomes of the job when its node dies."},
	{"concurrency", either(text, object(inConcurrency)), "A group of which only so many run at a time in the whole cluster."},
	{"priority", number(-maxPriority, maxPriority), "Of the jobs that wait, higher ones go first."},
	{"services", listOf(object(inService)), "Containers beside the job, reachable by their names."},
	{"cache", listOf(object(inCache)), "Files that are kept from one build to the next."},
	{"artifacts", object(inArtifacts), "Files that the job leaves."},
	{"shell", choice("sh", string(ShellBash)), "What runs the commands."},
}

var (
	// whenOne is one of the alternatives of a when.
	whenOne = either(choice(statusSuccess, string(OnFailure), string(Always), onManual), object(inWhen))
	when    = either(whenOne, &shape{kind: isList, of: whenOne, some: true})
	retry   = either(number(0, maxRetries), object(inRetry))
	command = either(text, &shape{kind: isList, of: text, some: true})
)

var (
	inTop = &place{id: "top", where: "at the top", one: [][]string{{"steps", "jobs"}}, fields: slices.Concat([]field{
		{"name", text, "What people see."},
		{"steps", &shape{kind: isList, of: object(inStep), some: true}, "The steps of the file's one job."},
		{"jobs", &shape{kind: isMap, of: object(inJob), names: jobNames, some: true}, "Several jobs, by name."},
		{"inputs", &shape{kind: isMap, of: &shape{kind: isObject, in: inInput, nothing: true}, names: inputNames, nothing: true}, "What is asked for when a build is started by hand."},
		{"schedule", listOf(object(inSchedule)), "Builds that the clock starts."},
	}, settings)}
	inJob = &place{id: "job", where: "in a job", must: []string{"steps"}, fields: slices.Concat([]field{
		{"needs", texts, "Jobs that must have passed before."},
		{"steps", &shape{kind: isList, of: object(inStep), some: true}, "Commands, one after the other."},
		{"matrix", object(inMatrix), "Lists of values: one job for each combination."},
		{"allow_failure", boolean, "That it fails, or can't be run, doesn't fail the build."},
	}, settings)}
	inStep = &place{id: "step", where: "in a step", one: [][]string{{"command", "commands"}}, fields: []field{
		{"name", text, "What people see."},
		{"command", command, "One or more pieces of shell."},
		{"commands", command, "The same as command."},
		{"dependencies", &shape{kind: isList, of: text, nothing: true}, "Packages to install before the step; not an order."},
		{"needs", texts, "Steps above that must have passed before; the step then waits for no other."},
		{"when", when, "Whether the step runs."},
		{"image", text, "An image of the step's own, on the same workspace."},
		{"env", envMap, "Environment variables, over the job's."},
		{"secrets", texts, "Names of secrets, beside the job's."},
		{"timeout", text, "How long the step may take."},
		{"retry", retry, "How often the step is tried again, and when."},
		{"allow_failure", boolean, "A failure doesn't fail the job."},
		{"shell", choice("sh", string(ShellBash)), "What runs the command."},
	}}
)

var (
	inResources = &place{id: "resources", where: `in "resources"`, fields: []field{
		{"cpu", text, "CPUs, such as 2, 0.5 or 500m."},
		{"memory", text, "Memory, such as 512Mi or 2Gi."},
		{"disk", text, "Disk, such as 10Gi."},
	}}
	inClone = &place{id: "clone", where: `in "clone"`, fields: []field{
		{"depth", number(0, maxCloneDepth), "Commits of history; 0 is all."},
		{"submodules", boolean, "With submodules."},
		{"lfs", boolean, "With large files from Git LFS."},
		{"skip", boolean, "Check out nothing."},
	}}
	inWhen = &place{id: "when", where: `in "when"`, fields: []field{
		{"event", textOrTexts, "push, tag, pull_request, manual or schedule; ! before one leaves it out."},
		{"branch", textOrTexts, "Globs of branches; of a pull request, the branch that it is for."},
		{"tag", textOrTexts, "Globs of tags."},
		{"path", textOrTexts, "Globs of changed files."},
		{"status", textOrTexts, "success, failure, or both."},
		{"env", &shape{kind: isMap, of: textOrTexts, names: variableNames}, "Globs of the values of variables, by name."},
		{"manual", boolean, "Wait for a person."},
	}}
	inRetry = &place{id: "retry", where: `in "retry"`, must: []string{"max"}, fields: []field{
		{"max", number(0, maxRetries), "How often it is tried again."},
		{"when", either(choice(classes()...), listOf(choice(classes()...))), "After which kinds of failure."},
		{"exit_codes", either(number(1, 255), listOf(number(1, 255))), "After a failure, with which exit codes alone."},
		{"backoff", text, "How long to wait before the first time; twice as long before each next."},
	}}
	inConcurrency = &place{id: "concurrency", where: `in "concurrency"`, must: []string{"group"}, fields: []field{
		{"group", text, "What is counted together."},
		{"limit", number(1, maxGroupLimit), "How many run at a time."},
		{"cancel_in_progress", boolean, "End what older builds have in the group."},
	}}
	inService = &place{id: "service", where: "in a service", must: []string{"name", "image"}, fields: []field{
		{"name", text, "The service's host name."},
		{"image", text, "The service's container image."},
		{"env", envMap, "The service's environment variables."},
		{"command", command, "In the place of the image's own: a string for its sh, or a list of arguments."},
		{"ready", object(inReady), "How it is known to be up."},
	}}
	inReady = &place{id: "ready", where: `in "ready"`, one: [][]string{{"port", "command"}}, fields: []field{
		{"port", number(1, 65535), "A TCP port that takes connections."},
		{"command", command, "A command in the service's container that exits with 0."},
		{"timeout", text, "How long that may take; default 30s."},
	}}
	inCache = &place{id: "cache", where: "in a cache", must: []string{"key", "paths"}, fields: []field{
		{"key", text, "What the files belong to; may hold ${checksum:path}."},
		{"paths", textOrTexts, "Folders and files."},
		{"restore_keys", textOrTexts, "Beginnings of other keys to fall back to, in order."},
		{"policy", choice(policyPullPush, string(CachePull), string(CachePush)), "What is done with it."},
	}}
	inArtifacts = &place{id: "artifacts", where: `in "artifacts"`, fields: []field{
		{"paths", textOrTexts, "Globs of files, from the workspace."},
		{"exclude", textOrTexts, "Globs of files to leave out."},
		{"when", choice(statusSuccess, string(OnFailure), string(Always)), "After which ends of the job."},
		{"expire_in", text, "How long they are kept, such as 7d."},
		{"reports", object(inReports), "Files that narwhal reads."},
	}}
	inReports = &place{id: "reports", where: `in "reports"`, fields: []field{
		{"junit", textOrTexts, "Globs of JUnit reports."},
	}}
	inInput = &place{id: "input", where: "in an input", fields: []field{
		{"type", choice(inputTypes...), "What values it takes; default string."},
		{"default", text, "The value where none is given."},
		{"required", boolean, "It must be given."},
		{"options", &shape{kind: isList, of: text, some: true}, "The values of a choice."},
		{"description", text, "What people are asked."},
	}}
	inSchedule = &place{id: "schedule", where: "in a schedule", must: []string{"cron"}, fields: []field{
		{"cron", text, "Minute, hour, day of month, month, day of week; or @daily and the like."},
		{"timezone", text, "A name of the IANA database; default UTC."},
		{"branch", text, "The branch to build; default main."},
		{"inputs", &shape{kind: isMap, of: text, names: anyNames}, "Values of the file's inputs."},
	}}
	// inMatrix has these beside the lists of values, which have any name.
	inMatrix = &place{id: "matrix", where: `in "matrix"`, rest: &shape{kind: isList, of: text, some: true}, fields: []field{
		{"include", listOf(&shape{kind: isMap, of: text, names: anyNames, some: true}), "Values to add to combinations, or combinations to add."},
		{"exclude", listOf(&shape{kind: isMap, of: text, names: anyNames, some: true}), "Combinations to leave out."},
	}}

	places = []*place{
		inTop, inJob, inStep, inResources, inClone, inWhen, inRetry, inConcurrency, inService, inReady,
		inCache, inArtifacts, inReports, inInput, inSchedule, inMatrix,
	}
)

// Words of the format that stand for no value of the model.
const (
	onManual       = "manual"
	policyPullPush = "pull-push"
	statusSuccess  = "on_success"
)

var inputTypes = []string{"string", "number", "boolean", "choice"}

func classes() []string {
	return []string{string(ClassFailure), string(ClassTimeout), string(ClassOOM), string(ClassImagePull), string(ClassNodeLost), string(ClassAlways)}
}
