# One venv, one set of commands. `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help venv fmt check lint type arch unit test test-cluster test-limiter bench-limiter demo gen clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

venv: $(STAMP)  ## create the virtual environment and install Kerf with its tools into it
$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

fmt: venv  ## format the Python code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only --quiet .

lint: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

type: venv
	$(BIN)/mypy

arch: venv
	$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

unit: venv
	$(BIN)/pytest -m "not cluster and not limiter and not gpu and not slow"

check: lint type arch unit  ## format, lint, types, import contracts, unit tests (the quick loop, < 60 s)

clean:  ## remove what the build made inside the checkout
	rm -rf build dist limiter/build .mypy_cache .ruff_cache .pytest_cache *.egg-info
