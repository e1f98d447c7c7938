# `make install` builds .venv from pyproject.toml and constraints.txt, and only again when one of them changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test contract fuzz gpu-check gpu-wheels lint wheel clean

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

# What only a CUDA GPU can show, in less than twelve minutes; results in OUT as they come: make gpu-check OUT=results ARGS="--parts tests".
# Without .venv it takes PYTHON's packages (PyTorch, transformers, onnx, onnxruntime, scipy, scikit-learn, pytest, ...) and the wheels in .whl.
OUT ?= build/gpu-check
GPU_PYTHON = $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
GPU_SITE := build/gpu-site
gpu-check:
	@if ! test -x $(BIN)/python && ls .whl/*.whl >/dev/null 2>&1; then \
		$(PYTHON) -m pip install --quiet --no-index --no-deps --upgrade --target $(GPU_SITE) .whl/*.whl; fi
	PYTHONPATH=$(CURDIR):$(CURDIR)/$(GPU_SITE) $(GPU_PYTHON) bench/gpu_check.py --out $(OUT) $(ARGS)

# For a machine with a GPU that reaches no package index: wheels (10 MB) of what its Python lacks, for Python 3.12 on Linux x86-64. The
# folder is carried there beside the tree.
GPU_WHEELS := annotated-types cffi moocore optimum platformdirs pycparser pydantic pydantic-core typing-inspection \
	pymoo about-time alive-progress autograd cma Deprecated graphemeu
GPU_TAGS := 2_28 2_27 2_26 2_24 2_17 2014 1
gpu-wheels: install
	$(BIN)/python -m pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp --abi cp312 --abi abi3 --abi none \
		$(foreach tag,$(GPU_TAGS),--platform manylinux$(if $(findstring _,$(tag)),_)$(tag)_x86_64) \
		--constraint constraints.txt --dest .whl $(GPU_WHEELS)

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
