.DEFAULT_GOAL := help
SUITES := lint sanity unit integration molecule e2e majors corpora matrix faults soak
.PHONY: help setup demo test fmt bench profile clean $(SUITES)

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv with everything that demo, tests and linters need
	@scripts/setup

demo: ## Run Phase Alpha on two throw-away clusters, no container needed
	@scripts/setup demo
	@scripts/demo

test: setup ## Run every suite but corpora, matrix, faults and soak
	@.venv/bin/python scripts/test

$(SUITES): setup
	@.venv/bin/python scripts/test $@

lint: ## Suite: linters, types, role inputs, changelog fragments
sanity: ## Suite: ansible-test sanity on the built collection
unit: ## Suite: unit tests, with an embedded PostgreSQL 16
integration: ## Suite: each module through Ansible, on an embedded cluster
molecule: ## Suite: roles and playbooks in containers
e2e: ## Suite: whole playbooks, on embedded clusters
majors: ## Suite: what depends on the server's version, on another one than 16 each day
corpora: ## Suite: the schema diff on collections of schemas
matrix: ## Suite: demo, unit tests and more on PostgreSQL 14 to 18, or on those of MAJORS
faults: ## Suite: kills, full disks, lost connections; see docs/faults.md
soak: ## Suite: sequences of rehearsals, approvals, executions, rollbacks, kills and what happens to a database; SEQUENCES=300

fmt: setup ## Format the Python files, and fix what the linter can fix
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

bench: setup ## Compare with what a careful operator does by hand: ratios; ROUNDS=3
	@scripts/bench

profile: setup ## Show where the time of a run goes: tables and a flame graph in build/profile
	@scripts/profile

clean: ## Remove what the targets made in this checkout, and stop the engine that they started
	@scripts/engine stop
	@rm -rf .venv .cache .ansible .hypothesis .mypy_cache .pytest_cache .ruff_cache artefacts build
