# The verbs of this project. Everything happens in .venv, made from pinned versions.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check lint types layers docs docs-check golden proof clean

demo: $(VENV)/base                 ## four kinds of language model, side by side, in a minute
	$(BIN)/picolab demo

test: $(VENV)/dev                  ## every test, on all cores
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

check: lint types layers test docs-check   ## everything a change must pass

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev
	$(BIN)/mypy

layers: $(VENV)/dev
	$(BIN)/lint-imports

docs: $(VENV)/dev                  ## write again what is generated in the documents
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/learn/show.py
	$(BIN)/python docs/findings/show.py
	$(BIN)/python docs/tour/show.py

docs-check: $(VENV)/dev
	$(BIN)/python docs/generate.py --check

golden: $(VENV)/dev                ## write golden files again, and show what moved
	PICOLAB_GOLDEN=write $(BIN)/python -m pytest tests/golden tests/cli -k golden
	git diff --stat tests/golden

proof: $(VENV)/dev                 ## the long measurements; writes docs/benchmarks.md
	$(BIN)/python benchmarks/all.py

clean:
	rm -rf $(VENV) build dist

$(VENV)/base: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/dev: $(VENV)/base
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
