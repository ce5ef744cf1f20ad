# make setup   .venv with the package, its extras and the dev group
# make demo    the whole product on an example service, in under two minutes
# make test    every test; installs what it needs
# make check   ruff, mypy --strict, the architecture test
# make sanitize  the tests of the C code under the sanitizers of GCC, in build/sanitize
# make proto   pyprof_agent/formats/_schema.py from proto/profile.proto

PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test check sanitize proto clean

setup: .venv/.ready

.venv/.ready: pyproject.toml $(wildcard pyprof_agent/_native/*.[ch])
	@echo "Setting up .venv ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check --group dev --editable ".[cli]"
	@$(BIN)/pyprof-agent doctor || true
	@touch $@

demo: setup
	@$(BIN)/python examples/demo.py

test: setup
	@$(BIN)/python -m pytest

check: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest --quiet tests/test_architecture.py

sanitize: setup
	@.ci/sanitize

proto:
	@$(PYTHON) -m venv build/protoc
	@build/protoc/bin/pip install --quiet --disable-pip-version-check grpcio-tools
	@build/protoc/bin/python proto/generate.py

clean:
	rm -rf .venv build demo-profiles *.egg-info
