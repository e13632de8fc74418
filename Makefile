# Everything here works in a fresh clone: the environment lives in .venv and is made on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := src tests benchmarks examples

.PHONY: demo test check lint types docs bench soak format clean

demo: $(STAMP)  ## the main job on real photographs; prints where the report is
	$(BIN)/python examples/demo.py

# One thread in each of two processes: with two in each they wait for each other, and the suite takes twice as long.
test: $(STAMP) lint types  ## everything that CI runs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile
	$(BIN)/python -m pytest tests/house/docs_code.py

check: lint types  ## the quick half: no real weights, no browser
	$(BIN)/python -m pytest -m "not slow and not real and not browser and not openvino"

lint: $(STAMP)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)

types: $(STAMP)
	$(BIN)/mypy

docs: $(STAMP)  ## run every code block of README and docs
	$(BIN)/python -m pytest tests/house/docs_code.py

bench: $(STAMP)  ## the figures in benchmarks/README.md (about half an hour on two cores)
	$(BIN)/python -m benchmarks.run

soak: $(STAMP)  ## the long tests
	$(BIN)/python -m pytest -m slow --timeout 3600

format: $(STAMP)
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

clean:
	rm -rf $(VENV) runs .mypy_cache .ruff_cache

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --progress-bar off torch torchvision
	$(BIN)/python -m pip install --quiet --progress-bar off -e ".[cpu,keras,starter,demo]" --group test --group lint
	touch $(STAMP)
