# Every verb is one line; `make serve` and `make test` install what they need on a bare machine (Python 3.11, make).
SHELL := /bin/bash
PYTHON ?= python3
PORT ?= 8700
VENV := .venv
BIN := $(VENV)/bin

.PHONY: serve test check bench sparring clean help

help:            ## what can be made here
	@grep -hE '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/'

$(VENV)/.core: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.core pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

serve: $(VENV)/.core  ## the endpoint on http://127.0.0.1:$(PORT)/v1, no key needed
	$(BIN)/stretto serve --port $(PORT)

test: $(VENV)/.dev  ## the whole test suite
	$(BIN)/python -m pytest

check: $(VENV)/.dev  ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
