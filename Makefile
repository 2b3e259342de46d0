# `make run` and `make test` do all the set-up on a fresh machine: Python 3.11.2 to 3.14, git and make are enough.
.DEFAULT_GOAL := help
.PHONY: help run test check format demo bench clean
PYTHON ?= python3
BIN := .venv/bin
RUN_STAMP := .venv/.run-installed
DEV_STAMP := .venv/.dev-installed
TOOLS := build/tools
DOCS_STAMP := .venv-docs/.installed
export HF_HUB_OFFLINE = 1
export MLFLOW_DISABLE_TELEMETRY = true
export DVC_NO_ANALYTICS = 1
# Waiting threads sleep instead of spinning: three times faster on shared cores.
export OMP_WAIT_POLICY = PASSIVE

# The base ref of `make ci` and .github/workflows/ci.yml, and the files whose changes trigger prompt-eval.
BASE ?= origin/main
PROMPT_PATHS = data/demo/prompts data/demo/cases data/demo/corpus data/gates.yaml data/prices.yaml \
  core/prompts core/cases core/embedding core/indexes core/tracking core/wording constraints.txt requirements.txt
REPORTS ?= build/reports
# `make test` leaves the long tests out, unless DEEP=1.
MARKED = $(if $(DEEP),,-m 'not deep')
GATE = $(BIN)/python -m quarterdeck gate

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

run: $(RUN_STAMP)  ## Build the demo if there is none, and serve the deck on 127.0.0.1:8501
	@$(BIN)/quarterdeck demo
	@exec $(BIN)/quarterdeck serve

demo: $(RUN_STAMP)  ## Rebuild the demo from scratch
	@$(BIN)/quarterdeck demo --reset

test: check debian  ## Format, lint, types and tests; DEEP=1 adds the long tests
	@$(BIN)/pytest -n 2 --dist worksteal $(MARKED) || { [ $$? -eq 1 ] || exit 2; \
	  echo "make: what failed runs once more, alone: what fails twice is a fault, what passes now needs a steadier test"; \
	  $(BIN)/pytest -n 0 --last-failed --last-failed-no-failures none $(MARKED); }

.PHONY: fast
fast: $(DEV_STAMP)  ## The tests that need no browser, model or server, about a minute
	$(BIN)/pytest -n 2 --dist worksteal -m 'not slow and not deep and not browser'

check: $(DEV_STAMP)  ## Format, lint and types, without tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.PHONY: docs
docs: $(DOCS_STAMP)  ## Build the docs site in build/site; a broken link fails it
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet
	@echo "The docs are in build/site/index.html"

.PHONY: coverage audit sbom
coverage: debian  ## Measure the tests' coverage; DEEP=1 adds the long tests
	@mkdir -p $(REPORTS)
	$(BIN)/pytest -n 2 --dist worksteal $(MARKED) --cov --cov-report=
	@{ echo "## Coverage"; $(BIN)/coverage report --format=markdown; } > $(REPORTS)/coverage.md
	@cat $(REPORTS)/coverage.md
	@[ -z "$$GITHUB_STEP_SUMMARY" ] || cat $(REPORTS)/coverage.md >> "$$GITHUB_STEP_SUMMARY"

audit: $(TOOLS)  ## Check the pinned dependencies for known vulnerabilities; needs the network
	@$(TOOLS)/bin/pip-audit --strict --disable-pip --no-deps -r constraints.txt || { \
	  echo "make: a vulnerability is listed above, or a package could not be checked" >&2; exit 1; }

sbom: $(TOOLS) $(RUN_STAMP)  ## Write the deck's SBOM (CycloneDX) to build/sbom/quarterdeck.cdx.json
	@mkdir -p build/sbom
	@$(TOOLS)/bin/cyclonedx-py environment --pyproject deck/pyproject.toml --output-reproducible \
	  --output-file build/sbom/quarterdeck.cdx.json $(BIN)/python

format: $(DEV_STAMP)  ## Format the code and apply lint fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The pipeline: each job of .github/workflows/ci.yml runs one of these, and `make ci` runs them all, in the same order.
.PHONY: ci lint first-paint changes prompt-eval cost-check build deploy
ci:  ## The whole pipeline on this machine
	$(MAKE) lint
	$(MAKE) docs
	$(MAKE) test DEEP=1
	$(MAKE) first-paint
	$(MAKE) prompt-eval
	$(MAKE) cost-check
	$(MAKE) build
	$(MAKE) deploy

lint: check  ## Format, lint and types

first-paint: debian  ## Fail when a page's first paint takes over twice that of an empty Streamlit page
	@$(BIN)/quarterdeck demo
	@$(BIN)/python -m benchmarks.first_paint --check 2.0

