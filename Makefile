# Run `make` to list the targets.

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
DOCKER   ?= docker
FUZZTIME ?= 30s
BENCH    ?= .
RESULTS  ?= bench.txt
DIST     ?= dist
SOAK     ?= 30m

PLATFORMS ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64
# The time of the files in a release, in seconds since 1970: by default that of the commit.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)

chart = docs/images/performance.svg

# The tests of several nodes run many processes: with the race detector they would measure it.
cluster = ^Test(Cluster|Fault)

# The random tests of the hub and of the server have many more runs without the race detector.
random = ^Test(Model|Simulate)

# The tests of streams use io_uring where the kernel allows it. These run again with write. The test
# of the heap cannot run with the race detector, which needs memory itself.
streams = ^Test.*(Promise|Stream|Count|Sync|IDs|Reload|Heap)

.PHONY: help build run test test-long soak bench chart fuzz image release manifests

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 10

build: ## build the command as bin/presence
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -buildid= -X main.version=$(VERSION)" -o bin/presence ./cmd/presence

run: build ## run the server with guest sign-in on http://127.0.0.1:8080 (make run ARGS='--count users')
	bin/presence serve --dev $(ARGS)

test: ## install the programs that the tests need, run all tests, and list the slowest tests
	bash .ci/setup
	CGO_ENABLED=1 go run .ci/test.go -race -shuffle=on -timeout 20m ./...
	go run .ci/test.go -timeout 10m -run '$(random)' ./pkg/presence ./pkg/presence/internal/hub
	go run .ci/test.go -timeout 10m -run '$(cluster)' ./cmd/presence
	PRESENCE_TEST_IO_URING=off go run .ci/test.go -timeout 10m ./pkg/presence/internal/stream
	PRESENCE_TEST_IO_URING=off go run .ci/test.go -timeout 10m -run '$(streams)' ./pkg/presence
	cd deploy/test && go run ../../.ci/test.go -timeout 10m ./...
	node --test web/*.test.js

test-long: ## run the Go tests at their largest size: many clients, for a long time
	PRESENCE_TEST_LONG=1 CGO_ENABLED=1 go run .ci/test.go -race -shuffle=on -timeout 2h $(ARGS) ./pkg/presence ./cmd/presence
	PRESENCE_TEST_LONG=1 go run .ci/test.go -timeout 2h -run TestFaultFair ./cmd/presence
	go test -run Simulate -timeout 2h ./pkg/presence/internal/hub -args -seeds 10000 -moves 200000

soak: ## run a server and a cluster under load and restarts for SOAK (default 30m), and print tables
	PRESENCE_TEST_SOAK=$(SOAK) go test -count=1 -v -timeout 0 -run '^TestClusterSoak$$' $(ARGS) ./cmd/presence

bench: ## run all benchmarks, 30 minutes on two cores (one of them: make bench BENCH=Storm)
	go test -run '^$$' -bench '$(BENCH)' -benchtime 1x -timeout 1h -p 1 $(ARGS) ./pkg/presence ./cmd/presence

# A temporary file keeps the old chart if an error occurs.
chart: ## draw docs/images/performance.svg from bench.txt, the saved output of make bench
	go run .ci/chart.go $(RESULTS) > $(chart).tmp && mv $(chart).tmp $(chart) || { rm -f $(chart).tmp; exit 1; }

fuzz: ## run each fuzz target for FUZZTIME (default 30s)
	@set -e; listed=$$(go test -list '^Fuzz' ./...); \
	targets=$$(echo "$$listed" | awk '/^Fuzz/ { f[n++] = $$1 } $$1 == "ok" { while (n) print $$2 ":" f[--n] }'); \
	for target in $$targets; do \
		echo "--- $$target"; \
		go test -run '^$$' -fuzz "^$${target##*:}\$$" -fuzztime $(FUZZTIME) "$${target%:*}"; \
	done

image: ## build the container image as presence:latest
	$(DOCKER) build --build-arg VERSION=$(VERSION) -t presence:latest .

# A release uses the Go release of the Dockerfile, and go downloads it if needed.
release: ## make the archives, SBOMs, images and checksums of a release in DIST (default dist), without Docker
	cd .ci/release && GOTOOLCHAIN=$$(sed -n 's/^FROM .*golang:\([0-9.]*\)-.*/go\1/p' ../../Dockerfile) go run -trimpath -buildvcs=false . \
		-version '$(VERSION)' -time '$(SOURCE_DATE_EPOCH)' -platforms '$(PLATFORMS)' -dist '$(abspath $(DIST))'

manifests: ## generate deploy/kubernetes from the Helm chart
	cd deploy/test && go test -count=1 -run TestManifests . -args -update
