# make train | test | lint | lab; each sets up what it needs first, once.
# ARGS go to the command behind a target: make train ARGS="-p loss ce -p seed 1"

PYTHON ?= $(shell for python in python3.12 python3.11 python3; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
	2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
READY := .venv/ready

.PHONY: setup train test lint format lab

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: needs Python 3.11 or 3.12 with venv; name one with PYTHON=" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@$(BIN)/python -m tcl_lib.environment
	@touch $@

train: setup
	@mkdir -p runs
	$(BIN)/papermill --kernel python3 notebooks/train.ipynb runs/train.ipynb $(ARGS)

test: setup
	$(BIN)/python -m pytest $(ARGS)

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lab: setup
	$(BIN)/jupyter lab --notebook-dir notebooks $(ARGS)
