# Two commands do everything on a machine with Python >= 3.11 and make:
#
#   make demo    install into .venv, run one experiment, show the record
#   make test    install into .venv, check style, types and imports, run the tests
#
# A build of torch without CUDA, for example from a wheel or from an index of your choice:
#
#   make demo TORCH=./torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl
#   make demo TORCH_FLAGS="--index-url URL"

PYTHON ?= python3
TORCH ?= $(shell grep '^torch==' requirements.txt)
TORCH_FLAGS ?=
PYTEST_FLAGS ?= -n 2

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALLED := $(VENV)/.installed

.PHONY: demo test check soak docs clean

demo: $(INSTALLED)
	@$(BIN)/research-eval run examples/configs/moe_demo.json
	@$(BIN)/research-eval runs show last
	@echo
	@echo "For a shell in which 'research-eval' is a command:  . $(BIN)/activate"

# The tests share two cores at most; one thread each keeps them from waiting for each other.
test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_FLAGS)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

soak: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_FLAGS) -m slow

docs: $(INSTALLED)
	$(BIN)/python docs/generate.py

# Everything that can be made again; never a result.
clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Torch comes first and by its exact version: a looser requirement of another package could
# pull in a second build of it, which is gigabytes.
$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "research-eval needs Python 3.11 or newer as '$(PYTHON)'; name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; \
	  exit 1; }
	@echo "Installing into $(VENV); the first time takes some minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install $(TORCH_FLAGS) $(TORCH)
	@$(PIP) install -r requirements.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
