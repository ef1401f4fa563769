# `make study` runs the whole study; `make test` tests it. Both set everything up from nothing.
#   make study RUN=c10_compact ARGS='-p n_test 100'
#   make study RUN='c10 c100' PROFILE=slurm
# Without a GPU, `make setup CPU=1` first: torch without CUDA libraries, from PyTorch's own package
# index. `make setup CPU=` brings them back.
RUN ?= digits
ARGS ?=
PROFILE ?=
FORMAT ?= html
SHELL := /bin/bash
# As they were written: neither make nor a shell reads the quotes in them.
export MILIB_RUN := $(value RUN)
export MILIB_ARGS := $(value ARGS)
export MILIB_PROFILE := $(value PROFILE)
export MILIB_FORMAT := $(value FORMAT)
PY := .venv/bin/python
CPU ?= $(if $(wildcard .venv/.ready-cpu),1)
ifeq ($(CPU),1)
READY := .venv/.ready-cpu
OTHER := .venv/.ready
BACKEND := --torch-backend cpu
UNUSED := ^(cuda-|nvidia-|triton==)
INSTALLS := 2.1 GB go into .venv; torch comes from its own package index (download.pytorch.org)
else
READY := .venv/.ready
OTHER := .venv/.ready-cpu
BACKEND :=
UNUSED := ^$$
INSTALLS := 6.6 GB go into .venv (with CPU=1 2.1 GB: without CUDA libraries)
endif
# Their versions are the same with CUDA and without: uv would keep what is there.
SWAP := $(if $(wildcard $(OTHER)),--reinstall-package torch --reinstall-package torchvision)
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# The debugger in the kernels would print a warning into every log.
export PYDEVD_DISABLE_FILE_VALIDATION := 1

.PHONY: setup study report lab app test test-rest test-all lint notebooks bench chaos gpu constraints clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make setup: python3 is older than 3.11: install Python 3.11 or newer")'
	@echo "make setup: $(INSTALLS)"
	@command -v uv >/dev/null || test -x .uv/bin/uv || { python3 -m venv .uv && .uv/bin/pip install -q uv; }
	@UV=$$(command -v uv || echo .uv/bin/uv); export UV_PYTHON_DOWNLOADS=never; \
	test -x $(PY) || $$UV venv -q --python python3 .venv; \
	grep -vE '$(UNUSED)' constraints.txt > .venv/pins.txt; \
	$$UV pip sync -q --python $(PY) --compile-bytecode $(BACKEND) $(SWAP) .venv/pins.txt && $$UV pip install -q --python $(PY) --no-deps -e .
	@rm -f $(OTHER); touch $(READY)

study: setup
	@$(PY) -m milib.study.launch

# The pages of a run in outputs/, else of a curated one: `make report RUN=c10_compact FORMAT=pdf`.
report: setup
	@for run in $$MILIB_RUN; do $(PY) -m milib.report "$$run" --format "$$MILIB_FORMAT" || exit; done

lab: setup
	@jupyter lab --notebook-dir=.

# All explorers of a run as one page without code: `make app RUN=digits`.
app: setup
	@$(PY) -m milib.views.app

lint: setup
	@ruff check . && ruff format --check .

test: lint
	@pytest --nbval -n auto --dist loadfile

# What `make test` leaves out, a file per process; each test says why where it skips.
test-rest: setup
	@pytest tests -rs -n auto --dist loadfile --no-loadscope-reorder --durations 15 -m "slow or browser or slurm"

test-all: test test-rest

# milib beside what a user would pick instead: nothing else should run. The peers live in an
# environment of their own.
bench: .bench/.ready
	@.bench/bin/python -m milib.bench $(ARGS)

.bench/.ready: pyproject.toml constraints.txt | setup
	@UV=$$(command -v uv || echo .uv/bin/uv); export UV_PYTHON_DOWNLOADS=never; \
	test -x .bench/bin/python || $$UV venv -q --python python3 .bench; \
	grep -E '^(torch|torchvision|numpy)==' constraints.txt > .bench/pins.txt; \
	$$UV pip install -q --python .bench/bin/python --compile-bytecode $(BACKEND) -c .bench/pins.txt --group bench -e .
	@touch .bench/.ready

# Kills the study's processes at random moments and inside saves: `make chaos ARGS='--kills 100'`.
chaos: setup
	@$(PY) tests/chaos.py $(ARGS)

# A step of outputs/reference/c10/LEDGER.md with the python that is there: `make gpu STEP=5`.
# Without STEP: the list.
gpu:
	@python milib/study/ledger.py $(STEP)

# Execute every notebook from top to bottom under params/digits.yaml and store the outputs.
notebooks: setup
	@$(PY) -m milib.study.rerun_notebooks

# Pin what pyproject.toml asks for; run after changing it.
constraints:
	@UV=$$(command -v uv || echo .uv/bin/uv); \
	$$UV pip compile pyproject.toml --extra study --extra slurm --group dev --universal --no-header --no-annotate --no-emit-index-url -o constraints.txt -q

clean:
	rm -rf .venv .bench .uv outputs/.snakemake outputs/digits
