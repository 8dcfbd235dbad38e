# One command for each task, on a machine with Python 3.11 or newer and pip. The first one installs everything into .venv.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest
ARGS ?=

# Tests wait more than they work, so two at a time on any machine. A file stays together: its tests share servers.
PARALLEL := -n 2 --dist loadfile
CLUSTERS := tests/integration/clusters

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all lint format bench docs matrix soak clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */  make \1\t/' | expand -t 18

install: $(STAMP)  ## create the virtual environment

# At a terminal pip shows what it does. A Python without ensurepip (Debian without python3-venv) installs pip into the environment through its own pip.
$(STAMP): pyproject.toml provider.toml
	@echo "installing into $(VENV), once; that takes about a minute"
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV) >/dev/null 2>&1 || \
		{ $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip -q --python $(BIN)/python install pip; } || \
		{ echo "$(PYTHON) has neither ensurepip nor pip; on Debian: apt install python3-venv" >&2; exit 1; }
	@[ -t 1 ] || quiet=-qq; $(BIN)/python -m pip install $$quiet --disable-pip-version-check --editable '.[test]'
	@$(BIN)/python -m compileall -q provider contracts  # where Python may not write bytecode, each start would compile it
	@touch $@

demo: $(STAMP)  ## start a development lattice and show all operations of actors and components, in under a minute
	$(BIN)/keyvalue-nats demo $(ARGS)

# The marker `slow` and the container tier are left to `test-all`.
test: $(STAMP)  ## run the tests for every change, in under five minutes; ARGS="tests/unit -k claims" for some
	$(PYTEST) $(or $(ARGS),$(PARALLEL) -m "not slow" tests/unit tests/component tests/conformance tests/integration tests/process)

# Clusters and partitions run one at a time: an election on a busy machine takes longer than the test allows.
test-all: $(STAMP)  ## run every test this machine allows, and the conformance tests on older nats-servers
	$(PYTEST) $(PARALLEL) --ignore $(CLUSTERS) tests/unit tests/component tests/conformance tests/integration tests/process
	$(PYTEST) $(CLUSTERS) tests/containers
	$(BIN)/python tests/matrix.py 2.10.26 2.12.8

lint: $(STAMP)  ## check style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(STAMP)  ## format the code
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(STAMP)  ## measure speed and size, against yardsticks of the same run
	$(BIN)/python -m tests.bench $(ARGS)

docs: $(STAMP)  ## write the generated parts of docs/: settings, statistics, metrics, logs, pictures
	$(BIN)/python -m tests.docs.settings
	$(BIN)/python -m tests.docs.help_pages
	$(BIN)/python -m tests.docs.statistics
	$(BIN)/python -m tests.docs.metrics
	$(BIN)/python -m tests.docs.logs
	$(BIN)/python -m tests.docs.pictures

matrix: $(STAMP)  ## run the conformance tests on each supported nats-server; ARGS="2.12.8" for one
	$(BIN)/python tests/matrix.py $(ARGS)

soak: $(STAMP)  ## play rounds of faults on a cluster and check the calls for linearizability; ARGS="--rounds 100"
	$(BIN)/python -m tests.soak $(ARGS)

clean:  ## remove everything that the other commands have created
	rm -rf $(VENV) .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis .matrix .soak .coverage .coverage.* build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
