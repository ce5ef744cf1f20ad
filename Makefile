# make setup   .venv with the package, its extras and the dev group
# make demo    the whole product on an example service, in under two minutes
# make test    the tests, in less than four minutes on two cores; installs what it needs
# make thorough
#              the tests that take long: of other servers and engines, of the benchmarks
# make soak    the heap engine against known truths, its time and its memory; real services under
#              1,000 scrapes, clients that hang up and 10,000 hostile requests; takes minutes
# make soak-stacks
#              example services with garbage on their C stacks under all endpoints, at 100 Hz and at
#              1 kHz: an hour on every CPython that can be had, all at once; or a part of that: make
#              soak-stacks PYTHONS="3.12" SECONDS=300
# make fuzz    the walk of a thread's frames over memory that holds anything, for a minute, under
#              sanitizers; or for longer: make fuzz FUZZ="--inputs 10000000 --seconds 3600"
# make fuzz-record
#              record the memory of threads anew for it, on this Python
# make others  the agent in uWSGI, Celery and grpcio, which it installs: they fork in ways of their own
# make check   ruff, mypy --strict, the architecture test
# make sanitize
#              the tests of the C code under the sanitizers of GCC, in build/sanitize
# make bench   docs/overhead.md and docs/accuracy.md: what this and other profilers cost, and how
#              far their stacks are from the truth, up to 35 minutes; with BENCH="--quick" both in
#              build/bench, in a few minutes, without meaning; BENCH="--parts accuracy": only that
# make matrix  every test on every CPython from 3.11 to 3.15 that can be had, or on some of
#              them: make matrix PYTHONS="3.12 3.14"
# make cpython-tests
#              CPython 3.11's own tests: those that pass without the agent pass with it in every
#              process; or some of them: make cpython-tests MODULES="test_dict test_threading"
# make proto   pyprof_agent/formats/_schema.py from proto/profile.proto

PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test thorough soak soak-stacks fuzz fuzz-record others check sanitize bench matrix cpython-tests proto clean

setup: .venv/.ready

.venv/.ready: pyproject.toml $(wildcard pyprof_agent/_native/*.[ch])
	@echo "Setting up .venv ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check --group dev --editable ".[cli]"
	@GOTOOLCHAIN=local GOPROXY=off GOFLAGS= $(BIN)/go tool pprof -h >/dev/null 2>&1 || true # compiles it
	@$(BIN)/pyprof-agent doctor || true
	@touch $@

demo: setup
	@$(BIN)/python examples/demo.py

# Four at once, as most wait for something; of those that measure time or CPU two, however many CPUs
# there are. In the order of their files, as the last ones then take little.
EACH := --dist loadfile --no-loadscope-reorder

test: setup
	@$(BIN)/python -m pytest --numprocesses 4 $(EACH) -m "not timing and not thorough"
	@$(BIN)/python -m pytest --numprocesses 2 $(EACH) -m "timing and not thorough"

thorough: setup
	@$(BIN)/python -m pytest --numprocesses 4 $(EACH) -m "thorough and not timing"
	@$(BIN)/python -m pytest -m "thorough and timing"

soak: setup
	@$(BIN)/python -m pytest -s -o addopts= tests/soak

soak-stacks:
	@.ci/matrix --soak $(or $(SECONDS),3600) $(PYTHONS)

fuzz: setup
	@$(BIN)/python -m tests.fuzz $(FUZZ)

fuzz-record: setup
	@$(BIN)/python -m tests.fuzz.record

others: setup
	@$(BIN)/pip install --quiet --disable-pip-version-check --requirement tests/others/requirements.txt
	@$(BIN)/python -m pytest -o addopts= tests/others

check: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest --quiet tests/test_architecture.py

sanitize: setup
	@.ci/sanitize

bench: build/bench/.ready
	@rm -rf build/lib build/lib.* build/temp.* build/bdist.*
	@build/bench/bin/pip install --quiet --disable-pip-version-check --force-reinstall --no-deps .
	@build/bench/bin/python -m tests.bench $(BENCH)

build/bench/.ready: pyproject.toml tests/bench/install.py
	@echo "Setting up build/bench with other profilers ..."
	@$(PYTHON) -m venv --clear build/bench
	@build/bench/bin/pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@build/bench/bin/pip install --quiet --disable-pip-version-check .
	@build/bench/bin/python tests/bench/install.py
	@touch $@

matrix:
	@.ci/matrix $(PYTHONS)

cpython-tests:
	@$(PYTHON) .ci/cpython-tests $(MODULES)

proto:
	@$(PYTHON) -m venv build/protoc
	@build/protoc/bin/pip install --quiet --disable-pip-version-check grpcio-tools
	@build/protoc/bin/python proto/generate.py

clean:
	rm -rf .venv build demo-profiles story-profiles *.egg-info