changes:  ## Print whether a file in PROMPT_PATHS differs from the merge base with BASE
	@git merge-base $(BASE) HEAD >/dev/null || { echo "make: there is no merge base with $(BASE)" >&2; exit 1; }
	@if git diff --quiet $(BASE)...HEAD -- $(PROMPT_PATHS); then echo "prompts=false"; else echo "prompts=true"; fi

prompt-eval: $(RUN_STAMP)  ## Fail when a changed prompt is below the thresholds or a regression
	$(GATE) prompt-eval $(if $(filter command line environment,$(origin BASE)),--base $(BASE)) \
	  --junit $(REPORTS)/prompt-eval.xml --summary $(REPORTS)/prompt-eval.md

cost-check: $(RUN_STAMP)  ## Fail when the average query costs more than allowed
	$(GATE) cost-check $(if $(filter command line environment,$(origin BASE)),--base $(BASE)) \
	  --junit $(REPORTS)/cost-check.xml --summary $(REPORTS)/cost-check.md

build: | .venv  ## Build the two wheels in dist/: client and deck
	@rm -rf dist
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist . ./deck
	@cd dist && sha256sum *.whl | tee SHA256SUMS

.PHONY: release-notes
release-notes:  ## Check that TAG is the version of both wheels; write its section of CHANGELOG.md to build/release/notes.md
	@version=$${TAG#v}; for file in pyproject.toml deck/pyproject.toml; do \
	  grep -qxF "version = \"$$version\"" $$file || { \
	    echo "make: the tag '$$TAG' is not the version in $$file" >&2; exit 1; }; done
	@mkdir -p build/release
	@awk -v version="$${TAG#v}" '/^## / {on = $$2 == version || $$2 == "[" version "]"; next} on' CHANGELOG.md \
	  > build/release/notes.md
	@grep -q '[^[:space:]]' build/release/notes.md || { \
	  echo "make: CHANGELOG.md has no section for $${TAG#v}" >&2; exit 1; }

deploy:  ## Pass the wheels to DEPLOY_COMMAND; without one, print what would be deployed
	@cd dist 2>/dev/null && sha256sum --quiet --check SHA256SUMS || { echo "make: run make build first" >&2; exit 1; }
	@if [ -n "$$DEPLOY_COMMAND" ]; then sh -c "$$DEPLOY_COMMAND" deploy dist/*.whl; else \
	  echo "Dry run, DEPLOY_COMMAND is not set. It would get: $$(ls dist/*.whl)"; fi

# Programs that the tests use and pip cannot install.
DEBIAN := chromium nginx curl prometheus
.PHONY: debian
debian: $(DEV_STAMP)
	@missing=$$(for name in $(DEBIAN); do PATH="$$PATH:/usr/sbin" command -v $$name >/dev/null || echo $$name; done); \
	[ -z "$$missing" ] || { \
	  [ "$$(id -u)" = 0 ] || { echo "make: install Debian's" $$missing "first: sudo apt-get install" $$missing; exit 1; }; \
	  echo "Installing Debian's" $$missing; \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing; }

clean:  ## Remove the environment and every generated file
	rm -rf .venv .venv-docs build dist data/var .coverage* .pytest_cache .mypy_cache .ruff_cache

.venv:
	@echo "[1/3] Making the environment .venv"
	@$(PYTHON) -c 'import sys; sys.exit("Quarterdeck needs Python 3.11.2 or newer" if sys.version_info < (3, 11, 2) else 0)'
	@$(PYTHON) -m venv .venv

# torch is installed first and separately, so that pip takes the pinned build, not the newest with its CUDA packages.
$(RUN_STAMP): requirements.txt constraints.txt pyproject.toml | .venv
	@echo "[2/3] Installing the pinned torch"
	@$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	@echo "[3/3] Installing the pinned dependencies (some minutes, once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

# The audit tools have an environment of their own, so that they do not audit themselves.
$(TOOLS): requirements-tools.txt
	@rm -rf $@
	@$(PYTHON) -m venv $@
	@$@/bin/pip install --quiet --disable-pip-version-check -r requirements-tools.txt

$(DEV_STAMP): $(RUN_STAMP) requirements-dev.txt
	@echo "Installing what the tests need"
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# The docs site is built in an environment of its own: the deck does not need its tools.
$(DOCS_STAMP): docs/requirements.txt
	@echo "Making the environment .venv-docs"
	@$(PYTHON) -m venv .venv-docs
	@.venv-docs/bin/pip install --quiet --disable-pip-version-check -r docs/requirements.txt
	@touch $@
