# Every target makes its own .venv. Needs Python 3.10 or newer, make and a package index; `make PYTHON=python3.12 demo` picks one.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
PACKAGES := configs db producer worker

.PHONY: venv demo test fuzz chaos lint audit bench docs clean

venv: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -c constraints.txt -e '.[dev]'
	touch $@

demo: venv
	PROMPTMILL_HOME=demo-output $(BIN)/promptmill render docs/demo.csv

# A thread each: tiny tensors lose more by waiting for a second one than they gain. More processes than two cores have:
# many tests wait for other processes.
test: venv
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 4 --dist worksteal --durations 40

# 10,000 examples of each: minutes.
fuzz: venv
	FUZZ_EXAMPLES=10000 OMP_NUM_THREADS=1 $(BIN)/pytest tests/fuzz --timeout 7200 --numprocesses auto --maxprocesses 4

# An hour: 1,000 kill -9 and 570 other faults.
chaos: venv
	$(BIN)/python -m tests.chaos

# The audit asks a server, which may be out of reach: it warns here, and fails `make audit`.
lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(PACKAGES)
	$(BIN)/lint-imports
	$(BIN)/pip check
	-.ci/audit

audit: venv
	.ci/audit

bench: venv
	set -e; for benchmark in benchmarks/*.py; do $(BIN)/python "$$benchmark"; done

docs: venv
	$(BIN)/python docs/generate_cli.py
	$(BIN)/python docs/generate_configuration.py

clean:
	rm -rf .venv build dist demo-output *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find $(PACKAGES) tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +
