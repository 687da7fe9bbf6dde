package pipeline

import (
	"fmt"
	"slices"
	"strings"
)

// elsewhere are words of other CI systems for what has another name here.
var elsewhere = map[string]string{
	"environment": "env", "variables": "env", "run": "command", "script": "commands",
	"depends_on": "needs", "dependson": "needs", "runs-on": "labels", "tags": "labels",
	"packages": "dependencies", "cpus": "cpu", "mem": "memory", "ram": "memory",
	"cron": "schedule", "continue-on-error": "allow_failure", "ignore-errors": "allow_failure",
	"if": "when", "only": "when", "rules": "when", "strategy": "matrix", "pipeline": "steps", "workflow": "jobs",
	"timeout-minutes": "timeout", "restore-keys": "restore_keys", "interruptible": "concurrency",
	"pr": "pull_request", "merge_request": "pull_request", "workflow_dispatch": "manual", "paths": "path",
	"branches": "branch", "events": "event", "refs": "branch", "entrypoint": "command", "healthcheck": "ready",
}

// unknown notes the error of a key that is not read where it stands.
func (r *reader) unknown(e entry, in *place) {
	if r.full() {
		return
	}
	switch {
	case e.key == "on":
		r.errorf(e.at, `there is no "on" key, since YAML 1.1 reads it as a boolean: use "when"`)
	case in == inJob && e.key == "name":
		r.errorf(e.at, `"name" does not belong in a job: a job's name is its key under "jobs"`)
	default:
		r.errorf(e.at, "%s", misplaced(e.key, in))
	}
}

func misplaced(key string, in *place) string {
	known := in.keys()
	if s := suggest(key, known); s != "" {
		return fmt.Sprintf("unknown key %s: did you mean %q?", quote(key), s)
	}
	var at []string
	for _, p := range places {
		if p.has(key) {
			at = append(at, p.where)
		}
	}
	if len(at) > 0 {
		return fmt.Sprintf("%q does not belong %s: it is read %s", key, in.where, strings.Join(at, " and "))
	}
	return fmt.Sprintf("unknown key %s: read %s are %s", quote(key), in.where, strings.Join(known, ", "))
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
	squashed := squash(word)
	for _, k := range known {
		if squashed == squash(k) {
			return k
		}
		if apart := len(word) - len(k); apart > 8 || apart < -8 {
			continue
		}
		if d := distance(word, strings.ToLower(k)); d < least {
			best, least = k, d
		}
	}
	return best
}

// squash makes onNodeLoss, on-node-loss and on_node_loss one.
func squash(s string) string { return joiners.Replace(strings.ToLower(s)) }

var joiners = strings.NewReplacer("-", "", "_", "", " ", "")

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
