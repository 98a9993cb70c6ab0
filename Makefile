# Two commands do it all: `make chat` and `make test`. Both set up what they need in .venv, and are quick the second time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEV_READY := $(VENV)/.ready-dev

.PHONY: chat test test-fast golden lint check bench-cpu clean help

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(READY): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(DEV_READY): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(READY)

chat: $(READY)  ## chat with a language model on the CPU; PROMPT="…" answers once; MODEL=path or hub id
	@$(BIN)/zellige chat $(if $(MODEL),"$$MODEL") $(if $(PROMPT),--prompt "$$PROMPT")

test: $(DEV_READY)  ## all tests
	$(BIN)/python -m pytest -n auto

test-fast: $(DEV_READY)  ## tests that take under a minute together
	$(BIN)/python -m pytest -m "not slow and not model"

golden: $(DEV_READY)  ## put the texts of all messages on record as they are now; read the difference before you commit it
	UPDATE_GOLDEN=1 $(BIN)/python -m pytest -q tests/diagnostics/test_messages.py tests/examples/test_museum.py tests/frontend/test_habits.py \
		tests/examples/test_documentation.py tests/language

lint: $(DEV_READY)  ## style and types
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/mypy

check: $(READY)  ## prove every kernel of the library
	$(BIN)/zellige audit

PEER ?= $(BIN)/python
bench-cpu: $(READY)  ## CPU kernels against PyTorch and NumPy, and MODEL=file.gguf against llama.cpp; PEER=python that has those
	$(BIN)/python benchmarks/cpu/peers.py --peer $(PEER) $(if $(MODEL),--model $(MODEL))
	$(if $(MODEL),$(BIN)/python benchmarks/cpu/versus_llama.py $(MODEL) --peer $(PEER))

clean:  ## remove the environment
	rm -rf $(VENV)
