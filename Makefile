# One venv, one set of commands. `make help` lists them. A fresh machine needs Python >= 3.11, Go, gcc and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
RUN    := $(BIN)/python -m
# Compiled modules and rewritten assertions are kept between runs: without them every test process makes its own.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' $(firstword $(MAKEFILE_LIST)))

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

venv: $(STAMP)  ## create the virtual environment and install Kerf with its tools into it
$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: venv  ## the main job, end to end, on a real control plane and node on this machine (FLEET=mixed: two nodes, three vendors' cards)
	$(BIN)/kerf demo $(if $(FLEET),--fleet $(FLEET))

test: export KERF_EXAMPLES := 100
test: lint type arch unit chart test-limiter test-page test-cluster  ## every test (the first run builds the control plane)

UNIT := not chart and not cluster and not limiter and not gpu and not browser
QUICK := $(BIN)/pytest -n auto --maxprocesses 4

check: export KERF_EXAMPLES ?= 20
check: lint type arch  ## the quick loop (a minute on two cores): format, lint, types, import contracts, the quick unit tests
	$(QUICK) -m "$(UNIT) and not slow"
	@echo "left out: the $$(grep -vc '^#' tests/slow.txt) slow tests of tests/slow.txt; 'make unit' runs every unit test"

fmt: venv  ## format the Python code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only --quiet .

lint: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

type: venv
	$(BIN)/mypy

arch: venv
	$(BIN)/lint-imports

unit: venv  ## every unit test, the slow ones included (four minutes on two cores)
	$(QUICK) -m "$(UNIT)"

slow-list: venv  ## measure every unit test, and write the list of those that `make check` leaves out
	KERF_EXAMPLES=20 $(RUN) tests.slow

chart: venv  ## the Helm chart and the Dockerfiles: lint, schema, golden renders, every Kubernetes version's schemas
	$(BIN)/pytest -n 2 -m chart tests/chart tests/images

chart-golden: venv  ## render the chart's golden files again
	$(RUN) tests.chart.golden

test-cluster: venv  ## tests on a real control plane and, where it can run, a real node
	$(RUN) sandbox build tested
	$(BIN)/pytest -p no:randomly -p tests.cluster.workers -n 2 -m cluster

browser:  ## install Debian's Chromium, where it may be installed; name it and fail where not
	@command -v chromium >/dev/null || { apt-get update -q && apt-get install -yq --no-install-recommends chromium; } \
	    || { echo "the tests of the page need Debian's chromium: apt-get install chromium" >&2; exit 1; }

test-page: venv browser  ## the live page in a real Chromium: speed, accessibility, rights, screens in build/shots
	$(BIN)/pytest -p no:randomly -m browser tests/browser

chaos: venv  ## bad days on a real control plane, with a verdict each (half an hour; DAYS=name,... runs some, EXPRESS=1 with the express lane on)
	$(RUN) tests.cluster.chaos $(if $(DAYS),--days $(DAYS)) $(if $(EXPRESS),--express)

limiter:  ## build libkerf.so
	$(MAKE) -C limiter all

test-limiter: venv  ## the limiter's tests, sanitizer builds included
	$(MAKE) -C limiter test PYTHON=$(abspath $(BIN)/python)

bench-limiter: venv  ## what a launch and an allocation cost on the fake driver
	$(MAKE) -C limiter bench PYTHON=$(abspath $(BIN)/python)

bench-extender: venv  ## filter and prioritize over real HTTP, beside an empty handler
	$(RUN) benchmarks.extender

bench-stacks: venv  ## HTTP stacks and codecs for the extender, side by side
	$(RUN) benchmarks.stacks

bench-mixed: venv  ## answers and placements on a fleet of six vendors' cards, beside NVIDIA's alone
	$(RUN) benchmarks.mixed

bench-growth: venv  ## answers, memory and CPU from 100 to 20,000 nodes; draws docs/growth.png
	$(RUN) benchmarks.growth

bench-cluster: venv  ## pods a second with the real kube-scheduler, beside a do-nothing extender
	$(RUN) benchmarks.cluster

bench-express: venv  ## pods a second through the express lane, beside a do-nothing extender
	$(RUN) benchmarks.express

bench-quota: venv  ## workloads a second through the real Kueue, quota by hand and by Kerf side by side
	$(RUN) benchmarks.quota

bench-prepare: venv  ## how long a start waits for Kerf, by a claim (DRA) and by the device plugin
	$(RUN) benchmarks.prepare

bench-claims: venv  ## how long the allocation of a claim waits until quota has counted it
	$(RUN) benchmarks.claims

