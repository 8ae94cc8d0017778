# make demo    install, then clean data/samples into demo/, with a page to see how much better each file became
# make test    install with the development tools, then run lint, types, the build of the pages and all fast tests
# make test-slow  the tests that take minutes
# make check   lint and types only
# make site    build the pages of docs/ into site/; a dead link is an error
# make docs    draw the figures of the pages anew (some minutes), then build the pages
# make dist    build wheel and sdist into dist/, install the wheel into a fresh environment, and use it there
# make clean   remove everything that the other targets made

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# One process per core, each with one thread.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto

# The first interpreter that is new enough and can create a virtual environment.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3 python; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo $$python; break; }; done)

.PHONY: demo test test-slow check browser docs site dist clean

demo: $(VENV)/installed
	$(BIN)/denoise clean data/samples -o demo --reference data/samples/reference --overwrite \
		--report demo/report.html
	@echo "The cleaned files are in $(CURDIR)/demo"
	@echo "Open this page to see and hear them: file://$(CURDIR)/demo/report.html"

test: check browser site
	$(PYTEST)

test-slow: $(VENV)/installed-dev
	$(PYTEST) --slow -m slow

check: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The tests of pages run in Chromium; root on a Debian gets it, elsewhere they are left out if there is none.
browser:
	@command -v chromium chromium-browser google-chrome chrome >/dev/null \
	|| { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && echo "Installing Chromium" \
		&& apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium >/dev/null; } \
	|| echo "No Chromium was found: the tests of pages in a browser are left out"

site: $(VENV)/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# beats.png needs recordings that are not here; map.png is made by the commands beside it.
docs: $(VENV)/installed-dev
	cd docs/figures && for name in before_after photos; do ../../$(BIN)/python $$name.py $$name.jpg || exit 1; done
	$(BIN)/python docs/figures/gallery.py docs/figures
	for figure in tradeoff members rates; do $(BIN)/python docs/figures/autoencoders.py $$figure || exit 1; done
	$(MAKE) site

dist: $(VENV)/installed-dev
	rm -rf dist build
	$(BIN)/python -m build --quiet --outdir dist .
	$(PYTHON) -m venv build/fresh
	build/fresh/bin/python -m pip install --quiet --constraint constraints.txt dist/*.whl
	cd build && fresh/bin/denoise doctor && fresh/bin/denoise clean ../data/samples/sensors -o cleaned

clean:
	rm -rf $(VENV) demo site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "denoise needs Python 3.11 or later with venv (Debian: python3-venv);" \
		"none was found. Name one with: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Stamps: install again only after the requirements change.
$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[media]'
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/installed
