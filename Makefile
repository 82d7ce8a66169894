# make demo | make test | make check | make bench - each sets up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
export FACEFOCUS_DATA ?= $(wildcard ../shared/data)
ifeq ($(strip $(FACEFOCUS_DATA)),)
unexport FACEFOCUS_DATA
endif

.PHONY: demo test check lint types clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev,fast,onnx]'
	touch $@

demo: $(READY)
	@if [ -z "$(FACEFOCUS_DATA)" ]; then \
	  echo "make demo needs the faces of ../shared/data or \$$FACEFOCUS_DATA, which are not here."; exit 1; fi
	$(BIN)/facefocus prepare lfw --source $(FACEFOCUS_DATA)/lfw/lfw-deepfunneled.tgz --out faces/lfw
	$(BIN)/facefocus run experiments/quick.toml --faces faces/lfw --out runs/quick
	$(BIN)/facefocus report runs/quick

test: $(READY)
	$(BIN)/pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

check: lint types test

clean:
	rm -rf .venv .mypy_cache .ruff_cache dist build
