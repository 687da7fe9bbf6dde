package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/codepr/narwhal/pipeline"
)

var (
	fence      = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")
	inlineCall = regexp.MustCompile("`(narwhal [^`]+)`")
	lineCall   = regexp.MustCompile(`(?m)^\s*(?:sudo )?(narwhal [^#\n]+)`)
)

// docCalls are the command lines of narwhal in a document, in fences and in text.
func docCalls(text string) []string {
	var found []string
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		if m[1] == "yaml" {
			continue
		}
		for _, c := range lineCall.FindAllStringSubmatch(m[2], -1) {
			found = append(found, c[1])
		}
	}
	for _, c := range inlineCall.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		found = append(found, c[1])
	}
	return found
}

// checkCall says what is wrong with a command line of a document; nothing of it is
// run. COMMAND stands for any command.
func checkCall(t *testing.T, call string, known []string) string {
	words := strings.Fields(call)[1:]
	if words[0] == "COMMAND" {
		return ""
	}
	if !slices.Contains(known, words[0]) {
		return "there is no command " + words[0]
	}
	command := words[:1]
	if len(words) > 1 && slices.Contains(known, words[0]+" "+words[1]) {
		command = words[:2]
	}
	have := options(t, command...)
	for _, word := range words[len(command):] {
		name, long := strings.CutPrefix(strings.Trim(word, "[],…"), "--")
		name, _, _ = strings.Cut(name, "=")
		short, dash := strings.CutPrefix(name, "-")
		if !long && !dash || name == "help" {
			continue
		}
		ok := false
		for full, o := range have {
			ok = ok || long && full == name || !long && o.short == short
		}
		if !ok {
			return "narwhal " + strings.Join(command, " ") + " has no flag " + word
		}
	}
	return ""
}

func TestCommandLinesOfTheDocuments(t *testing.T) {
	files, err := filepath.Glob("../docs/*.md")
	if err != nil || len(files) < 4 {
		t.Fatalf("%q, %v", files, err)
	}
	known, seen := commands(t), 0
	for _, file := range append(files, "../README.md") {
		for _, call := range docCalls(document(t, strings.TrimPrefix(file, "../"))) {
			seen++
			if wrong := checkCall(t, call, known); wrong != "" {
				t.Errorf("%s: `%s`: %s", file, call, wrong)
			}
		}
	}
	if seen < 15 {
		t.Errorf("only %d command lines were found", seen)
	}
	for _, call := range []string{"narwhal nope", "narwhal push --nope", "narwhal logs -x 42", "narwhal secret set A --json"} {
		if checkCall(t, call, known) == "" {
			t.Errorf("`%s` passes this test", call)
		}
	}
}

// TestFilesOfTheDocuments reads and plans every example of narwhal.yml, and this
// repository's own file. Blocks of yml, not of yaml, are other systems' files.
func TestFilesOfTheDocuments(t *testing.T) {
	files := map[string]string{"narwhal.yml": document(t, "narwhal.yml")}
	docs, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	in := make(map[string]int)
	for _, path := range append(docs, "../README.md") {
		path = strings.TrimPrefix(path, "../")
		for i, m := range fence.FindAllStringSubmatch(document(t, path), -1) {
			if m[1] == "yaml" {
				in[path]++
				files[fmt.Sprintf("%s, block %d", path, i+1)] = m[2]
			}
		}
	}
	for path, most := range map[string]int{"README.md": 1, "docs/pipeline.md": 25, "docs/migrating.md": 4} {
		if in[path] < most {
			t.Errorf("%s has %d examples: can't read it", path, in[path])
		}
	}
	for name, text := range files {
		file, err := pipeline.Read(name, []byte(text), pipeline.Options{})
		if err != nil {
			t.Error(err)
			continue
		}
		if len(file.Warnings) > 0 {
			t.Errorf("%s: %v", name, file.Warnings)
		}
		if _, err := file.Plan(pipeline.Facts{Repo: "acme/api", Ref: "refs/heads/main", Branch: "main", Event: "push"}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

var docLink = regexp.MustCompile(`\]\(([^)#:]+\.md)?(#[^)]*)?\)`)

// TestLinksOfTheDocuments follows the links from one document to another.
func TestLinksOfTheDocuments(t *testing.T) {
	files, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, "../README.md") {
		text := document(t, strings.TrimPrefix(file, "../"))
		for _, m := range docLink.FindAllStringSubmatch(text, -1) {
			target := file
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(file), m[1])
			}
			data, err := os.ReadFile(target)
			if err != nil {
				t.Errorf("%s: %s", file, err)
				continue
			}
			if m[2] != "" && !slices.Contains(anchors(string(data)), m[2]) {
				t.Errorf("%s: %s has no heading %s", file, target, m[2])
			}
		}
	}
}

var notInAnchor = regexp.MustCompile(`[^a-z0-9 _-]`)

// anchors are a document's headings as links name them.
func anchors(text string) []string {
	var found []string
	for line := range strings.Lines(text) {
		if heading, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && line[0] == '#' {
			slug := notInAnchor.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
			found = append(found, "#"+strings.ReplaceAll(slug, " ", "-"))
		}
	}
	return found
}
