package pipeline

import (
	"fmt"
	"slices"
	"strings"
)

// place is somewhere in a file where keys are read.
type place struct {
	where string   // "in a job"
	keys  []string // read here
	later []string // of the format, not read here by this version
}

// settings stand at the top, as the default for every job, and in a job.
var settings = []string{
	"image", "env", "labels", "resources", "timeout", "clone", "priority", "on_node_loss",
}

// notYet are keys of the format that this version reads nowhere. Ignoring them
// would build something else than was asked for, without a word.
var notYet = []string{
	"allow_failure", "artifacts", "cache", "concurrency", "inputs", "matrix",
	"retry", "schedule", "secrets", "services", "shell", "when",
}

var (
	inTop       = place{"at the top", append([]string{"name", "steps", "jobs"}, settings...), notYet}
	inJob       = place{"in a job", append([]string{"needs", "steps"}, settings...), notYet}
	inStep      = place{"in a step", []string{"name", "command", "commands", "dependencies", "env", "timeout"}, append([]string{"image", "needs"}, notYet...)}
	inResources = place{where: `in "resources"`, keys: []string{"cpu", "memory", "disk"}}
	inClone     = place{where: `in "clone"`, keys: []string{"depth", "submodules", "lfs", "skip"}}

	places = []place{inTop, inJob, inStep, inResources, inClone}
)

// elsewhere are words of other CI systems for what has another name here.
var elsewhere = map[string]string{
	"environment": "env", "variables": "env", "run": "command", "script": "commands",
	"depends_on": "needs", "dependson": "needs", "runs-on": "labels", "tags": "labels",
	"packages": "dependencies", "cpus": "cpu", "mem": "memory", "ram": "memory",
}

// unknown notes the error of a key that is not read where it stands.
func (r *reader) unknown(e entry, in place) {
	if r.full() {
		return
	}
	switch {
	case e.key == "on":
		r.errorf(e.at, `there is no "on" key, since YAML 1.1 reads it as a boolean: remove it`)
	case slices.Contains(in.later, e.key):
		r.errorf(e.at, "%s %s is not read by this version yet: remove it", quote(e.key), in.where)
	case in.where == inJob.where && e.key == "name":
		r.errorf(e.at, `"name" does not belong in a job: a job's name is its key under "jobs"`)
	default:
		r.errorf(e.at, "%s", misplaced(e.key, in))
	}
}

func misplaced(key string, in place) string {
	if s := suggest(key, in.keys); s != "" {
		return fmt.Sprintf("unknown key %s: did you mean %q?", quote(key), s)
	}
	var at []string
	for _, p := range places {
		if slices.Contains(p.keys, key) {
			at = append(at, p.where)
		}
	}
	if len(at) > 0 {
		return fmt.Sprintf("%q does not belong %s: it is read %s", key, in.where, strings.Join(at, " and "))
	}
	return fmt.Sprintf("unknown key %s: read %s are %s", quote(key), in.where, strings.Join(in.keys, ", "))
}

// suggest gives the word that was probably meant, or nothing.
func suggest(word string, known []string) string {
	if len(word) > 40 {
		return ""
	}
	word = strings.ToLower(word)
	if s := elsewhere[word]; slices.Contains(known, s) {
		return s
	}
	best, least := "", 1+min(2, len(word)/3)
	for _, k := range known {
		if squash(word) == squash(k) {
			return k
		}
		if d := distance(word, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// squash makes onNodeLoss, on-node-loss and on_node_loss one.
func squash(s string) string {
	return strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(s))
}

// distance counts the letters to insert, drop, change or swap with their
// neighbour to get from a to b.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range y {
		rows[0][j+1] = j + 1
	}
	for i := range x {
		for j := range y {
			change := rows[i][j]
			if x[i] != y[j] {
				change++
			}
			d := min(change, rows[i][j+1]+1, rows[i+1][j]+1)
			if i > 0 && j > 0 && x[i] == y[j-1] && x[i-1] == y[j] {
				d = min(d, rows[i-1][j-1]+1)
			}
			rows[i+1][j+1] = d
		}
	}
	return rows[len(x)][len(y)]
}
