# Chunkwise: everything that is done with this repository. `make` alone lists it.
# Needs make and a Python 3.11 or newer; what else is needed is installed into .venv* below this folder.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The first that starts, is new enough and can make virtual environments. 3.13 to 3.11 are the versions that are tested.
# Say `make PYTHON=/path/to/python ...` for another one.
ifndef PYTHON
PYTHON := $(shell for python in python3.13 python3.12 python3.11 python3 python3.14 python; do \
	"$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& "$$python" -c 'import sys; print(sys.executable)' && break; done)
endif

RUN := .venv/bin/python
# Options for the command behind `demo`, `up`, `test`, `test-all` and the benchmarks: make demo ARGS="--records 5000"
ARGS ?=

.PHONY: help
help: ## list the commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: check-python
check-python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "There is no Python 3.11 or newer with the modules venv and ensurepip on PATH." >&2; \
		echo "Install one (Debian, Ubuntu: apt install python3 python3-venv), or name it: make PYTHON=/path/to/python3.12" >&2; \
		exit 1; \
	elif ! "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
		echo "$(PYTHON) is not a Python 3.11 or newer. Name another one: make PYTHON=/path/to/python3.12" >&2; \
		exit 1; \
	fi

.PHONY: install
install: check-python ## make .venv: Airflow, this project and its tools, as constraints/dev.txt pins them
	@"$(PYTHON)" dev/venv.py dev

.PHONY: localstack
localstack: install ## make .venv-localstack: S3, SQS and more on this machine, without Docker
	@"$(PYTHON)" dev/venv.py localstack

.PHONY: demo
demo: install localstack ## run example DAGs, with Lambda functions, under Airflow, and show what landed on S3
	@$(RUN) -m dev.demo $(ARGS)

.PHONY: up
up: install localstack ## start Airflow with its UI, the example DAGs and the services, until Ctrl-C
	@$(RUN) -m dev.up $(ARGS)

# Two processes, each with servers of its own; the tests of one file stay together.
SIDE_BY_SIDE = --numprocesses 2 --dist loadfile

.PHONY: test
test: install localstack ## run the test suite
	@$(RUN) -m pytest $(SIDE_BY_SIDE) --hypothesis-profile quick -m "not long" $(ARGS)

.PHONY: test-all
test-all: install localstack ## run the test suite and the long suites
	@$(RUN) -m pytest $(SIDE_BY_SIDE) $(ARGS)

.PHONY: lint
lint: install ## check style, types and the layers' import rules
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	.venv/bin/lint-imports

.PHONY: format
format: install ## mend what ruff can mend
	$(RUN) -m ruff check --fix-only .
	$(RUN) -m ruff format .

.PHONY: bench
bench: install localstack ## measure the ingest side by side with its peers (takes a while)
	@"$(PYTHON)" dev/venv.py bench
	@$(RUN) -m benchmarks $(ARGS)

.PHONY: bench-dispatch
bench-dispatch: install localstack ## measure large files side by side with pandas and Polars
	@"$(PYTHON)" dev/venv.py bench
	@$(RUN) -m benchmarks.dispatch $(ARGS)

.PHONY: bench-fan-out
bench-fan-out: install localstack ## measure what Airflow takes for chunks in Lambda functions
	@$(RUN) -m benchmarks.fan_out $(ARGS)

# Pins that are there stay, unless they no longer fit; `make lock UPGRADE=--upgrade` takes the newest.
UPGRADE ?=
COMPILE = .venv/bin/uv pip compile --quiet $(UPGRADE) --universal --python-version 3.11 \
	--no-emit-index-url --no-header --no-annotate
.PHONY: lock
lock: install ## pin again what constraints/*.in and pyproject.toml ask for
	$(COMPILE) --all-extras pyproject.toml constraints/dev.in --output-file constraints/dev.txt > /dev/null
	$(COMPILE) --overrides constraints/localstack-overrides.txt constraints/localstack.in \
		--output-file constraints/localstack.txt > /dev/null
	$(COMPILE) constraints/bench.in --output-file constraints/bench.txt > /dev/null
	for profile in jsonl full delta; do \
		.venv/bin/uv pip compile --quiet $(UPGRADE) --python-version 3.12 --python-platform linux --only-binary :all: \
			--generate-hashes --no-emit-index-url --no-header --no-annotate --constraint constraints/dev.txt \
			constraints/lambda-$$profile.in --output-file provider/chunkwise/packaging/locks/$$profile.txt \
			> /dev/null; \
	done

.PHONY: clean
clean: ## remove the environments and everything else that these commands have made
	rm -rf .venv .venv-localstack .venv-bench .chunkwise dist build
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find provider tests dev benchmarks dags -name __pycache__ -prune -exec rm -rf {} +
