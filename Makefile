# Everything that is done in this checkout. It needs Python 3.11 or newer, and for the Collector and Jaeger Go 1.25 or
# newer; the rest is installed into .venv by the targets that need it.

PYTHON ?= python3

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python --editable .
CHECK := $(BIN)/python -m tools.check

.DEFAULT_GOAL := help
.PHONY: help demo test venv format lint types unit docs reference matrix bench collector jaeger fleet collector-build clean

help: ## print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/.demo ## watch an agent run into its budgets, with a scripted model and no keys
	@$(BIN)/otel-steps demo

test: $(VENV)/.dev ## all gates and all tests, summed up at the end; half an hour on two cores, the first time ten minutes more
	@$(CHECK)

venv: $(VENV)/.dev ## install the package and all that development needs into .venv

format: $(VENV)/.dev ## format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix --select I .

lint: $(VENV)/.dev ## formatting, linting and which module may import which
	@$(CHECK) format lint imports

types: $(VENV)/.dev ## mypy, pyright and the completeness of the public types
	@$(CHECK) types-mypy types-pyright types-complete

unit: $(VENV)/.dev ## unit tests and vectors
	@$(CHECK) unit

docs: $(VENV)/.dev ## build the site into build/site, run what README and docs show, and check their links
	@$(CHECK) reference site docs

reference: $(VENV)/.dev ## write docs/reference from the code
	@$(BIN)/python docs/generate.py

matrix: $(VENV)/.dev ## real clients, frameworks and instrumentations against a scripted provider
	@$(BIN)/python -m pytest tests/matrix -vv

bench: $(VENV)/.dev ## what a step costs beside a bare span
	@$(BIN)/python -m tests.benchmarks

collector: ## run a Collector for development (built first, minutes the first time)
	@$(PYTHON) collector-config/build.py run collector

jaeger: ## run Jaeger (built first, minutes the first time)
	@$(PYTHON) collector-config/build.py run jaeger

fleet: $(VENV)/.uv ## run Collector, Jaeger, Redis and a Prometheus-compatible server (built first, minutes the first time)
	@$(PYTHON) collector-config/fleet/run.py

collector-build: ## build the Collector and Jaeger into the cache
	@$(PYTHON) collector-config/build.py all

clean: ## remove what these targets made in the checkout
	rm -rf $(VENV) .venvs build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Each file below says that a set of packages is installed; a change of pyproject.toml installs it again.

$(VENV)/.uv:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version if sys.version_info < (3, 11) else 0)'
	@echo "Making $(VENV) and installing the package (less than a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@touch $@

$(VENV)/.demo: $(VENV)/.uv pyproject.toml
	@$(INSTALL) --group demo
	@touch $@

$(VENV)/.dev: $(VENV)/.uv pyproject.toml
	@$(INSTALL) --group dev
	@touch $(VENV)/.demo $@
