# Llamero. `make help` lists the targets.

# BACKEND chooses the llama.cpp libraries: cpu, cuda, vulkan, metal; empty is the
# machine's default. ARGS go to `llamero serve`, or to `llamero bench`; PEER is
# llama-server's binary, or the URL of any OpenAI-compatible server. DISTILL is the
# folder of a distillation; DISTILL_PYTHON a Python that has what it needs, PyTorch
# above all (models/distill/README.md): without one, 2.9 GB are installed for it.
BACKEND ?=
ARGS ?=
PEER ?=
FUZZTIME ?= 20s
SOAK ?= 10m
SEEDS ?= 200000
# The tests of faults that `make faults` runs; make faults FAULTS=TestOverload runs one.
FAULTS ?= ^(TestEngineKilled|TestEngineStopped|TestPoison|TestBadRequests|TestSchemathesis|TestLeavers|TestSlowReaders|TestOverload|TestRedisFaults|TestRedisLies|TestDrainCrowd|TestSlowloris|TestTenantsByTime|TestSoak|TestStartFaults)$$
DISTILL ?= .cache/distill
DISTILL_PYTHON ?=

bin      := bin/llamero
backend  := $(if $(BACKEND),--backend $(BACKEND))
sources  := $(shell find . -name '*.go' -not -path './.venv/*' -not -path '*/node_modules/*') go.mod go.sum models/lock.json models/tune/text.txt
venv     := $(CURDIR)/.venv
# Go modules of their own, so that what they need is not among the gateway's: an
# OpenTelemetry Collector for the tests, and tests that need others' parsers.
modules   := deploy/collector deploy/lint
collector := bin/collector
# Tests that run the real model: one after the other, since its threads want the cores to themselves, and always, since
# the binary that they build is not among what the test cache looks at.
heavy    := ./engine/llama ./engine/worker ./server/e2e
# The Python of models/distill, and what makes it.
torch       := $(or $(DISTILL_PYTHON),$(venv)/distill/bin/python)
torch_ready := $(if $(DISTILL_PYTHON),,$(venv)/distill/.done)

.DEFAULT_GOAL := help
.PHONY: help build run files bench bench-peer tune libs model collector test test-distill unit lint vet fuzz simulate faults soak distill deps venv node clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: $(bin) ## build bin/llamero

$(bin): $(sources)
	go build -trimpath -o $@ .

run: files ## fetch what is missing, build, and serve on 127.0.0.1:8080 (ARGS="--slots 8")
	@exec $(bin) serve $(backend) $(ARGS)

files: build # what serving needs and the environment does not name
	@if [ -z "$$LLAMERO_LIB" ]; then $(bin) libs fetch $(backend) >/dev/null; fi
	@if [ -z "$$LLAMERO_MODEL" ]; then $(bin) models fetch $(backend) >/dev/null; fi

# A few minutes on two cores.
small := --workload single,shared,disjoint,ragged --words 128 --tokens 32 --rounds 3 --raw

bench: files ## measure it against the engine alone, the limit (ARGS="--clients 32 --json r.json")
	@exec $(bin) bench $(backend) $(small) $(ARGS)

tune: files ## measure which type the default model is best stored as on this machine (ARGS="--plots plots")
	@exec $(bin) models tune $(backend) $(ARGS)

bench-peer: files ## the same beside a peer (PEER=llama-server|URL)
	@if [ -z "$(PEER)" ]; then echo "bench-peer: PEER=llama-server|URL is wanted" >&2; exit 2; fi
	@exec $(bin) bench $(backend) $(small) --compare --peer $(PEER) $(ARGS)

libs: build ## fetch llama.cpp's libraries (BACKEND=cpu|cuda|vulkan|metal)
	$(bin) libs fetch $(backend)

model: build ## fetch the default model
	$(bin) models fetch $(backend)

collector: $(collector) ## build bin/collector, an OpenTelemetry Collector for the tests

