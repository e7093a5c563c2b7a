# Everything happens in .venv; its stamp is newer than pyproject.toml once the packages are there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOAD_STAMP := $(VENV)/.installed-load
DEV_STAMP := $(VENV)/.installed-dev
# Processes that share the tests, which wait more than they work.
TESTERS ?= 3

.DEFAULT_GOAL := help
.PHONY: help run serve test check load compare drill format clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(STAMP)  ## install what is needed and start a server to try: Ctrl-C ends it
	$(BIN)/mim serve --dev

serve: $(STAMP)  ## start a server with your settings (MIM_* variables, mim.toml)
	$(BIN)/mim serve

test: $(DEV_STAMP)  ## run the tests, TESTERS of them at once; ARGS="-k name" chooses some
	$(BIN)/pytest $(or $(ARGS),-n $(TESTERS))

check: $(DEV_STAMP)  ## lint, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

load: $(LOAD_STAMP)  ## measure a private server: chat, group, idle, login, bytes on the wire; ARGS="storm --users 500" chooses
	$(if $(ARGS),$(BIN)/python -m loadtest $(ARGS),for scenario in chat group idle login wire; do $(BIN)/python -m loadtest $$scenario || exit 1; done)

compare: $(LOAD_STAMP)  ## measure this server and ejabberd by turns, and write the table into docs/performance.md
	$(BIN)/python -m loadtest compare --page docs/performance.md $(ARGS)

drill: $(DEV_STAMP)  ## break a small cluster on purpose, fault by fault; ARGS="--only redis" chooses some
	$(BIN)/python -m tests.faults.drill $(ARGS)

format: $(DEV_STAMP)  ## put the sources into shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:  ## remove the environment and caches, not your data
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("mim needs Python 3.11 or later; say which with: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# A recipe that fails leaves no stamp. The environment's Python is an order-only need: its time means nothing.
$(STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(LOAD_STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[load]'
	@touch $@ $(STAMP)

$(DEV_STAMP): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(LOAD_STAMP) $(STAMP)
