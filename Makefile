# `make demo` and `make test` need nothing but make and Python 3.11 or newer: they set everything else up in .venv.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install install-peers demo test lint format docs benchmark lock clean

# The first interpreter that is new enough and can make virtual environments. `make PYTHON=/path/to/python` overrides it.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$python; break; }; done)

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PEERS_INSTALLED := $(VENV)/.peers-installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
LOCK_EXTRAS := attacks,report,parquet,serve,timm,dev,docs,hf,peers,tensorboard
DEMO_ARGS ?=
# As many processes as cores, four at most, each with one thread: half of the time of one process with all of them.
PYTEST_ARGS ?= --numprocesses auto --maxprocesses 4 --dist worksteal
BENCHMARK_ARGS ?=

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## Set up .venv: the locked environment, and this project on top of it

install-peers: $(PEERS_INSTALLED)  ## Add the libraries that tests and benchmarks compare with, and transformers

demo: $(INSTALLED)  ## Train a small network, fit the detectors, print the table, write demo-report.html
	$(BIN)/gradiometer demo $(DEMO_ARGS)

test: $(INSTALLED)  ## Run the tests and the examples in the docstrings
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(INSTALLED)  ## Check style, types and the direction of the imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(INSTALLED)  ## Mend what can be mended by a machine
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(INSTALLED)  ## Build the documentation into docs/_build/html
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

benchmark: $(PEERS_INSTALLED)  ## Measure speed and memory against the peers
	$(BIN)/python benchmarks/instrument.py $(BENCHMARK_ARGS)

lock:  ## Resolve the newest allowed versions in a fresh environment and pin them in requirements/
	$(call require-python,$(PYTHON))
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip --disable-pip-version-check install '.[$(LOCK_EXTRAS)]'
	build/lock/bin/python -m pip check
	build/lock/bin/python requirements/lock.py
	rm -rf build/lock

clean:  ## Remove caches, builds and the built documentation (.venv stays)
	rm -rf build dist docs/_build .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find src tests benchmarks docs examples requirements -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

define require-python
@test -n "$(1)" || { \
	echo "Gradiometer needs Python 3.11 or newer with the venv module, and found none on the PATH." >&2; \
	echo "Install one, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
@"$(1)" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' || { \
	echo "$(1) is no Python 3.11 or newer with the venv module; name another: make PYTHON=..." >&2; exit 1; }
endef

# Installed again when the lock or the project's own description changes.
$(INSTALLED): requirements/lock.txt pyproject.toml
	$(call require-python,$(PYTHON))
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -r requirements/lock.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(PEERS_INSTALLED): requirements/peers.txt $(INSTALLED)
	$(PIP) install -r requirements/peers.txt
	@touch $@
