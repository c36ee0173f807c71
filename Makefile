# Everything is run from here. `make help` lists the targets.
#
# build, demo, run and test need Go and Git (test a C compiler too). generate and lint install what they
# need into .tools/, at the versions that tools/go.mod and tools/package.json pin.

SHELL := /bin/bash -o pipefail
GO ?= go
TOOLS := $(CURDIR)/.tools/bin
BUF := tools/node_modules/.bin/buf
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -X main.version=$(VERSION)

.DEFAULT_GOAL := help

.PHONY: help
help: ## Lists the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

.PHONY: build
build: ## Builds bin/understudy.
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/understudy ./server

.PHONY: demo
demo: build ## Shows the main job: a sync, the same without the user, and the retry.
	bin/understudy demo

.PHONY: run
run: build ## Serves on loopback with a simulated tenant, to play with grpcurl.
	bin/understudy playground

.PHONY: test
test: ## Runs all tests with the race detector.
	$(GO) test -race -parallel 8 -timeout 8m ./...

.PHONY: chaos
chaos: ## Kills replicas, nodes and servers at random for DURATION (10m), 200 kills beside it (KILLS).
	UNDERSTUDY_CHAOS_DURATION=$(or $(DURATION),10m) UNDERSTUDY_CHAOS_KILLS=$(or $(KILLS),200) UNDERSTUDY_CHAOS_ROUNDS=$(or $(ROUNDS),1000) \
		$(GO) test -count 1 -run '^(TestChaosOfReplicas|TestKilledServer|TestFrozenReplica|TestTwoReplicasStartAtOnce)$$' -v -timeout 0 ./server | grep -v '^==='
	$(GO) test -count 1 -run '^TestDeltaIsAsGoodAsFull$$' -timeout 0 ./internal/simulator -rapid.checks=$(or $(CHECKS),200)

.PHONY: bench
bench: $(TOOLS)/benchstat ## Runs the benchmarks; each reports a ratio to a floor of the same run.
	@mkdir -p bin
	$(GO) test -run '^$$' -bench . -benchtime $(or $(BENCHTIME),3x) -count $(or $(COUNT),1) ./... | tee bin/bench.txt
	@$(TOOLS)/benchstat bin/bench.txt

.PHONY: bench-peer
bench-peer: ## Measures a sync beside a reader that asks one request at a time, and prints the ratio.
	@$(GO) test -run '^$$' -bench '^BenchmarkPeer$$' -benchtime $(or $(BENCHTIME),3x) ./server | tee /dev/stderr | \
		awk '/^BenchmarkPeer/ { for (i = 2; i < NF; i++) if ($$(i + 1) == "x-faster-than-peer") ratio = $$i } \
			END { if (!ratio) exit 1; printf "\nA sync takes 1/%.0f of the time of a serial reader.\n", ratio }'

.PHONY: bench-sizing
bench-sizing: ## Measures the numbers of docs/operations.md, Sizing: start, memory, delivery, replicas (five minutes).
	$(GO) test -run '^$$' -bench '^(BenchmarkStartWithHistory|BenchmarkReplicas)$$' -benchtime $(or $(BENCHTIME),5x) -timeout 30m ./server
	$(GO) test -run '^$$' -bench '^(BenchmarkDelivery|BenchmarkAppendToDelivery)$$' -benchtime $(or $(BENCHTIME),5x) -timeout 30m ./internal/edge

.PHONY: bench-large
bench-large: ## Measures syncs of 10,000, 100,000 and 1,000,000 items (half an hour): see docs/benchmarks.md.
	UNDERSTUDY_BENCH_ITEMS=$(or $(ITEMS),"10000,100000,1000000") $(GO) test -run '^$$' -bench '^BenchmarkLargeSync$$' -benchtime 1x -timeout 2h ./server

.PHONY: generate
generate: $(BUF) $(TOOLS)/protoc-gen-go $(TOOLS)/protoc-gen-go-grpc ## Generates gen/ from proto/, and the pages made from data.
	$(BUF) generate
	$(GO) generate ./...

.PHONY: lint
lint: $(BUF) $(TOOLS)/golangci-lint ## Checks formatting, style, layers, and the contract.
	$(BUF) lint
	$(BUF) breaking proto --against proto/baseline.binpb
	$(BUF) format --diff --exit-code proto
	$(TOOLS)/golangci-lint run ./...

.PHONY: format
format: $(BUF) $(TOOLS)/golangci-lint ## Formats Go and Protobuf.
	$(BUF) format -w proto
	$(TOOLS)/golangci-lint fmt ./...

.PHONY: baseline
baseline: $(BUF) ## Renews proto/baseline.binpb: what `buf breaking` compares with. For releases only.
	$(BUF) build proto -o proto/baseline.binpb

.PHONY: tools
tools: $(BUF) $(TOOLS)/golangci-lint $(TOOLS)/grpcurl $(TOOLS)/gotestsum $(TOOLS)/benchstat ## Installs every tool.

.PHONY: clean
clean: ## Removes what was built.
	rm -rf bin

$(BUF): tools/package.json
	cd tools && npm install --no-audit --no-fund --no-package-lock --loglevel=error
	@touch $@

$(TOOLS)/%: tools/go.mod
	@mkdir -p $(TOOLS)
	cd tools && GOBIN=$(TOOLS) $(GO) install $$($(GO) list -f '{{.ImportPath}}' tool | grep '/$*$$')
	@touch $@
