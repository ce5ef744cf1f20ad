"""The real `go tool pprof` on files and on live URLs of the example service."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import GoPprof
from tests.support import EXAMPLES, SERVICE_HEAP_ENGINES, free_port, get, running

ALLOCATING_LINE = "envelope = ENVELOPE.pack(self.sent, time.time_ns(), self._topic)"


@pytest.fixture(scope="module", params=SERVICE_HEAP_ENGINES)
def service(request: pytest.FixtureRequest) -> Iterator[str]:
    """The leaky service, its receiver gone and 20,000 messages sent; its base URL.

    Every block is a sample, so that the numbers are exact with either engine. So is what the
    agent itself holds, and stacks are short so that this is less than the leak.
    """
    env = {
        "PYPROF_AGENT_HEAP_ENGINE": request.param,
        "PYPROF_AGENT_HEAP_SAMPLE_BYTES": "1",
        "PYPROF_AGENT_MAX_FRAMES": "10",
    }
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    command = [sys.executable, str(EXAMPLES / "leaky_service.py"), "--port", str(port)]
    with running(command, ready=f"{base}/ping", env=env):
        httpx.delete(f"{base}/receiver")
        httpx.post(f"{base}/messages?count=20000", timeout=60)
        yield base


@pytest.fixture(params=["file", "url"])
def heap(request: pytest.FixtureRequest, service: str, tmp_path: Path) -> str:
    """The heap profile of the service, as a file and as a live URL."""
    url = f"{service}/debug/pprof/heap"
    if request.param == "url":
        return url
    path = tmp_path / "heap.pb.gz"
    path.write_bytes(get(url))
    return str(path)


def test_top_shows_the_leak_first(go_pprof: GoPprof, heap: str) -> None:
    output = go_pprof("-top", heap)
    assert "Type: inuse_space" in output
    first = output[output.index("flat%") :].splitlines()[1]
    assert first.endswith("leaky_channel.Channel.send")


def test_sample_index_alloc_space_is_served(go_pprof: GoPprof, heap: str) -> None:
    output = go_pprof("-top", "-sample_index=alloc_space", heap)
    assert "Type: alloc_space" in output
    assert "leaky_channel.Channel.send" in output


def test_raw_has_every_field_that_readers_need(go_pprof: GoPprof, heap: str) -> None:
    output = go_pprof("-raw", heap)
    assert "PeriodType: space bytes" in output
    assert (
        "alloc_objects/count alloc_space/bytes inuse_objects/count inuse_space/bytes[dflt]"
        in output
    )
    assert re.search(r"leaky_channel\.Channel\.send \S+/leaky_channel\.py:40:0 s=37", output)
    assert "[FN][FL][LN]" in output


def test_list_annotates_the_allocating_line(go_pprof: GoPprof, heap: str) -> None:
    output = go_pprof("-list", "Channel.send", heap)
    (line,) = [line for line in output.splitlines() if ALLOCATING_LINE in line]
    # 20,000 envelopes of 128 bytes are 2.44 MB.
    assert line.split()[:3] == ["2.44MB", "2.44MB", "40:"]


def test_diff_base_shows_what_grew(go_pprof: GoPprof, service: str, tmp_path: Path) -> None:
    before = tmp_path / "before.pb.gz"
    before.write_bytes(get(f"{service}/debug/pprof/heap"))
    httpx.post(f"{service}/messages?count=1000", timeout=60)
    output = go_pprof("-top", "-unit=B", "-diff_base", before, f"{service}/debug/pprof/heap")
    (row,) = [line for line in output.splitlines() if line.endswith("leaky_channel.Channel.send")]
    # 128 bytes for each of 1,000 messages, and the deque's blocks of 64 pointers.
    assert 128_000 <= int(row.split()[0].removesuffix("B")) <= 128_000 + 9_000


def test_heap_with_seconds_is_a_delta(go_pprof: GoPprof, service: str) -> None:
    output = go_pprof("-top", f"{service}/debug/pprof/heap?seconds=1")
    assert re.search(r"Duration: 1(\.\d+)?s,", output)  # it rounds to hundredths, and drops zeros


@pytest.mark.parametrize("name", ["profile", "wall"])
def test_cpu_and_wall_from_a_live_url(go_pprof: GoPprof, service: str, name: str) -> None:
    output = go_pprof("-top", "-seconds=1", f"{service}/debug/pprof/{name}")
    assert f"Type: {'cpu' if name == 'profile' else 'wall'}" in output
    assert "python" in output.splitlines()[0]


@pytest.mark.parametrize("name", ["goroutine", "threadcreate"])
def test_counts_from_a_live_url(go_pprof: GoPprof, service: str, name: str) -> None:
    assert f"Type: {name}" in go_pprof("-top", f"{service}/debug/pprof/{name}")


def test_tags_tell_threads_apart(go_pprof: GoPprof, service: str) -> None:
    output = go_pprof("-tags", "-seconds=1", f"{service}/debug/pprof/wall")
    assert "MainThread" in output


def test_an_error_answer_is_printed_by_pprof(go_command: list[str], service: str) -> None:
    result = subprocess.run(
        [*go_command, "tool", "pprof", "-top", f"{service}/debug/pprof/heap?seconds=1&debug=1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "seconds and debug params are incompatible" in result.stderr


SERVICE = """
import pyprof_agent
from pyprof_agent.access import Basic
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount

pyprof_agent.start(stacks=False, heap_sample_bytes=1)
debug = pyprof_agent.make_asgi_app(access=Basic("me", "p w:d"))
app = Starlette(
    routes=[Mount("/debug/pprof", debug)], middleware=[Middleware(GZipMiddleware, minimum_size=1)]
)
"""


def test_pprof_reads_behind_a_password_and_a_middleware_that_compresses(
    go_command: list[str], go_pprof: GoPprof, tmp_path: Path
) -> None:
    (tmp_path / "service.py").write_text(SERVICE)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(tmp_path), "--port", str(port)]
    own = f"me:p%20w%3Ad@127.0.0.1:{port}/debug/pprof"
    # Any answer will do to see that it is up: the service's own root is a 404.
    with subprocess.Popen([*command, "service:app"], stderr=subprocess.DEVNULL) as process:
        try:
            with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as client:
                refused = client.get(f"http://127.0.0.1:{port}/debug/pprof/heap", timeout=30)
            assert refused.status_code == 401
            assert "Type: inuse_space" in go_pprof("-top", f"http://{own}/heap")
            complaint = subprocess.run(
                [*go_command, "tool", "pprof", "-top", f"http://127.0.0.1:{port}/debug/pprof/heap"],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            ).stderr
            assert "401 Unauthorized - a valid user name and password are needed" in complaint
        finally:
            process.terminate()
