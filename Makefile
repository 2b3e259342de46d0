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
# A thread that waits for others sleeps instead of spinning: on shared cores that is three times faster.
export OMP_WAIT_POLICY = PASSIVE

# What `make ci` and .github/workflows/ci.yml compare with, and which files decide about prompt-eval.
BASE ?= origin/main
PROMPT_PATHS = data/demo/prompts data/demo/cases data/demo/corpus data/gates.yaml data/prices.yaml \
  core/prompts core/embedding core/indexes core/tracking constraints.txt requirements.txt
REPORTS ?= build/reports
GATE = $(BIN)/python -m quarterdeck gate

help:  ## Say what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

run: $(RUN_STAMP)  ## Build the demo if there is none, and serve the deck on 127.0.0.1:8501
	@$(BIN)/quarterdeck demo
	@exec $(BIN)/quarterdeck serve

demo: $(RUN_STAMP)  ## Build the demo again from nothing
	@$(BIN)/quarterdeck demo --reset

test: check debian  ## Format, lint, types and tests; with DEEP=1 the deep ones too
	$(BIN)/pytest -n 2 --dist worksteal $(if $(DEEP),,-m 'not deep')

.PHONY: fast
fast: $(DEV_STAMP)  ## The tests that need no browser, model or server: a minute
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
coverage: debian  ## Say which lines the tests reach; DEEP=1 counts the long ones too
	@mkdir -p $(REPORTS)
	$(BIN)/pytest -n 2 --dist worksteal $(if $(DEEP),,-m 'not deep') --cov --cov-report=
	@{ echo "## Coverage"; $(BIN)/coverage report --format=markdown; } > $(REPORTS)/coverage.md
	@cat $(REPORTS)/coverage.md
	@[ -z "$$GITHUB_STEP_SUMMARY" ] || cat $(REPORTS)/coverage.md >> "$$GITHUB_STEP_SUMMARY"

audit: $(TOOLS)  ## Ask for known weaknesses of the pinned dependencies; needs the network
	@$(TOOLS)/bin/pip-audit --strict --disable-pip --no-deps -r constraints.txt || { \
	  echo "make: there is a weakness above, or a package that could not be asked about" >&2; exit 1; }

sbom: $(TOOLS) $(RUN_STAMP)  ## List what the deck runs on as CycloneDX: build/sbom/quarterdeck.cdx.json
	@mkdir -p build/sbom
	@$(TOOLS)/bin/cyclonedx-py environment --pyproject deck/pyproject.toml --output-reproducible \
	  --output-file build/sbom/quarterdeck.cdx.json $(BIN)/python

format: $(DEV_STAMP)  ## Put the code in its format
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

first-paint: debian  ## Hold each page's first paint to twice that of an empty Streamlit page
	@$(BIN)/quarterdeck demo
	@$(BIN)/python -m benchmarks.first_paint --check 2.0

changes:  ## Say whether a file that decides about prompts differs from the merge base with BASE
	@git merge-base $(BASE) HEAD >/dev/null || { echo "make: there is no merge base with $(BASE)" >&2; exit 1; }
	@if git diff --quiet $(BASE)...HEAD -- $(PROMPT_PATHS); then echo "prompts=false"; else echo "prompts=true"; fi

prompt-eval: $(RUN_STAMP)  ## Fail when a changed prompt is below the thresholds or worse than before
	$(GATE) prompt-eval $(if $(filter command line environment,$(origin BASE)),--base $(BASE)) \
	  --junit $(REPORTS)/prompt-eval.xml --summary $(REPORTS)/prompt-eval.md

cost-check: $(RUN_STAMP)  ## Fail when the average query costs more than it may
	$(GATE) cost-check $(if $(filter command line environment,$(origin BASE)),--base $(BASE)) \
	  --junit $(REPORTS)/cost-check.xml --summary $(REPORTS)/cost-check.md

build: | .venv  ## Make the two wheels in dist/: the client's and the deck's
	@rm -rf dist
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist . ./deck
	@cd dist && sha256sum *.whl | tee SHA256SUMS

.PHONY: release-notes
release-notes:  ## Fail unless TAG is the version of both wheels; take CHANGELOG.md's section of it to build/release/notes.md
	@version=$${TAG#v}; for file in pyproject.toml deck/pyproject.toml; do \
	  grep -qxF "version = \"$$version\"" $$file || { \
	    echo "make: the tag '$$TAG' is not the version in $$file" >&2; exit 1; }; done
	@mkdir -p build/release
	@awk -v version="$${TAG#v}" '/^## / {on = $$2 == version || $$2 == "[" version "]"; next} on' CHANGELOG.md \
	  > build/release/notes.md
	@grep -q '[^[:space:]]' build/release/notes.md || { \
	  echo "make: CHANGELOG.md has no section of $${TAG#v}" >&2; exit 1; }

deploy:  ## Hand the wheels to DEPLOY_COMMAND; without one, say what would be deployed
	@cd dist 2>/dev/null && sha256sum --quiet --check SHA256SUMS || { echo "make: run make build first" >&2; exit 1; }
	@if [ -n "$$DEPLOY_COMMAND" ]; then sh -c "$$DEPLOY_COMMAND" deploy dist/*.whl; else \
	  echo "Dry run, DEPLOY_COMMAND is not set. It would get: $$(ls dist/*.whl)"; fi

# The programs that the tests drive and that pip does not bring.
DEBIAN := chromium nginx curl
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

# torch goes first and by itself, so that pip takes the pinned build and not the newest with its CUDA packages.
$(RUN_STAMP): requirements.txt constraints.txt pyproject.toml | .venv
	@echo "[2/3] Installing the pinned torch"
	@$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	@echo "[3/3] Installing the pinned dependencies (some minutes, once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

# What asks about the dependencies is none of them.
$(TOOLS): requirements-tools.txt
	@rm -rf $@
	@$(PYTHON) -m venv $@
	@$@/bin/pip install --quiet --disable-pip-version-check -r requirements-tools.txt

$(DEV_STAMP): $(RUN_STAMP) requirements-dev.txt
	@echo "Installing what the tests need"
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# The site is built in an environment of its own: the deck needs none of what builds it.
$(DOCS_STAMP): docs/requirements.txt
	@echo "Making the environment .venv-docs"
	@$(PYTHON) -m venv .venv-docs
	@.venv-docs/bin/pip install --quiet --disable-pip-version-check -r docs/requirements.txt
	@touch $@
