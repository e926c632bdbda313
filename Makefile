# mailhub from a fresh checkout.
#
#   make demo    install and run a demo on this machine: two domains, two accounts, every service
#   make test    install and run everything: lint, types, unit tests, real processes and real mail clients
#   make lint    ruff, mypy, and whether documentation and news can be built
#   make docs    the documentation as HTML, in build/docs
#   make compiled   the compiled build in a copy, and the tests of what it compiles
#   make bench   the benchmarks: CPU per unit of work
#   make soak    thousands of simulated days of hubs in trouble: SEEDS=5000, FROM=0, or SEED=17 for one
#   make clean   remove what the above made (the demo's mail too)
#
# PYTHON=python3.12 chooses the interpreter; VENV=folder puts the virtual environment elsewhere.
# ARGS="-k smtp" is handed to pytest.

VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
WORKERS ?= 2
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile
PURE := tests/interfaces tests/message tests/wire $(addprefix tests/test_,answers.py errors.py log.py threads.py)
# Errors alone: what is left of the rest is about the machine's own settings.
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
# Of the folder those that measure; the others are their client and their servers.
PARTS := $(addprefix benchmarks/,__init__.py bare_smtp.py postfix_dovecot.py smtp_load.py)
BENCHMARKS := $(filter-out $(PARTS),$(wildcard benchmarks/*.py))

.DEFAULT_GOAL := help
.PHONY: help demo test lint docs coverage compiled bench soak clean clients

help:
	@sed -n '3,13s/^# \{0,1\}//p' Makefile

$(BIN)/python:
	@PYTHON="$(PYTHON)" .ci/venv "$(VENV)"

# Editable, so that a change of the code needs no new install; a change of the packaging does.
$(VENV)/.installed: setup.cfg pyproject.toml | $(BIN)/python
	@echo "== installing mailhub into $(VENV)"
	@$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: setup.cfg pyproject.toml | $(BIN)/python
	@echo "== installing mailhub and what its tests need into $(VENV)"
	@$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.installed

demo: $(VENV)/.installed
	@exec $(BIN)/python -m mailhub.demo demo $(BIN)/twistd --pidfile= -ny mailhub.tac

lint: $(VENV)/.installed-dev
	@echo "== style (ruff)"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "== types (mypy --strict)"
	@$(BIN)/mypy
	@$(MAKE) --no-print-directory docs
	@echo "== news (towncrier)"
	@$(BIN)/towncrier build --draft > build/news.rst 2> build/news.log || { cat build/news.log; exit 1; }
	@$(BIN)/python -m docutils --strict --writer=null build/news.rst

docs: $(VENV)/.installed-dev
	@echo "== documentation (sphinx -W)"
	@$(BIN)/sphinx-build -W --keep-going -E -q -b html docs build/docs

clients:
	@echo "== real mail clients"
	@.ci/clients

# Floors 0 and 1 are run with coverage, which costs as much again, and so apart from the rest.
test: lint clients
ifeq ($(strip $(ARGS)),)
	@$(MAKE) --no-print-directory coverage
	@echo "== tests of all else (pytest, $(WORKERS) at a time)"
	@$(PYTEST) $(PURE:%=--ignore=%)
else
	@echo "== tests (pytest, $(WORKERS) at a time)"
	@$(PYTEST) $(ARGS)
endif

coverage: $(VENV)/.installed-dev
	@echo "== tests of floors 0 and 1, with their coverage (pytest, $(WORKERS) at a time)"
	@$(PYTEST) --cov --cov-report=term $(PURE)

# As a user installs it, but into a folder, with the tests beside it: here the sources would hide what is compiled.
compiled: $(VENV)/.installed-dev
	@echo "== the compiled build (mypyc)"
	@rm -rf build/compiled && mkdir -p build/compiled/source
	@cp -R mailhub twisted setup.py setup.cfg pyproject.toml README.rst LICENSE build/compiled/source
	@MAILHUB_COMPILED=1 $(PIP) --no-deps --target build/compiled build/compiled/source
	@rm -rf build/compiled/source && cp -R tests setup.py setup.cfg pyproject.toml build/compiled
	@echo "== tests of what is compiled (pytest, $(WORKERS) at a time)"
	@cd build/compiled && MAILHUB_COMPILED=1 $(abspath $(BIN))/python -m pytest -n $(WORKERS) --dist loadfile \
	  $(or $(ARGS),tests/message tests/wire tests/cli/test_main.py tests/test_compiled.py)

bench: $(VENV)/.installed-dev
	@for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

soak: $(VENV)/.installed-dev
	@$(BIN)/python -m mailhub.testing.stories $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),1000) --from $(or $(FROM),0))

clean:
	rm -rf $(VENV) demo build dist mailhub.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f twisted/plugins/dropin.cache
