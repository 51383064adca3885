.DEFAULT_GOAL := help
SUITES := lint sanity unit integration molecule e2e corpora faults
.PHONY: help setup demo test fmt bench clean $(SUITES)

help: ## Show the targets
	@grep -hE '^[a-z$$()A-Z]+:.*## ' $(MAKEFILE_LIST) | sed -e 's/\$$(SUITES)/$(SUITES)/' -e 's/:.*## /\t/' | expand -t 60

setup: ## Make .venv with everything that demo, tests and linters need
	@scripts/setup

demo: ## Run Phase Alpha on two throw-away clusters, no container needed
	@scripts/setup demo
	@scripts/demo

test: setup ## Run every suite but corpora and faults
	@.venv/bin/python scripts/test

$(SUITES): setup ## Run one suite
	@.venv/bin/python scripts/test $@

fmt: setup ## Format the Python files, and fix what the linter can fix
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

bench: setup ## Compare with a plain shell driver on a database of production's size
	@scripts/bench

clean: ## Remove what the targets made in this checkout, and stop the engine that they started
	@scripts/engine stop
	@rm -rf .venv .cache .ansible .hypothesis .mypy_cache .pytest_cache .ruff_cache artefacts build
