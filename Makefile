# `make train` and `make test` need nothing but Python 3.11 or newer: they make their own environment in .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: train test test-slow lint tables docs release-check clean

train: .venv/ready
	$(BIN)/dl-zoo train experiment=lenet5_digits

test: .venv/ready
	$(BIN)/python -m pytest

test-slow: .venv/ready
	$(BIN)/python -m pytest -m slow

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

tables: .venv/ready
	$(BIN)/python benchmarks/tables.py

docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

release-check: .venv/ready
	$(BIN)/python -m pytest tests/test_wheel.py -m release

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("dl_zoo needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
