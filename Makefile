# Everything a newcomer types: `make demo` and `make test`, in either order, on a fresh machine.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= runs/demo
EXTRAS ?= dev

.PHONY: setup demo test lint types unit slow kills faults integration bench full-size bases clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt scripts/setup.sh
	PYTHON="$(PYTHON)" VENV="$(VENV)" EXTRAS="$(EXTRAS)" sh scripts/setup.sh
	touch $@

demo: setup
	$(BIN)/uae train --recipe demo --out $(RUN)

test: setup lint types unit

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/pyright

unit: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow and not gpu and not network"

slow: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "slow"

# The slow ones of the fault trials, each in a minute: CI runs these as well.
kills: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "slow" tests/faults

faults: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m faults

# The real clients of other projects; LMMS_PYTHON is that of an environment with lmms-eval and uae.
integration: setup
	$(BIN)/python tests/integration/openai_client.py
	[ -z "$(LMMS_PYTHON)" ] || $(LMMS_PYTHON) tests/integration/lmms_eval_run.py

bench: setup
	$(BIN)/python bench/stages.py

# Real sizes with random weights: 20 GiB of memory, 18 GB of disk, no GPU.
full-size: setup
	$(BIN)/python bench/full_size.py --out runs/full-size

bases: setup
	$(BIN)/python -m bases build --out runs/bases

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
