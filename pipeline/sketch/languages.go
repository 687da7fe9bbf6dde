package sketch

import (
	"encoding/json"
	"slices"
)

// golang is a module at the root.
func golang(d dir) (job, bool) {
	if !d.has("go.mod") {
		return job{}, false
	}
	return job{
		name: "go", about: "Go: vet and test.", image: "golang:" + d.find("go.mod", `(?m)^go (\d{1,3}\.\d{1,3})`, "1"),
		cache: []string{"/go/pkg/mod", "/root/.cache/go-build"}, key: "go-", lock: d.first("go.sum", "go.mod"),
		steps: []step{
			{name: "vet", commands: []string{"go vet ./..."}},
			{name: "test", commands: []string{"go test ./..."}},
		},
	}, true
}

// node is a package at the root, with whatever manager its lock file is of.
func node(d dir) (job, bool) {
	if !d.has("package.json") {
		return job{}, false
	}
	j := job{
		name: "node", about: "Node: install, and the scripts of package.json.",
		image: "node:" + d.find(".nvmrc", `^v?(\d{1,3})`, "24"), key: "node-", lock: "package.json",
	}
	run := "npm run "
	install := []string{"npm install"}
	switch {
	case d.has("pnpm-lock.yaml"):
		run, j.lock, j.cache = "pnpm run ", "pnpm-lock.yaml", []string{"/root/.local/share/pnpm/store"}
		install = []string{"corepack enable", "pnpm install --frozen-lockfile"}
	case d.has("yarn.lock") && d.has(".yarnrc.yml"):
		run, j.lock, j.cache = "yarn run ", "yarn.lock", []string{"/root/.yarn/berry/cache"}
		install = []string{"corepack enable", "yarn install --immutable"}
	case d.has("yarn.lock"):
		run, j.lock, j.cache = "yarn run ", "yarn.lock", []string{"/usr/local/share/.cache/yarn"}
		install = []string{"yarn install --frozen-lockfile"}
	default:
		j.cache = []string{"/root/.npm"}
		if d.has("package-lock.json") {
			j.lock, install = "package-lock.json", []string{"npm ci"}
		}
	}
	j.steps = []step{{name: "install", commands: install}}
	var manifest struct {
		Scripts map[string]any `json:"scripts"`
	}
	// A manifest that isn't JSON has no scripts.
	_ = json.Unmarshal([]byte(d.text("package.json")), &manifest)
	for _, script := range []string{"lint", "build", "test"} {
		if _, ok := manifest.Scripts[script]; ok {
			j.steps = append(j.steps, step{name: script, commands: []string{run + script}})
		}
	}
	if len(j.steps) == 1 {
		j.steps = append(j.steps, step{
			name: "test", about: "package.json has no script called test: this finds tests by their names.", commands: []string{"node --test"},
		})
	}
	return j, true
}

// python is a project or a list of requirements at the root.
func python(d dir) (job, bool) {
	from := d.first("uv.lock", "poetry.lock", "requirements.txt", "pyproject.toml", "setup.py")
	if from == "" {
		return job{}, false
	}
	j := job{
		name: "python", about: "Python: install and test.", image: "python:" + d.find(".python-version", `^(3\.\d{1,2})`, "3.13"),
		cache: []string{"/root/.cache/pip"}, key: "python-", lock: from,
	}
	prefix := ""
	install := []string{"pip install -e ."}
	switch from {
	case "uv.lock":
		prefix, j.cache = "uv run ", []string{"/root/.cache/uv"}
		install = []string{"pip install uv", "uv sync --locked"}
	case "poetry.lock":
		prefix, j.cache = "poetry run ", []string{"/root/.cache/pypoetry"}
		install = []string{"pip install poetry", "poetry install"}
	case "requirements.txt":
		install = []string{"pip install -r requirements.txt"}
		if d.has("requirements-dev.txt") {
			install = append(install, "pip install -r requirements-dev.txt")
		}
	}
	test := step{name: "test", commands: []string{prefix + "python -m unittest"}}
	if d.has("pytest.ini") || d.has("conftest.py") || d.some("tests/conftest.py", "tests/test_*.py") ||
		slices.ContainsFunc([]string{"pyproject.toml", "setup.cfg", "tox.ini", "requirements.txt", "requirements-dev.txt"},
			func(name string) bool { return d.find(name, `(pytest)`, "") != "" }) {
		test.commands = []string{prefix + "python -m pytest"}
		if prefix == "" {
			install = append(install, "pip install pytest")
		}
	}
	j.steps = []step{{name: "install", commands: install}, test}
	return j, true
}

// rust is a crate or a workspace at the root.
func rust(d dir) (job, bool) {
	if !d.has("Cargo.toml") {
		return job{}, false
	}
	j := job{
		name: "rust", about: "Rust: build and test.", image: "rust:1",
		cache: []string{"/usr/local/cargo/registry", "target"}, key: "rust-", lock: "Cargo.toml",
	}
	locked := ""
	if d.has("Cargo.lock") {
		j.lock, locked = "Cargo.lock", " --locked"
	}
	j.steps = []step{
		{name: "build", commands: []string{"cargo build --all-targets" + locked}},
		{name: "test", commands: []string{"cargo test" + locked}},
	}
	return j, true
}

// c is C or C++, or whatever a Makefile makes.
func c(d dir) (job, bool) {
	j := job{name: "make", about: "C or C++: build and test.", image: "gcc:14"}
	build := step{name: "build"}
	test := step{name: "test", commands: []string{"make test"}}
	makefile := d.first("GNUmakefile", "makefile", "Makefile")
	switch {
	case d.has("CMakeLists.txt"):
		build.dependencies = []string{"cmake"}
		build.commands = []string{"cmake -S . -B build", "cmake --build build --parallel"}
		test.commands = []string{"ctest --test-dir build --output-on-failure"}
	case d.has("meson.build"):
		build.dependencies = []string{"meson"}
		build.commands = []string{"meson setup build", "meson compile -C build"}
		test.commands = []string{"meson test -C build"}
	case d.has("configure"):
		build.commands = []string{"./configure", "make"}
		test.commands = []string{"make check"}
	case makefile != "":
		build.commands = []string{"make"}
		target := d.find(makefile, `(?m)^(test|check)\s*:([^=]|$)`, "")
		if target == "" {
			j.steps = []step{build}
			return j, true
		}
		test.commands = []string{"make " + target}
	default:
		return job{}, false
	}
	j.steps = []step{build, test}
	return j, true
}

// shell is a repository of scripts.
func shell(d dir) (job, bool) {
	var globs []string
	for _, glob := range []string{"*.sh", "bin/*.sh", "scripts/*.sh"} {
		if d.some(glob) {
			globs = append(globs, glob)
		}
	}
	if globs == nil {
		return job{}, false
	}
	j := job{name: "shell", about: "Shell: check the scripts.", image: "alpine:3"}
	check := step{name: "check", dependencies: []string{"shellcheck"}, commands: []string{"shellcheck"}}
	for _, glob := range globs {
		check.commands[0] += " " + glob
	}
	j.steps = []step{check}
	if tests := d.first("test", "tests"); tests != "" && d.some(tests+"/*.bats") {
		j.steps = append(j.steps, step{name: "test", dependencies: []string{"bash", "bats"}, commands: []string{"bats " + tests}})
	}
	return j, true
}
