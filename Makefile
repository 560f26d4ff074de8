# Every target works on its own on a machine with Python 3.11+ and make: what it needs is made first.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8866
VISITORS ?= 4
BIN := .venv/bin
BOOK := build/book-environment
NOTEBOOKS := $(sort $(wildcard notebooks/*.ipynb) $(wildcard notebooks/solutions/*.ipynb))
export TF_CPP_MIN_LOG_LEVEL ?= 2
export PYTHONHASHSEED ?= 0
# TensorFlow's faster convolutions; by itself it takes them only where there is AVX-512.
export TF_ENABLE_ONEDNN_OPTS ?= 1

# A live training's curves follow from the last digits of its sums: all processors compute them alike.
ALIKE := ONEDNN_MAX_CPU_ISA=AVX2 OPENBLAS_CORETYPE=Haswell XLA_FLAGS=--xla_cpu_max_isa=AVX2 \
  TF_NUM_INTRAOP_THREADS=2

.DEFAULT_GOAL := help
.PHONY: help figures test test-jax lab app book notebooks lint format lock clean

help:  ## show this list
	@echo "Colorizing grey images through a CNN. Targets:"
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14 | sed 's/^/  make /'
	@echo "COLORLIB_SCALE=smoke (default) or full decides how large the notebooks' live runs are."

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv module is missing; on Debian: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

figures: .venv/installed  ## run every notebook, write the report's figures into figures/
	@mkdir -p build && touch build/started
	$(ALIKE) COLORLIB_FIGURES=$(CURDIR)/figures $(BIN)/jupyter nbconvert --to notebook --execute --log-level WARN --output-dir build/notebooks $(NOTEBOOKS)
	@echo "Figures:"; find figures -name '*.[jp][pn]g' -newer build/started | sort | sed 's/^/  /'

test: .venv/installed  ## unit tests; all notebooks, compared with their stored outputs and figures
	rm -rf build/figures
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder tests
	$(ALIKE) $(BIN)/python -m pytest --nbval -n 2 --dist loadscope --no-loadscope-reorder notebooks
	$(BIN)/python tests/check_figures.py

test-jax: .venv/installed  ## the library's unit tests on the JAX backend
	KERAS_BACKEND=jax $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder tests

lab: .venv/installed  ## open JupyterLab on the first notebook
	$(BIN)/jupyter lab $(firstword $(NOTEBOOKS))

app: .venv/installed  ## serve notebook 10 as a web page, here only; HOST, PORT and VISITORS change that
	$(BIN)/python -m colorlib.app.server --ip=$(HOST) --port=$(PORT) --max-visitors=$(VISITORS)

# An environment of its own: Sphinx and its theme serve no notebook and no test.
$(BOOK)/installed: book/requirements.txt
	$(PYTHON) -m venv $(BOOK)
	$(BOOK)/bin/python -m pip install --quiet --disable-pip-version-check -r book/requirements.txt
	@touch $@

book: $(BOOK)/installed  ## the course as a book for the browser: build/book/index.html
	rm -rf build/book
	$(BOOK)/bin/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going -c book -d build/doctrees . build/book
	$(BOOK)/bin/python tests/check_book.py build/book

notebooks: .venv/installed  ## execute the notebooks in place, as they are committed
	$(ALIKE) $(BIN)/jupyter nbconvert --to notebook --execute --inplace --log-level WARN $(NOTEBOOKS)
	$(BIN)/python tests/check_notebooks.py --clean $(NOTEBOOKS)

lint: .venv/installed  ## ruff, as the tests and pre-commit run it
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/installed  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: .venv/installed  ## write what is installed into requirements.lock
	$(BIN)/python -m pip freeze --all --exclude colorlib --exclude pip > requirements.lock

clean:  ## remove the environment and everything that was built
	rm -rf .venv build .pytest_cache .ruff_cache *.egg-info