$(collector): $(wildcard deploy/collector/*.go) deploy/collector/go.mod deploy/collector/go.sum
	cd deploy/collector && go build -trimpath -o $(CURDIR)/$@ .

test: deps build collector venv node lint ## run every test but test-distill; installs and fetches what they need
	@$(bin) libs fetch --backend cpu >/dev/null
	@if [ "$$(go env GOOS)/$$(go env GOARCH)" = linux/amd64 ]; then $(bin) libs fetch --backend vulkan >/dev/null; fi
	@$(bin) models fetch --backend cpu >/dev/null
	CI=true \
	LLAMERO_LIB="$$($(bin) libs path --backend cpu)" \
	LLAMERO_LIB_VULKAN="$$($(bin) libs path --backend vulkan 2>/dev/null)" \
	LLAMERO_MODEL="$$($(bin) models path)" \
	LLAMERO_TEST_VENV=$(venv)/template LLAMERO_E2E_VENV=$(venv)/e2e LLAMERO_SCHEMATHESIS_VENV=$(venv)/schemathesis \
	LLAMERO_TEST_COLLECTOR=$(CURDIR)/$(collector) \
	sh -ec 'go test -timeout 10m $$(go list ./... | grep -v -x -F "$$(go list $(heavy))"); go test -count=1 -p 1 -timeout 20m $(heavy)'
# What these read is outside their module, where go test's cache does not look.
	cd deploy/lint && go test -count=1 -timeout 5m ./...

unit: ## run the tests that need neither model nor network
	go test -timeout 5m $$(go list ./... | grep -v -E "/(engine/llama|server/e2e)$$")

lint: vet ## check formatting, go vet, staticcheck
	@files="$$(gofmt -l $(filter %.go,$(sources)))"; [ -z "$$files" ] || { echo "gofmt wants to change: $$files"; exit 1; }
	go tool staticcheck ./...
	@staticcheck="$$(go tool -n staticcheck)"; for dir in $(modules); do \
		(cd $$dir && go vet ./... && "$$staticcheck" ./...) || exit 1; \
	done

vet:
	go vet ./...

fuzz: ## fuzz every fuzz target for FUZZTIME (20s)
	@for pkg in $$(go list ./...); do \
		for f in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "== $$pkg $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x $$pkg || exit 1; \
		done; \
	done

simulate: ## the scheduler through SEEDS (200000) simulated lives, with all that can go wrong
	go test -count=1 -timeout 25h -run '^TestSimulation$$' -v ./scheduler -seeds $(SEEDS)

soak: deps files ## random chats over a small prefix cache for SOAK (10m), memory watched
	CI=true LLAMERO_SOAK=$(SOAK) go test -count=1 -timeout 25h -run '^TestSoak$$' -v ./server/e2e

faults: deps files venv ## every fault at full size, and a table of them (over an hour; FAULTS=TestOverload is one)
	@$(if $(filter file,$(origin FAULTS)),rm -rf bin/faults;) mkdir -p bin/faults
	CI=true LLAMERO_FAULTS=$(CURDIR)/bin/faults LLAMERO_SOAK=30m LLAMERO_SCHEMATHESIS_VENV=$(venv)/schemathesis \
	go test -count=1 -timeout 4h -run '$(FAULTS)' -v ./server/e2e

distill: files $(torch_ready) ## distil drafts of the default model: hours, goes on (ARGS="--shapes 7")
	PYTHONPATH=models/distill $(torch) -m distill run --llamero $(bin) --work $(DISTILL) \
		--teacher "$${LLAMERO_MODEL:-$$($(bin) models path)}" $(ARGS)

test-distill: $(torch_ready) ## test the distillation, on a tiny random model (installs PyTorch)
	PYTHONDONTWRITEBYTECODE=1 $(torch) -m pytest -p no:cacheprovider -c models/distill/pyproject.toml models/distill/tests

deps: # system packages for the tests
	@.ci/deps

venv: $(venv)/template/.done $(venv)/e2e/.done $(venv)/schemathesis/.done # Python packages for the tests, by digest

# venv's own pip is a package of its own on some systems: the system's installs into it.
$(venv)/template/.done: tokenizer/template/testdata/requirements.txt
	@rm -rf $(@D) && python3 -m venv --without-pip $(@D)
	python3 -m pip --python $(@D)/bin/python install -q --disable-pip-version-check --no-deps --require-hashes --only-binary :all: --ignore-requires-python -r $<
	@touch $@

$(venv)/e2e/.done: server/e2e/requirements.txt
	@rm -rf $(@D) && python3 -m venv --without-pip $(@D)
	python3 -m pip --python $(@D)/bin/python install -q --disable-pip-version-check --require-hashes --only-binary :all: -r $<
	@touch $@

$(venv)/schemathesis/.done: server/e2e/schemathesis.txt
	@rm -rf $(@D) && python3 -m venv --without-pip $(@D)
	python3 -m pip --python $(@D)/bin/python install -q --disable-pip-version-check --require-hashes --only-binary :all: -r $<
	@touch $@

$(venv)/distill/.done: models/distill/requirements.txt
	@rm -rf $(@D) && python3 -m venv --without-pip $(@D)
	python3 -m pip --python $(@D)/bin/python install -q --disable-pip-version-check --require-hashes --only-binary :all: -r $<
	@touch $@

node: server/e2e/node/node_modules/.done # npm packages for the tests, by digest

server/e2e/node/node_modules/.done: server/e2e/node/package-lock.json
	cd server/e2e/node && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

clean: ## remove what was built; what was fetched stays in the cache
	rm -rf bin .venv server/e2e/node/node_modules
