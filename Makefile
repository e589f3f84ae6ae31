# SharpKD: `make demo` and `make test` set everything up by themselves.
# PYTHON chooses the interpreter that makes .venv: `make demo PYTHON=python3.12`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SECONDS ?= 3600
READY := $(VENV)/.ready

.PHONY: help setup demo test torture soak lint types check fuzz audit wheel clean
.DEFAULT_GOAL := help

help:  ## Show this list
	@sed -n 's/^\([a-z]*\):.*  ## /\1|/p' Makefile | awk -F'|' '{ printf "  make %-8s %s\n", $$1, $$2 }'

setup: $(READY)  ## Install everything into .venv (again only if pyproject.toml or constraints.txt changed)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "SharpKD needs Python 3.11 or newer: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[train,int8,optuna,parallel,slurm,video,dev]'
	touch $(READY)

demo: $(READY)  ## Train a teacher, distil a student, measure both, sharpen a photo (6 minutes on 2 cores)
	$(BIN)/python -m sharpkd.demo

test: $(READY)  ## Run all tests, a process for each core
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

torture: $(READY)  ## Run the tests that kill, starve and damage for minutes
	$(BIN)/python -m pytest -m torture --timeout 1800

soak: $(READY)  ## Sharpen 20,000 pictures and 30 minutes of video in one process; watch its memory and files
	$(BIN)/python benchmarks/soak/soak.py

lint: $(READY)  ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## Check types
	$(BIN)/mypy

check: lint types test  ## Everything that CI checks

fuzz: $(READY)  ## Look for an hour (SECONDS=3600) for image files that crash the reader, into outputs/fuzz
	$(BIN)/python fuzz/image_files.py --seconds $(SECONDS)

audit: $(READY)  ## Ask an advisory service about every version of constraints.txt (needs a network)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[audit]'
	$(BIN)/python tools/audit.py

wheel: $(READY)  ## Build dist/sharpkd-*.whl
	$(BIN)/python -m hatchling build -t wheel

clean:  ## Remove caches and builds; .venv and outputs/ stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find sharpkd tests -name __pycache__ -type d -prune -exec rm -rf {} +
