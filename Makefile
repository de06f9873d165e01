# What can be done here; `make` lists it.

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
DOCKER   ?= docker
FUZZTIME ?= 30s
BENCH    ?= .

.PHONY: help build run test test-long bench fuzz image

help: ## list what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 10

build: ## the command, as bin/presence
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/presence ./cmd/presence

run: build ## serve the page on http://127.0.0.1:8080 with guest logins (make run ARGS='--count users')
	bin/presence serve --dev $(ARGS)

test: ## all tests, after setting up what they need, and the slowest of them
	bash .ci/setup
	CGO_ENABLED=1 go run .ci/test.go -race -shuffle=on -timeout 20m ./...
	node --test web/*.test.js

test-long: ## the Go tests that have a larger size, in it: many clients, for long
	PRESENCE_TEST_LONG=1 CGO_ENABLED=1 go run .ci/test.go -race -shuffle=on -timeout 2h $(ARGS) ./pkg/presence ./cmd/presence

bench: ## all benchmarks, a quarter of an hour on two cores (make bench BENCH=Storm for one)
	go test -run '^$$' -bench '$(BENCH)' -benchtime 1x -timeout 1h -p 1 $(ARGS) ./pkg/presence ./cmd/presence

fuzz: ## each fuzz target in turn, FUZZTIME=30s
	@set -e; listed=$$(go test -list '^Fuzz' ./...); \
	targets=$$(echo "$$listed" | awk '/^Fuzz/ { f[n++] = $$1 } $$1 == "ok" { while (n) print $$2 ":" f[--n] }'); \
	for target in $$targets; do \
		echo "--- $$target"; \
		go test -run '^$$' -fuzz "^$${target##*:}\$$" -fuzztime $(FUZZTIME) "$${target%:*}"; \
	done

image: ## the container image, as presence:latest
	$(DOCKER) build --build-arg VERSION=$(VERSION) -t presence:latest .
