# make run: set up, embed the sample corpus, search it. make test: run the tests. make help: list the rest.

PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1

.PHONY: help setup run ui serve test test-slow test-crash check format bench clean

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## Create .venv with everything that is needed

$(STAMP): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, but $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another one: make setup PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[dev]'
	@touch $(STAMP)

run: setup ## Embed the sample corpus and search it
	@$(BIN)/sbert sample data/raw
	@$(BIN)/sbert refresh data/raw data/table --keep-columns kind,text
	@$(BIN)/sbert search data/table "how do I parse a date from a string" -k 3
	@echo "Run it again: no text is encoded twice. See the run in the Prefect UI: make ui, then http://127.0.0.1:4200"

ui: setup ## Start the Prefect UI on http://127.0.0.1:4200
	@PREFECT_SERVER_API_PORT=4200 $(BIN)/prefect server start --host 127.0.0.1

serve: setup ## Start a Prefect server, a worker and all deployments; Ctrl-C stops them
	@$(BIN)/python deployments/serve.py

test: setup ## Run the tests, without the slow ones
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart=0

test-slow: setup ## Run the slow tests (minutes each)
	@$(BIN)/python -m pytest -q -m slow

test-crash: setup ## Run all kill, fault and history tests (about half an hour)
	@$(BIN)/python -m pytest -q tests/crash -m "slow or not slow"

check: setup ## Check lint, formatting and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: setup ## Format the code and apply automatic fixes
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup ## List the benchmarks
	@echo "Run one of these; --help shows its options:"
	@for file in $$(grep -l argparse tests/benchmarks/*.py); do \
		echo "  $(BIN)/python -m tests.benchmarks.$$(basename $$file .py)"; \
		sed -n '1s/^"""/      /p' $$file; \
	done

clean: ## Remove the environment, caches and the sample's data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis data/raw data/table
