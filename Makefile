# make demo | make test | make check | make docs | make demo-lfw | make bench - each sets up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Absolute: tests change the folder they run in.
export FACEFOCUS_DATA ?= $(abspath $(wildcard ../shared/data))
ifeq ($(strip $(FACEFOCUS_DATA)),)
unexport FACEFOCUS_DATA
endif

# Tests start many processes: without bytecode, each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo demo-lfw test check lint types docs bench clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev,fast,onnx,cluster]'
	touch $@

demo: $(READY)
	$(BIN)/facefocus demo

demo-lfw: $(READY)
	@if [ -z "$(FACEFOCUS_DATA)" ]; then \
	  echo "make demo-lfw needs the faces of ../shared/data or \$$FACEFOCUS_DATA, which are not here."; exit 1; fi
	$(BIN)/facefocus prepare lfw --source $(FACEFOCUS_DATA)/lfw/lfw-deepfunneled.tgz --out faces/lfw
	$(BIN)/facefocus run experiments/quick.toml --faces faces/lfw --out runs/quick
	$(BIN)/facefocus report runs/quick

# Files in their order: sorted by their number of tests, a few slow ones would come last.
test: $(READY)
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

check: lint types test

# The tutorials are run, in a store of their own: nothing that is shown was computed before.
docs: $(READY)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[docs]'
	@rm -rf docs/_build
	PATH="$(abspath $(BIN)):$$PATH" FACEFOCUS_STORE=$(abspath docs/_build/store) \
	  $(BIN)/python -m sphinx --fail-on-warning --keep-going -q -b html docs docs/_build/html
	@rm -rf docs/_build/store
	@echo "manual docs/_build/html/index.html"

# pytorch-grad-cam asks for torchvision, which it does not need here and which fits no CPU torch.
bench: $(READY)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[bench]'
	$(BIN)/pip install --quiet -c constraints.txt --no-deps grad-cam
	$(BIN)/python -m benchmarks $(ONLY)

clean:
	rm -rf .venv .mypy_cache .ruff_cache dist build docs/_build docs/_generated
