# One command each, on a machine with Python 3.11 and pip. Everything is installed into .venv, once.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format bench matrix soak clean

help:  ## what there is to do
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## */  make \1\t/' | expand -t 18

install: $(STAMP)  ## the virtual environment with everything in it

# A Python without ensurepip (Debian without python3-venv) gets pip through its own pip.
$(STAMP): pyproject.toml provider.toml
	@echo "installing into $(VENV), once; that takes about a minute"
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV) >/dev/null 2>&1 || \
		{ $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip -q --python $(BIN)/python install pip; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

demo: $(STAMP)  ## the development lattice and all fifteen operations, in under a minute
	$(BIN)/keyvalue-nats demo $(ARGS)

test: $(STAMP)  ## every test this machine allows
	$(BIN)/python -m pytest $(ARGS)

lint: $(STAMP)  ## style, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(STAMP)  ## put the code into the project's form
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(STAMP)  ## how fast and how big, with yardsticks from the same run
	$(BIN)/python -m tests.bench $(ARGS)

matrix: $(STAMP)  ## the conformance tests once per nats-server version
	$(BIN)/python tests/matrix.py $(ARGS)

soak: $(STAMP)  ## fault rounds on a cluster, what callers saw checked for linearizability; ARGS="--rounds 100"
	$(BIN)/python -m tests.soak $(ARGS)

clean:  ## remove what the other commands made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .matrix .soak .coverage .coverage.* build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
