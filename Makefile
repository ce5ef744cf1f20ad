# make setup   .venv with the package, its extras and the dev group
# make demo    the whole product on an example service, in under two minutes
# make test    every test; installs what it needs
# make check   ruff, mypy --strict, the architecture test
# make matrix  every test on every CPython from 3.11 to 3.15 that can be had, or on some of
#              them: make matrix PYTHONS="3.12 3.14"
# make cpython-tests
#              CPython 3.11's own tests: those that pass without the agent pass with it in every
#              process; or some of them: make cpython-tests MODULES="test_dict test_threading"
# make proto   pyprof_agent/formats/_schema.py from proto/profile.proto

PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test check matrix cpython-tests proto clean

setup: .venv/.ready

.venv/.ready: pyproject.toml
	@echo "Setting up .venv ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(BIN)/pip install --quiet --disable-pip-version-check --group dev --editable ".[cli]"
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

matrix:
	@.ci/matrix $(PYTHONS)

cpython-tests:
	@$(PYTHON) .ci/cpython-tests $(MODULES)

proto:
	@$(PYTHON) -m venv build/protoc
	@build/protoc/bin/pip install --quiet --disable-pip-version-check grpcio-tools
	@build/protoc/bin/python proto/generate.py

clean:
	rm -rf .venv build demo-profiles *.egg-info
