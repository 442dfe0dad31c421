# Every target sets itself up: nothing but Python 3.11+, git and make is needed.
PYTHON ?= python3
BIN := .venv/bin
DATA ?= .acamkd
SEED ?= 0

.DEFAULT_GOAL := help
.PHONY: help setup setup-all demo up down check test test-long format

help:  ## Show what there is to run.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup:
	@$(PYTHON) scripts/setup.py core

setup-all:
	@$(PYTHON) scripts/setup.py all

demo: ## The whole story on made-up street scenes: teacher, kill -9, student alone, ACAM-KD, verified export. SEED=n
	@$(PYTHON) scripts/plan.py
	@$(PYTHON) scripts/setup.py core
	@$(BIN)/python -m cli.demo --data $(DATA)/demo --seed $(SEED)

up: setup ## Start the platform on this machine (Ctrl-C stops it). DATASETS=folder: what jobs may read.
	@$(BIN)/acamkd up --data $(DATA)/home $(if $(DATASETS),--datasets "$(DATASETS)")

down: setup ## Stop what `make up` or `make demo` left running.
	@for folder in $(DATA)/home $(DATA)/demo/home; do [ -d $$folder ] && $(BIN)/acamkd down --data $$folder || true; done

check: setup-all ## Lint, types, import contracts.
	@$(BIN)/python scripts/check.py

test: setup-all ## Everything that takes minutes: check, Python tests, front-end tests, browser tests.
	@$(BIN)/python scripts/test.py

test-long: setup-all ## The long ones: the kill matrix, long contract pairs.
	@$(BIN)/python -m pytest -m long -n 0

format: setup-all ## Format Python and TypeScript.
	@$(BIN)/ruff check --fix -q . && $(BIN)/ruff format -q .
