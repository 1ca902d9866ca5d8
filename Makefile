# The words of this repository. CI runs the same ones: see .ci/run.
# ARGS passes arguments on: make simulate ARGS="--sites 3 model=densenet121"

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help venv simulate test test-all pythons check fix docs man wheel-test lock release benchmarks clean

is_new_enough := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell for name in python3.11 python3; do \
	$$name $(is_new_enough) 2>/dev/null && echo $$name && break; done)
BIN := .venv/bin
READY := .venv/.ready
ARGS ?=
# A file of tests stays in one process: its fixtures are made once. More than four share too little.
# tests/conftest.py has the order: few long tests first, so that no process is left with them.
SIDE_BY_SIDE := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# Files of tests lie in memory where there is room and programs may run: a study waits for the disk
# hundreds of times. Folders of tests that passed are deleted at once.
is_roomy := test "$$(df --output=avail /dev/shm | tail -n 1)" -gt 8000000 && \
	! grep -Eq '^[^ ]+ /dev/shm [^ ]+ [^ ]*noexec' /proc/mounts
IN_MEMORY := $(shell { $(is_roomy); } 2>/dev/null && echo PYTEST_DEBUG_TEMPROOT=/dev/shm)
TIDY := -o tmp_path_retention_policy=failed

# The versions that are supported, and the quick tests that touch every library fedmri stands on.
PYTHONS := 3.11 3.12 3.13
QUICK := tests/test_packaging.py tests/test_config.py tests/test_errors.py tests/test_wire.py \
	tests/test_codec.py tests/test_cli.py tests/data tests/models tests/strategies tests/training

help: ## Show these words
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 16

venv: $(READY) ## Make .venv with the pinned versions (all other words do it when needed)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { \
		echo "fedmri needs Python 3.11 or newer: found neither python3.11 nor such a python3." \
			"To fix: apt install python3 python3-venv, or make PYTHON=/path/to/python" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make environments. To fix: apt install python3-venv" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

simulate: $(READY) ## Train one model over five simulated hospitals and write a report
	$(BIN)/fedmri simulate --sites 5 $(ARGS)

# Processes side by side fill the cores: a second thread in each of them would only be in the way.
test test-all: export OMP_NUM_THREADS := 1
# Compiled tests are kept for the next run, also on a machine whose default forbids it.
test test-all: export PYTHONDONTWRITEBYTECODE :=

test: $(READY) ## Run the tests, but for those marked slow
	$(IN_MEMORY) $(BIN)/python -m pytest -m "not slow" $(TIDY) $(SIDE_BY_SIDE) $(ARGS)

test-all: $(READY) ## Run all tests, those on Ray too
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,ray,docs,release,track]'
	$(BIN)/python -m pytest $(ARGS)

pythons: export OMP_NUM_THREADS := 1
pythons: ## Run quick tests on every supported Python that is installed, each in .venv-VERSION
	@set -e; for version in $(PYTHONS); do \
		python$$version -c '' 2>/dev/null || { echo "Python $$version is not installed"; continue; }; \
		test -x .venv-$$version/bin/python || python$$version -m venv .venv-$$version; \
		.venv-$$version/bin/python -m pip install --quiet --disable-pip-version-check \
			-c constraints.txt -e '.[dev]'; \
		.venv-$$version/bin/python -c 'import fedmri'; \
		.venv-$$version/bin/python -m pytest -m "not slow" $(SIDE_BY_SIDE) $(QUICK) $(ARGS); \
	done

check: $(READY) ## Check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fix: $(READY) ## Put format and lint right where a machine can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY) ## Build the documentation into site/; a dead link ends it
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

man: $(READY) ## Write a manual page of each command into man/
	$(BIN)/python -m docs.generate.man man

wheel-test: $(READY) ## Build the wheel and use it in a clean environment, from another folder
	.ci/wheel_test.sh $(BIN)/python

lock: $(READY) ## Write requirements.lock anew: what users get, with the hash of every file
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-annotate --no-header -c constraints.txt pyproject.toml -o requirements.lock

release: $(READY) ## Build wheel, sdist, bill of materials (CycloneDX) and their hashes into dist/
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[release]'
	rm -rf dist build
	$(BIN)/python -m build --outdir dist
	cp constraints.txt requirements.lock dist
	$(BIN)/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml \
		--mc-type library --output-reproducible --of JSON -o dist/fedmri.cdx.json
	cd dist && sha256sum -- * > SHA256SUMS

benchmarks: $(READY) ## Measure speed and memory (minutes)
	$(BIN)/python benchmarks/run.py $(ARGS)

clean: ## Remove builds and caches; .venv and runs stay
	rm -rf build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage htmlcov
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
