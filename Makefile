# Every target does its own set-up from a bare clone: Python 3.11 or newer; apt packages are installed where they are missing and can be.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: demo test check serve bench faults gpu-check system clean

demo: $(INSTALLED)  ## a real search end to end, with an exported winner; KEEP=1 leaves the service running
	$(BIN)/python examples/demo.py $(if $(KEEP),--keep)

test: $(INSTALLED) system  ## the test suite
	$(BIN)/python -m pytest -n auto --dist loadfile --ignore tests/end_to_end
	$(BIN)/python -m pytest tests/end_to_end

check: $(INSTALLED)  ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

serve: $(INSTALLED)  ## the service, on port 8000
	$(BIN)/nas serve

bench: $(INSTALLED)  ## benchmarks; minutes to an hour
	$(BIN)/python -m benchmarks

faults: $(INSTALLED) system  ## long tests of crashes
	$(BIN)/python -m pytest -m slow --timeout=1800

gpu-check: $(INSTALLED)  ## tests that need CUDA
	$(BIN)/python -m pytest -m gpu -rs

system:  ## Debian packages that the tests use
	@sh scripts/system.sh

$(INSTALLED): pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]'
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) demo-output build *.egg-info .mypy_cache .ruff_cache .pytest_cache
