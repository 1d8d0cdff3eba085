# Every verb is one line; `make serve` and `make test` install what they need on a bare machine (Python 3.11, make).
SHELL := /bin/bash
PYTHON ?= python3
PORT ?= 8700
VENV := .venv
BIN := $(VENV)/bin
TRAIN := .venv-train
# The index of torch's CPU builds, from the install page of PyTorch; without it pip may take the CUDA build and several GB
TORCH_INDEX ?=

.PHONY: serve test check bench prove clients sparring matrix help

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

check: $(VENV)/.dev  ## lint, format, types, layers, exports, import cost, sizes, docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py tests/test_exports.py tests/test_import_cost.py tests/test_sizes.py tests/test_docs.py

bench: $(VENV)/.dev  ## what a call through Stretto costs, beside nginx and LiteLLM where they are installed
	$(BIN)/python bench/overhead.py

prove: $(VENV)/.dev  ## the long proofs: 50 kills, 200 callers on one ceiling, callers who leave (a minute)
	$(BIN)/python -m bench.prove

clients: $(VENV)/.dev  ## the clients that people use, through every policy (half an hour; installs them under .bench/, needs node)
	$(BIN)/python -m bench.clients.sdks
	$(BIN)/python -m bench.clients.langchain

$(TRAIN)/.train: pyproject.toml
	$(PYTHON) -m venv $(TRAIN)
	$(TRAIN)/bin/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -e '.[train]'
	@touch $@

sparring: $(TRAIN)/.train  ## train the sparring models anew from their seeds (about an hour of CPU), and ship them
	$(TRAIN)/bin/stretto sparring train --all

matrix: $(TRAIN)/.train  ## measure the sparring models anew, into docs/ (40 CPU-minutes; a stopped run goes on)
	$(TRAIN)/bin/python recipes/sparring_matrix.py --docs docs $(if $(wildcard sparring-weights/*.pt),--trained sparring-weights)
