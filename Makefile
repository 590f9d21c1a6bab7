# Everything runs in .venv, which `make setup` makes alone from the exact versions in constraints.txt.
PYTHON ?= python3
BIN := .venv/bin

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: .venv/installed ## make the environment in .venv

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[train,mini,plots,tensorboard,launchers,dev]'
	touch $@

demo: setup ## render a small data set, train on it, test, tag a clip
	$(BIN)/python train.py experiment=demo
	@echo
	$(BIN)/samplecnn evaluate runs/demo
	@echo
	$(BIN)/samplecnn example runs/demo
	@echo
	@echo "Music and prepared data: data/.  The trained model, its scores and curves: runs/demo/."
	@echo "Next: $(BIN)/samplecnn tag YOUR_SONG.mp3 --model runs/demo"

lint: setup ## check style, types and which room imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy benchmarks
	$(BIN)/lint-imports

# A process per core; the tests of a file stay together, since they share what its fixtures made. Files in the order
# of tests/conftest.py, long ones first, not by how many tests they have.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

test: lint ## lint, then all tests but the slow ones
	$(PYTEST) -m 'not slow'

test-all: lint ## lint, then all tests
	$(PYTEST)

format: setup ## put the code into its standard form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

experiments: setup ## rebuild the tables in experiments/ from the figures beside them
	$(BIN)/python experiments/build.py

clean: ## remove the environment and caches; keeps data/ and runs/
	rm -rf .venv build src/*.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

.PHONY: help setup demo lint test test-all format experiments clean
