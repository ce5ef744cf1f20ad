"""Every file in examples/ does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pyprof_agent.formats.pprof import decode
from tests.support import EXAMPLES, free_port, get, running

WITH_DEBUG_PORT = ("flask_app.py", "django_app.py")


EVERY_BLOCK = {"PYPROF_AGENT_HEAP_SAMPLE_BYTES": "1"}
"""The examples allocate little."""


def uvicorn(name: str, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), f"{name}:app"),
        *("--port", str(port), "--log-level", "warning"),
    ]


@pytest.mark.parametrize("name", ["starlette_app", "fastapi_app"])
def test_asgi_applications(name: str) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    with running(uvicorn(name, port), ready=base, env=EVERY_BLOCK):
        assert b"hello" in get(base)
        check_endpoints(f"{base}/debug/pprof/")


def test_metrics_beside_the_endpoints() -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    with running(uvicorn("prometheus_app", port), ready=base, env=EVERY_BLOCK):
        check_endpoints(f"{base}/debug/pprof/")
        families = text_string_to_metric_families(get(f"{base}/metrics").decode())
        values = {sample.name: sample.value for family in families for sample in family.samples}
    assert values["pyprof_agent_up"] == 1
    assert values["pyprof_agent_work_units_total"] >= 1
    assert "python_info" in values  # the service's own


@pytest.mark.parametrize("name", WITH_DEBUG_PORT)
def test_wsgi_applications_with_a_port_of_their_own(name: str) -> None:
    port, debug_port = free_port(), free_port()
    base = f"http://127.0.0.1:{port}"
    commands: dict[str, Sequence[str]] = {
        "flask_app.py": ("--port", str(port), "--debug-port", str(debug_port)),
        "django_app.py": ("runserver", "--noreload", str(port)),
    }
    command = [sys.executable, str(EXAMPLES / name), *commands[name]]
    with running(command, ready=base, env={"DEBUG_PORT": str(debug_port), **EVERY_BLOCK}):
        assert get(base) == b"hello\n"
        check_endpoints(f"http://127.0.0.1:{debug_port}/debug/pprof/")


def check_endpoints(url: str) -> None:
    """The index and one profile of each source."""
    assert b"go tool pprof" in get(url)
    assert decode(get(f"{url}heap")).total("inuse_space") > 0
    assert decode(get(f"{url}profile?seconds=1")).duration_nanos > 0
    assert decode(get(f"{url}goroutine")).samples


def test_record_block(tmp_path: Path) -> None:
    path = tmp_path / "slow.pb.gz"
    output = subprocess.run(
        [sys.executable, EXAMPLES / "record_block.py", path],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert output.endswith(f"s of CPU in {path}\n")
    profile = decode(path.read_bytes())
    column = profile.column("cpu")
    in_triangle = sum(
        sample.values[column]
        for sample in profile.samples
        if any(frame.function == "__main__.triangle" for frame in sample.stack)
    )
    assert in_triangle > 0.5 * profile.total("cpu")


def test_the_demo_names_the_leak_and_opens_what_it_saved(
    go_command: list[str], tmp_path: Path
) -> None:
    result = subprocess.run(
        [sys.executable, EXAMPLES / "demo.py", "--output", tmp_path],
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "COLUMNS": "100"},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    leak = re.search(
        r"leak: leaky_channel.Channel.send keeps (\d+)( ± \d+)? bytes a message, allocated at\n",
        result.stdout,
    )
    assert leak is not None
    # Six standard errors of 128 MB from samples of 16 KiB; with tracemalloc it is exact.
    assert int(leak[1]) == pytest.approx(128, rel=0.07)
    assert "envelope = ENVELOPE.pack(self.sent, time.time_ns(), self._topic)" in result.stdout
    assert "Showing top 5 nodes" in result.stdout  # Go's own pprof
    assert "go tool pprof -http=: -base" in result.stdout
    assert result.stderr == ""
    saved = {path.name for path in tmp_path.iterdir()}
    assert saved == {"heap-before.pb.gz", "heap-after.pb.gz", "cpu.pb.gz"}


def test_every_example_is_tested_here() -> None:
    text = Path(__file__).read_text() + (Path(__file__).parent / "test_go_pprof.py").read_text()
    untested = [
        path.name
        for path in EXAMPLES.glob("*.py")
        if path.stem not in text and path.name != "leaky_channel.py"
    ]
    assert untested == []
