# `make help` explains every target. All of them set themselves up; nothing needs root.
.DEFAULT_GOAL := help
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3.14 python3; do \
	command -v $$p >/dev/null && $$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SOURCES := producer worker tests deploy docs
# Compiled modules are kept, also where the environment says otherwise: a process of the tests starts in half the time.
export PYTHONDONTWRITEBYTECODE :=
# One test process a core, four at most: the tests start servers of their own.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2); echo $$((n > 4 ? 4 : n)))

.PHONY: help setup demo up unit test test-full test-deploy coverage lint format docs reference oracle chaos drill bench pictures \
	screenshots wheels sbom licences lock clean

# A line that starts with `##@` is a heading of the list, `target: ## text` an entry below it.
help: ## Show this list
	@awk -F ':.*## ' '/^##@ /{printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Start here

setup: $(READY) ## Create .venv with every locked package and both distributions

$(READY): requirements-dev.lock pyproject.toml producer/pyproject.toml worker/pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer with venv was found; install one or run make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e producer -e worker
	@touch $(READY)

demo: $(READY) ## Run everything on this machine against a simulated Trackdesk with faults, and check the books
	$(BIN)/trackdesk up --demo

up: $(READY) ## Run Valkey, a worker and the exporter on this machine until Ctrl-C
	$(BIN)/trackdesk up

##@ Develop

# Property tests of pure code. The others run the store's scripts on real servers.
PURE := $(addprefix tests/property/test_,answers_properties.py conversion_properties.py import_properties.py policy_properties.py)

unit: $(READY) ## Run the tests that need no server (under 30 seconds)
	$(BIN)/python -m pytest -n $(JOBS) -q --hypothesis-profile quick tests/unit $(PURE) $(ARGS)

test: $(READY) ## Run all tests on real servers, without the long ones
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not slow and not deploy" $(ARGS)

coverage: $(READY) ## Run unit and integration tests, and show per package what they execute
	mkdir -p build/coverage
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -q --hypothesis-profile quick --timeout 300 --cov --cov-report=html \
		--cov-report=json tests/unit $(PURE) tests/integration $(ARGS); status=$$?; \
	$(BIN)/python -m tests.tools.coverage_table build/coverage/report.json; exit $$status

lint: $(READY) ## Check format, lint, types and the arrows between modules
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(READY) ## Format the code and fix what ruff can
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

docs: $(READY) ## Build the docs in build/docs; fails on a broken link or an outdated page, needs no network
	$(BIN)/python -m docs.generate --check
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs

reference: $(READY) ## Write the reference pages from the code
	$(BIN)/python -m docs.generate

##@ Prove

test-full: $(READY) ## Run the long tests: 10,000 sales under each profile, slow ones (half an hour)
	TRACKDESK_TEST_SALES=10000 TRACKDESK_TEST_DEAD=50000 TRACKDESK_TEST_BUDGET_SECONDS=180 TRACKDESK_TEST_LONGER=10 \
		$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS) \
		tests/system/test_delivery_under_faults.py tests/system/test_budget_real_time.py \
		tests/integration/test_hours.py tests/property/test_store_state_machine.py tests/chaos

test-deploy: $(READY) ## Build the image and run docker-compose.yml on a dockerd of its own (Linux, root; five minutes)
	$(BIN)/python -m pytest -rsP --no-header tests/deploy/containers $(ARGS)

SEED ?= 1
RUNS ?= 585
LIVES ?= 1000000

oracle: $(READY) ## Let sales live through everything, judged by Trackdesk's ledger (SEED=1 LIVES=1000000: an hour)
	$(BIN)/python -m tests.support.oracle --seed $(SEED) --lives $(LIVES) $(ARGS)

chaos: $(READY) ## Kill processes at named points while the store has a fault (SEED=1 RUNS=585: each combination once)
	$(BIN)/python -m tests.support.crash_matrix --seed $(SEED) --runs $(RUNS) $(ARGS)

drill: $(READY) ## Break what each alert is for; see it fire and resolve in a real Prometheus (20 minutes)
	$(BIN)/python -m tests.tools.drill $(ARGS)

bench: $(READY) ## Measure this machine beside other queues (an hour; ARGS=--short: 12 minutes, ARGS=--quick: a look)
	$(BIN)/python -m tests.benchmarks.compare $(ARGS)

##@ Pictures

pictures: $(READY) ## Draw the pictures of the dashboards, from eight hours in virtual time (a minute)
	$(BIN)/python -m deploy.grafana.generate
	$(BIN)/python -m tests.tools.dashboard_picture

screenshots: $(READY) ## Take the pictures of the console, in a real browser
	TRACKDESK_TEST_SCREENSHOTS=1 $(BIN)/python -m pytest tests/system/test_console_walk.py

##@ Release

wheels: $(READY) ## Build the wheels in dist
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist ./producer ./worker ./worker/trackdesk_simulator

sbom: $(READY) ## Write the bill of materials (CycloneDX) of what is locked to build/sbom.cdx.json
	mkdir -p build
	$(BIN)/python -m tests.tools.supply_chain sbom build/sbom.cdx.json

licences: $(READY) ## Check that every locked package has an allowed licence
	$(BIN)/python -m tests.tools.supply_chain licences

lock: ## Pin the newest allowed versions with hashes, for Python 3.11 and newer on Linux and macOS
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade \
		--no-header --quiet --no-emit-package trackdesk-producer --no-emit-package trackdesk-worker --no-emit-package trackdesk-simulator \
		--extra simulator --extra embedded --extra otel worker/pyproject.toml producer/pyproject.toml -o requirements.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade \
		--no-header --quiet --no-emit-package trackdesk-producer --no-emit-package trackdesk-worker --no-emit-package trackdesk-simulator \
		--extra simulator --extra embedded --extra otel -c requirements.lock --group pyproject.toml:dev \
		worker/pyproject.toml producer/pyproject.toml -o requirements-dev.lock

clean: ## Remove the environment and every cache
	rm -rf $(VENV) .hypothesis .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
