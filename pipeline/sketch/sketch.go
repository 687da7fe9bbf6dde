// Package sketch writes the first narwhal.yml of a repository: it looks at what
// lies at the root and guesses how people build and test it there.
//
// It doesn't own the format: what it writes is a file like any other, which
// package pipeline reads. A guess is better than an empty page and worse than
// what the repository's people know, so the file says in comments what to change.
//
// Invariant: whatever the root holds, the file is one that pipeline.Read takes
// without an error or a warning.
//
// Start reading at File; each language has a function of its own.
package sketch

import (
	"fmt"
	"io/fs"
	"strings"
)

// File gives the file for the repository whose root is root.
func File(root fs.FS) []byte {
	d := dir{root}
	var jobs []job
	for _, guess := range []func(dir) (job, bool){golang, node, python, rust} {
		if j, ok := guess(d); ok {
			jobs = append(jobs, j)
		}
	}
	if len(jobs) == 0 {
		for _, guess := range []func(dir) (job, bool){c, shell} {
			if j, ok := guess(d); ok {
				jobs = append(jobs, j)
				break
			}
		}
	}
	if len(jobs) == 0 {
		jobs = []job{{
			name: "build", image: "ubuntu:24.04", about: "Nothing here that narwhal knows: say what builds and tests it.",
			steps: []step{{name: "build", commands: []string{"echo put your command here"}}},
		}}
	}
	var b strings.Builder
	b.WriteString(head)
	for _, j := range jobs {
		j.write(&b)
	}
	var names []string
	for _, j := range jobs {
		names = append(names, j.name)
	}
	fmt.Fprintf(&b, tail, strings.Join(names, ", "))
	return []byte(b.String())
}

const head = `# What narwhal builds for every commit. "narwhal lint" checks this file.
# Jobs run side by side, each in a container of its own; steps one after the other.

# A new push ends what still runs for the same branch.
concurrency: {group: "${NARWHAL_REPO}/${NARWHAL_REF}", cancel_in_progress: true}
timeout: 30m

jobs:
`

const tail = `
  # A job that only runs on main, once the others have passed. Its group is its own, so
  # that a new push doesn't end it halfway: the next one waits.
  # deploy:
  #   needs: [%s]
  #   when: {event: push, branch: main}
  #   concurrency: {group: "${NARWHAL_REPO}/deploy"}
  #   secrets: [DEPLOY_TOKEN]
  #   on_node_loss: fail
  #   steps:
  #     - {name: ship, command: ./deploy.sh}
`

// job is a job of the file.
type job struct {
	name, image, about string
	cache              []string // paths
	key                string   // of the cache, such as "gomod-"; lock is added to it
	lock               string   // the file whose checksum is in the key
	steps              []step
}

type step struct {
	name         string
	about        string
	dependencies []string
	commands     []string
}

func (j job) write(b *strings.Builder) {
	fmt.Fprintf(b, "  # %s\n  %s:\n    image: %s\n", j.about, j.name, j.image)
	if len(j.cache) > 0 {
		fmt.Fprintf(b, "    cache:\n      - key: \"%s${checksum:%s}\"\n        restore_keys: [%s]\n        paths: [%s]\n",
			j.key, j.lock, j.key, strings.Join(j.cache, ", "))
	}
	b.WriteString("    steps:\n")
	for _, s := range j.steps {
		s.write(b)
	}
}

func (s step) write(b *strings.Builder) {
	if s.about != "" {
		fmt.Fprintf(b, "      # %s\n", s.about)
	}
	fmt.Fprintf(b, "      - name: %s\n", s.name)
	if len(s.dependencies) > 0 {
		fmt.Fprintf(b, "        dependencies: [%s]\n", strings.Join(s.dependencies, ", "))
	}
	if len(s.commands) == 1 {
		fmt.Fprintf(b, "        command: %s\n", s.commands[0])
		return
	}
	b.WriteString("        commands:\n")
	for _, c := range s.commands {
		fmt.Fprintf(b, "          - %s\n", c)
	}
}
