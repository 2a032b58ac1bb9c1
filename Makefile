# What one does with a checkout. Needs Python 3.11 or newer with pip, and nothing else.
#
#   PYTHON       the interpreter that makes the environment (python3)
#   TORCH_INDEX  one more package index to look for PyTorch in (none); CONTRIBUTING.md says when it helps
#   CONFIG       the experiment that `make run` runs (configs/quick.yaml)
#   MODEL        what `make soak` serves (embedded), for MINUTES (10)
#   WORKERS      how many processes run the tests (2)
#   ADAPTER      what `make bench-serve` serves and `make bench` evaluates (checkpoints/quick/finetuned/best, which
#                `make run` leaves)

PYTHON ?= python3
TORCH_INDEX ?=
CONFIG ?= configs/quick.yaml
MODEL ?= embedded
MINUTES ?= 10
WORKERS ?= 2
ADAPTER ?= checkpoints/quick/finetuned/best

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
LOCK := $(VENV)/lock
BIN := $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
TORCH := $(shell grep '^torch==' requirements.txt)
# By itself and first, so that nothing else is looked for in the extra index.
INSTALL_TORCH = install -qq $(addprefix --extra-index-url ,$(TORCH_INDEX)) $(TORCH)
# A file of tests stays in one process, and with it what its tests share.
SIDE_BY_SIDE = $(BIN)/pytest --numprocesses=$(WORKERS) --dist=loadfile
# Without local versions (+cpu) and the GPU libraries, which PyTorch chooses for each machine.
FREEZE = $(LOCK)/bin/python -m pip freeze --all --exclude pip --exclude-editable | sed -E '/^(nvidia|cuda|triton)/d; s/\+.*//'
# Help texts inside the documents are as wide as the terminal, so the terminal is fixed.
COG = COLUMNS=100 NO_COLOR=1 TERM=dumb $(BIN)/cog --verbosity=1
DOCUMENTS := $(wildcard README.md docs/*.md)

.PHONY: help setup run test test-fast test-tools image-tools monitoring-test image-test lint bench bench-serve soak docs deployment lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.package ## Create .venv and install the pinned requirements and the package

# Made from nothing whenever the pins change, so that it holds what they say and an interrupted install leaves no trace.
$(VENV)/.requirements: requirements.txt requirements-dev.txt
	@rm -rf $(VENV)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "letterwise needs Python 3.11 or newer: install it, or name it with PYTHON=python3.12." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv module is missing: install it (Debian and Ubuntu: apt install python3-venv)." >&2; exit 1; }
	@echo "Installing the requirements into $(VENV); the first time takes a few minutes."
	@$(PYTHON) -m venv $(VENV)
	@if [ "$$(uname -s)" = Linux ] && [ -z "$(TORCH_INDEX)" ] && ! command -v nvidia-smi >/dev/null; then \
	  echo "No NVIDIA GPU found: TORCH_INDEX=https://download.pytorch.org/whl/cpu can spare you the CUDA libraries."; fi
	@$(PIP) $(INSTALL_TORCH) --constraint requirements.txt
	@$(PIP) install -qq --requirement requirements.txt --requirement requirements-dev.txt
	@touch $@

$(VENV)/.package: $(VENV)/.requirements pyproject.toml
	@$(PIP) install -qq --no-deps --editable .
	@$(PIP) check
	@touch $@

run: setup ## Run the experiment: train, evaluate and print the table (CONFIG=configs/quick.yaml)
	$(BIN)/letterwise run --config $(CONFIG)

test: lint test-tools ## Run every check: style, types, documents and all tests, the slow ones too
	$(if $(CAN_INSTALL),TEST_PROGRAMS=required) $(SIDE_BY_SIDE) -ra --durations=10

# Debian package and the program in it, for each that some tests need. Where they can be installed, a test that lacks one
# fails; elsewhere it is skipped, and says so.
TEST_TOOLS := chromium:chromium poppler-utils:pdftotext prometheus:promtool prometheus-alertmanager:amtool \
  prometheus-node-exporter:prometheus-node-exporter docker-compose:docker-compose kubernetes-client:kubectl \
  curl:curl openssl:openssl
IMAGE_TOOLS := buildah:buildah debootstrap:debootstrap
CAN_INSTALL := $(shell [ "$$(id -u)" = 0 ] && command -v apt-get)

test-tools: ## Install the programs that some tests need, where this is root on Debian or Ubuntu
	$(call install_tools,$(TEST_TOOLS))

image-tools:
	$(call install_tools,$(IMAGE_TOOLS))

# RUNLEVEL keeps Debian from starting Prometheus and its kin as services.
define install_tools
@missing=; for tool in $(1); do command -v "$${tool#*:}" >/dev/null || missing="$$missing $${tool%:*}"; done; \
if [ -n "$$missing" ] && [ -n "$(CAN_INSTALL)" ]; then \
  apt-get update -qq; export RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive; for package in $$missing fonts-dejavu-core; do \
  apt-get install -yqq --no-install-recommends $$package >/dev/null || echo "$$package cannot be installed here."; done; fi
endef

test-fast: setup ## Run the tests that take seconds
	$(SIDE_BY_SIDE) -m "not slow"

monitoring-test: setup test-tools ## Break a watched service in several ways; see alerts fire, arrive once, resolve
	MONITORING_TEST=1 TEST_PROGRAMS=required $(BIN)/pytest -s tests/deployment/test_monitoring.py tests/deployment/test_faults.py

image-test: setup image-tools ## Build the image with buildah and ask it a question (root on Debian; buildah, debootstrap)
	IMAGE_TEST=1 TEST_PROGRAMS=required $(BIN)/pytest -ra tests/deployment/test_image.py

lint: setup ## Check style, types, and that the documents are up to date
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(COG) --check --diff --check-fail-msg="Run 'make docs' and commit the result." $(DOCUMENTS)

bench: setup ## Measure training, evaluation (ADAPTER= if it is there) and data building, then write docs/performance.md anew
	$(BIN)/python benchmarks/training_speed.py
	$(BIN)/python benchmarks/quick_run.py
	$(BIN)/python benchmarks/evaluation_speed.py $(if $(wildcard $(ADAPTER)),--adapter $(ADAPTER))
	$(BIN)/python benchmarks/data_building.py
	$(BIN)/python benchmarks/evaluation_memory.py
	$(BIN)/python benchmarks/scaling.py
	$(MAKE) docs

# The engines that letterwise is measured beside; the last takes minutes to compile.
$(VENV)/.bench: $(VENV)/.package
	@$(PIP) install -qq --constraint requirements.txt --editable '.[bench]'
	@touch $@

bench-serve: setup $(VENV)/.bench ## Measure the service: engines, the plain stack, overload, spell check (ADAPTER=), fuzzing, soak
	$(BIN)/python benchmarks/engines.py
	$(BIN)/python benchmarks/serve.py --model $(ADAPTER)
	$(BIN)/python benchmarks/serve_overload.py --model $(ADAPTER)
	$(BIN)/python benchmarks/spell_check.py
	$(BIN)/pytest tests/api/test_openapi_fuzzing.py
	$(BIN)/python benchmarks/serve_soak.py --model $(ADAPTER) --minutes $(MINUTES)

soak: setup ## Ten minutes of mixed load with faults against the service (MODEL=, MINUTES=)
	$(BIN)/python benchmarks/serve_soak.py --model $(MODEL) --minutes $(MINUTES)

docs: setup ## Write the generated parts of README.md and docs/ anew
	$(BIN)/python docs/performance_figures.py
	$(BIN)/python docs/final_run_figure.py
	$(COG) -r $(DOCUMENTS)

deployment: setup ## Write the generated parts of deployment/ anew: dashboards, the operator's rules, overlays' settings
	$(BIN)/python deployment/generate.py

lock: ## Pin the newest versions that pyproject.toml allows; PyTorch stays at its pin, which is moved by hand
	$(PYTHON) -m venv --clear $(LOCK)
	$(LOCK)/bin/python -m pip $(INSTALL_TORCH)
	$(LOCK)/bin/python -m pip install -qq --editable .
	{ grep '^#' requirements.txt; $(FREEZE); } > $(LOCK)/pins
	mv $(LOCK)/pins requirements.txt
	$(LOCK)/bin/python -m pip install -qq --editable '.[dev]'
	{ grep '^#' requirements-dev.txt; $(FREEZE) | grep -vxFf requirements.txt; } > $(LOCK)/pins
	mv $(LOCK)/pins requirements-dev.txt
	rm -rf $(LOCK)

clean: ## Remove the environment, caches and builds; results/ and checkpoints/ stay
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
