# `make install` builds .venv from pyproject.toml and constraints.txt, and only again when one of them changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test contract fuzz lint wheel clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11; name another: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[cpu,demo,bo,dev]'
	@touch $@

demo: install
	$(BIN)/compile --demo

test: install
	$(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder --durations=10 $(ARGS)

# every row of the families table at every opset, for both tasks
contract: install
	PARETOC_CONTRACT=all $(BIN)/pytest --numprocesses auto --dist loadgroup tests/contract/test_families.py $(ARGS)

# bad inputs by the thousand: make fuzz COUNT=50000 SEED=1 KEEP=folder
COUNT ?= 50000
SEED ?= 0
KEEP ?= build/hostile
fuzz: install
	$(BIN)/python -m tests.hostile --count $(COUNT) --seed $(SEED) --keep $(KEEP)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# setuptools keeps what it copied once in build/: a module deleted since would still be shipped
wheel: install
	rm -rf build dist *.egg-info/SOURCES.txt
	$(BIN)/python -m build --no-isolation --outdir dist .

clean:
	rm -rf build dist $(VENV)