bench-packing: venv  ## openb traces through the production placement code, beside FGD; TRACES=DIR, SEEDS=first-last
	$(RUN) benchmarks.packing --traces $(or $(TRACES),$(error give TRACES=DIR with the openb CSV files)) \
	    $(if $(SEEDS),--seeds $(SEEDS))

bench-fleet: venv  ## plans over 4 and 20 clusters of 1,000 nodes, beside greedy and an even spread
	$(RUN) benchmarks.fleet

bench-planner: venv  ## CP-SAT plans against greedy ones
	$(RUN) benchmarks.planner

# The engines' packages take 10 GB, so they live apart and CI checks the tables instead.
ORACLE := build/oracle
oracle:  ## run transformers, vLLM and CEL, and write the tables that tests check (a quarter of an hour)
	$(PYTHON) -m venv $(ORACLE)
	$(ORACLE)/bin/pip install --quiet --disable-pip-version-check 'vllm==0.33.0' 'transformers==5.20.0' \
	    'gguf==0.19.0'
	cd tests/oracle && $(abspath $(ORACLE))/bin/python parameters.py $(abspath kerf/catalogue/rows) \
	    $(abspath tests/kerf/sizing/oracle)/parameters.json
	cd tests/oracle && $(abspath $(ORACLE))/bin/python planner.py $(abspath kerf/catalogue/rows) \
	    $(abspath tests/kerf/sizing/oracle)/planner.json
	cd tests/oracle && $(abspath $(ORACLE))/bin/python options.py $(abspath tests/kerf/sizing/oracle)/options.json
	$(ORACLE)/bin/pip install --quiet --disable-pip-version-check --no-deps 'sglang==0.5.23' IPython msgspec orjson pybase64 traitlets
	cd tests/oracle && $(abspath $(ORACLE))/bin/python sglang_options.py $(abspath tests/kerf/sizing/oracle)/sglang_options.json
	cd tests/oracle && $(abspath $(ORACLE))/bin/python gguf_files.py $(abspath tests/kerf/sizing/oracle)/gguf.json
	$(ORACLE)/bin/pip install --quiet --disable-pip-version-check --no-deps 'cel-expr-python==0.1.3'
	$(ORACLE)/bin/python tests/oracle/cel_answers.py tests/kerf/wire/oracle/cel.json

fuzz: venv  ## libFuzzer against every decoder, SECONDS (20) each
	$(BIN)/pip install --quiet 'atheris>=3,<4'
	$(BIN)/python tests/fuzz/fuzz.py --seconds $(or $(SECONDS),20)

# Tools that look at what is shipped live in a venv of their own: they must not change what they look at.
TOOLS := build/tools
$(TOOLS)/.installed: Makefile
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --disable-pip-version-check 'uv>=0.13,<1' 'cyclonedx-bom>=7.5,<8' 'pip-audit>=2.10,<3'
	@touch $@

LOCK := $(TOOLS)/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'
lock: $(TOOLS)/.installed  ## lock every dependency with its hashes (UPGRADE=--upgrade for the newest)
	$(LOCK) $(UPGRADE) --output-file requirements/runtime.lock
	$(LOCK) $(UPGRADE) --extra dev --constraints requirements/runtime.lock --output-file requirements/dev.lock

# The SBOM is of what the lock installs, whole and alone: no pip, no tools.
dist/kerf.cdx.json: requirements/runtime.lock pyproject.toml $(TOOLS)/.installed
	rm -rf build/shipped && $(PYTHON) -m venv --without-pip build/shipped
	$(TOOLS)/bin/pip --python build/shipped install --quiet --require-hashes --requirement requirements/runtime.lock
	mkdir -p dist
	$(TOOLS)/bin/cyclonedx-py environment build/shipped --pyproject pyproject.toml --output-reproducible \
	    --output-format JSON --output-file $@

sbom: dist/kerf.cdx.json  ## dist/kerf.cdx.json: what is shipped, as CycloneDX

licences: dist/kerf.cdx.json  ## list the licences of what is shipped; fails on one that is not allowed
	$(PYTHON) requirements/licences.py $<

audit: $(TOOLS)/.installed  ## known vulnerabilities of what is shipped, where the database can be reached
	$(PYTHON) requirements/audit.py $(TOOLS)/bin/pip-audit requirements/runtime.lock

gen: venv  ## make the gRPC stubs again
	$(RUN) grpc_tools.protoc -Ideviceplugin/_pb=proto --python_out=. --pyi_out=. proto/kubelet_*.proto
	$(RUN) grpc_tools.protoc -Ischeduler/usage/_pb=proto --python_out=. --pyi_out=. proto/gateway_*.proto

clean:  ## remove what the build made inside the checkout
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache *.egg-info
	$(MAKE) -C limiter clean
