# flatout's tasks. They need make and Python 3.11 or later, nothing else: each makes what it is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Errors only: what pip warns of here is the machine's set-up (an index that lacks a package, root in a container).
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check

QUESTIONS := examples/questions.jsonl
ANSWERS := examples/out/answers.jsonl
MINUTES ?= 30
KILLS ?= 2000

EXTRAS := .[all]
LOCK := constraints.txt

UPLOT := 1.6.32
ASSETS := src/flatout/look/report/assets

# Four at a time, on two cores as well: half of the first files' time is spent waiting for servers and processes. A file's
# tests stay together, with the servers they share, in the order that tests/conftest.py gives them.
PYTEST := $(BIN)/pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder --durations 10

# The tests start flatout hundreds of times: where the environment forbids to keep it compiled, they take much longer.
unexport PYTHONDONTWRITEBYTECODE

# Those that can be run; the others are what they share.
BENCHMARKS = $(subst /,.,$(basename $(shell grep -l __main__ benchmarks/*.py)))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check lint types rules compiled docs picture vendor lock bench soak dist clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.demo ## answer the example questions with the embedded model (no key needed)
	@$(BIN)/flatout local pull
	@mkdir -p $(dir $(ANSWERS))
	$(BIN)/flatout run $(QUESTIONS) -o $(ANSWERS) -m local --param max_tokens=60 --param temperature=0
	@$(BIN)/python -c "$$SHOW_ANSWERS" $(ANSWERS)

test: lint ## everything that must hold: style, types, import rules and all tests
	$(PYTEST)

check: lint ## the fast part of it: no network, no embedded model
	$(PYTEST) --ignore tests/integration --ignore tests/crash

test check: BESIDE := compiled
lint: $(VENV)/.dev ## style, types, import rules, licences of what is installed, and the workflows
	@$(MAKE) --no-print-directory --jobs 2 types rules $(BESIDE)

types:
	$(BIN)/mypy

rules:
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python tests/licences.py
	$(BIN)/zizmor --offline --quiet .github

# Before the tests, beside what checks the style: each of the four workers would else compile all tests itself. What is
# wrong with one of them is said when it is run.
compiled:
	@$(BIN)/pytest -qq --collect-only > /dev/null || true

docs: $(VENV)/.docs ## the documentation, in build/site
	$(BIN)/python -m zensical build --clean --strict
	@echo "Read it: $(BIN)/python -m zensical serve"

picture: $(VENV)/.dev ## docs/live.svg, drawn from a real run, and the pictures of a report and of flatout watch
	$(BIN)/python docs/_site/picture.py
	$(BIN)/python -m docs._site.report_pictures
	$(BIN)/python -m docs._site.watch_pictures

vendor: ## take uPlot, which draws the plots of reports, from its npm package into the project
	@rm -rf build/vendor && mkdir -p build/vendor
	npm pack --silent --pack-destination build/vendor uplot@$(UPLOT)
	tar -xzf build/vendor/uplot-$(UPLOT).tgz -C build/vendor
	cp build/vendor/package/dist/uPlot.iife.min.js build/vendor/package/dist/uPlot.min.css $(ASSETS)
	cp build/vendor/package/LICENSE $(ASSETS)/uPlot.LICENSE
	cd $(ASSETS) && sha256sum uPlot.iife.min.js uPlot.min.css uPlot.LICENSE > uPlot.sha256

lock: | $(BIN)/pip ## take the newest versions that are allowed into constraints.txt, for all who develop
	@$(PYTHON) -m venv --clear build/lock
	@build/lock/bin/python -m pip -qq --disable-pip-version-check install --upgrade 'pip>=25.1'
	@build/lock/bin/python -m pip -qq --disable-pip-version-check install --editable '$(EXTRAS)' --group dev --group around
	@{ echo '# What this project is developed and tested with; made by: make lock'; \
		build/lock/bin/python -m pip freeze --exclude-editable; } > $(LOCK)
	@rm -rf build/lock

bench: $(VENV)/.dev ## every benchmark; each prints a ratio against its baseline
	@set -e; for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python -m $$name; done

soak: $(VENV)/.dev .venv-sdk .venv-engines .venv-clouds ## the tests' rarer cases; faults for MINUTES (30), watching what grows; KILLS (2,000) of real runs
	$(PYTEST) --hypothesis-profile soak -m 'soak or hypothesis'
	$(BIN)/python -m tests.crash.soak --minutes $(MINUTES)
	FLATOUT_KILL_SEED=0 FLATOUT_KILLS=$(KILLS) $(BIN)/pytest -s tests/crash/test_kill.py
	FLATOUT_KILL_SEED=0 FLATOUT_BATCH_KILLS=1000 $(BIN)/pytest -s tests/crash/test_batch_kills.py

# Its tools stay apart from the project's: they bring other licences along.
dist: ## the files of a release in dist/, and what they bring along (SBOM) in build/sbom.json
	@rm -rf dist build/release build/installed
	@$(PYTHON) -m venv build/release
	@build/release/bin/python -m pip -qq --disable-pip-version-check install --upgrade 'pip>=25.1'
	@build/release/bin/python -m pip -qq --disable-pip-version-check install --group release
	build/release/bin/python -m build --outdir dist
	build/release/bin/twine check --strict dist/*
	@$(PYTHON) -m venv --without-pip build/installed
	@build/release/bin/python -m pip -qq --disable-pip-version-check --python build/installed install dist/*.whl
	build/installed/bin/flatout --version
	build/release/bin/cyclonedx-py environment --pyproject pyproject.toml --output-file build/sbom.json build/installed/bin/python

clean: ## remove what these tasks made; the model stays in the user's cache folder
	rm -rf $(VENV) .venv-sdk .venv-engines .venv-clouds build dist examples/out .mypy_cache .ruff_cache .hypothesis .import_linter_cache .cache
	find src tests benchmarks examples -name __pycache__ -type d -exec rm -rf {} +

# The package is installed editable: only a change of pyproject.toml, or of the versions, asks for another installation.
$(VENV)/.demo: pyproject.toml | $(BIN)/pip
	@echo "Installing flatout into $(VENV) ..."
	@$(PIP) install --editable '.[local,uvloop]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(LOCK) | $(BIN)/pip
	@echo "Installing flatout and its tools into $(VENV) ..."
	@$(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install --constraint $(LOCK) --editable '$(EXTRAS)' --group dev --group around
	@touch $@

# The documentation needs neither the extras nor the tests' tools.
$(VENV)/.docs: pyproject.toml $(LOCK) | $(BIN)/pip
	@echo "Installing flatout and the documentation's tools into $(VENV) ..."
	@$(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install --constraint $(LOCK) --editable . --group docs
	@touch $@

# The vendors' SDKs and frameworks, for tests/integration/test_sdks.py and benchmarks/sdk.py. They are many and large: most
# tests of flatout.sdk do without them.
.venv-sdk: tests/support/sdk-requirements.txt
	@echo "Installing the vendors' SDKs into $@ ..."
	@$(PYTHON) -m venv --clear $@
	@$@/bin/python -m pip -qq --disable-pip-version-check install --no-deps --requirement $<
	@$@/bin/python -m pip -qq --disable-pip-version-check install --no-deps --target $@/openai3 openai==3.57.0 jiter==0.16.0
	@$@/bin/python -m pip -qq --disable-pip-version-check install --no-deps --editable .
	@touch $@

# Ray, Daft, Dask, Spark and datasets, for tests/integration/test_*engines*.py and benchmarks/cluster.py: 1.4 GB.
.venv-engines: tests/support/engine-requirements.txt
	@echo "Installing Ray, Daft and other engines into $@ ..."
	@$(PYTHON) -m venv --clear $@
	@$@/bin/python -m pip -qq --disable-pip-version-check install --no-deps --requirement $<
	@$@/bin/python -m pip -qq --disable-pip-version-check install --no-deps --editable .
	@touch $@

# The packages of stores elsewhere, and emulators of them, for tests/integration/test_outputs_clouds.py: 500 MB.
.venv-clouds: tests/support/cloud-requirements.txt
	@echo "Installing the packages and the emulators of stores into $@ ..."
	@$(PYTHON) -m venv --clear $@
	@$@/bin/python -m pip -qq --disable-pip-version-check install --no-deps --requirement $<
	@$@/bin/python -m pip -qq --disable-pip-version-check install --no-deps --editable .
	@npm install --silent --no-audit --no-fund --ignore-scripts --prefix $@ azurite@3.35.0
	@touch $@

# The vendors' SDKs in Node, for tests/integration/test_gateway.py.
.node-sdk: tests/support/node/package.json tests/support/node/package-lock.json
	@echo "Installing the vendors' SDKs for Node into $@ ..."
	@rm -rf $@ && mkdir $@ && cp $^ $@
	@npm ci --silent --no-audit --no-fund --ignore-scripts --prefix $@
	@touch $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "flatout needs Python 3.11 or later: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "$(PYTHON) cannot make a virtual environment; on Debian: apt install python3-venv" >&2; exit 1; }

define SHOW_ANSWERS
import itertools, json, sys, textwrap
with open(sys.argv[1], encoding="utf-8") as answers:
    for row in map(json.loads, itertools.islice(answers, 5)):
        print("\n" + row["prompt"])
        print(textwrap.indent(str(row["answer"] or row["error"]), "    "))
print("\nAll answers:", sys.argv[1])
endef
export SHOW_ANSWERS
