# The targets that people and CI use. `make` alone builds the binary.
#   make test     every test there is; installs what it needs (as root, on Debian)
#   make unit     everything but the end-to-end tests, with the race detector
#   make e2e      three real processes, Docker and RabbitMQ
#   make chaos    random faults on five nodes, MINUTES=5 of them; SEED=… brings the same again
#   make sim      the simulation on SEEDS=10000 seeds
#   make check    formatting, vet, linters, shell scripts, the Vagrantfile, the layout
#   make demo     three nodes build this repository and lose their leader; KEEP=1 leaves them up
#   make screenshots    pictures of the web pages, into docs/screenshots
#   make bench BENCH=latency    one benchmark, key=value on stdout; N=20 and the like go through

export NARWHAL_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/narwhal

# Google's storage client brings gRPC's service mesh along, 20 MB of it, which narwhal does
# not use; a binary that is built without the tag is as good, and as much larger.
NARWHAL_TAGS := disable_grpc_modules

VERSION := $(or $(shell git describe --tags --always --dirty 2>/dev/null),dev)
LINT_VERSION := v2.15.0
LINT := $(NARWHAL_CACHE)/bin/golangci-lint-$(LINT_VERSION)
SCRIPTS := $(wildcard scripts/*.sh) .ci/run
GO_FOLDERS = $(shell go list -e -f '{{.Dir}}' ./...)

.PHONY: build test unit sim e2e chaos provision-test check fmt vet lint shell layout vagrant demo screenshots bench images deps clean
.DEFAULT_GOAL := build
# The steps share two cores, apt and one Docker engine.
.NOTPARALLEL:

build:
	CGO_ENABLED=0 go build -tags $(NARWHAL_TAGS) -ldflags '-X main.version=$(VERSION)' -o bin/narwhal ./cmd/narwhal

test: deps images unit e2e chaos provision-test

deps:
	scripts/deps.sh

images: deps
	scripts/images.sh

# The suites of the executors and of the commit queue run on the real Docker and RabbitMQ too.
unit: deps
	scripts/images.sh busybox
	CGO_ENABLED=1 go test -race -timeout 30m $$(go list ./... | grep -v '/e2e\(/\|$$\)')
	go test -count=1 -timeout 30m ./internal/sim # a thousand seeds: with the race detector it takes a hundred

# For nights: ten thousand seeds take some minutes.
sim: SEEDS ?= 10000
sim:
	go test -count=1 -timeout 0 ./internal/sim -run TestSeeds -seeds $(SEEDS)

e2e: images
	go test ./e2e/... -count=1 -timeout 30m

# Five minutes of random faults; MINUTES and SEED say how many and which.
chaos: export MINUTES ?= 5
chaos: deps
	go run ./internal/lab/bench chaos

provision-test: build
	NARWHAL_BINARY=bin/narwhal scripts/provision_test.sh

check: fmt vet lint shell layout vagrant

fmt:
	@out=$$(gofmt -l $(GO_FOLDERS)); [ -z "$$out" ] || { echo "not gofmt-ed:"; echo "$$out"; exit 1; }

vet:
	go vet ./...

lint: $(LINT)
	$(LINT) run ./...

# About two minutes, once for each version.
$(LINT):
	mkdir -p $(dir $@)
	GOBIN=$(NARWHAL_CACHE)/bin/build go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv $(NARWHAL_CACHE)/bin/build/golangci-lint $@

shell:
	scripts/deps.sh shellcheck
	shellcheck $(SCRIPTS)

# No hypervisor is needed to tell whether the Vagrantfile says what Vagrant understands.
vagrant:
	scripts/deps.sh vagrant
	ruby -wc Vagrantfile
	vagrant validate --ignore-provider

layout:
	go test -count=1 .

# Where no engine can be had the demo says so too and runs its steps as processes.
demo:
	scripts/deps.sh git
	scripts/images.sh || echo "demo: no Docker images, see above" >&2
	go run ./internal/lab/demo

screenshots: export NARWHAL_SCREENSHOTS := $(CURDIR)/docs/screenshots
screenshots:
	scripts/deps.sh git chromium
	go test ./e2e -count=1 -run '^TestScreenshots$$'

bench:
	@[ -n "$(BENCH)" ] || { echo "which one? make bench BENCH=latency (throughput, failover, drill, chaos, starved, idle, steps, docker, checkout, logs, logcopies, cancel, cache, snapshot)" >&2; exit 2; }
	@go run ./internal/lab/bench $(BENCH)

clean:
	rm -rf bin
