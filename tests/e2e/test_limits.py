"""Real servers: their end does not wait for a capture, and a client that hangs up ends its own."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support import free_port, running

SERVICE = """
import pyprof_agent
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount

pyprof_agent.start(heap=False)

async def passed_on(request, call_next):
    return await call_next(request)

debug = Mount("/debug/pprof", pyprof_agent.make_asgi_app(max_captures=1))
plain = Starlette(routes=[debug])
wrapped = Starlette(
    routes=[debug],
    middleware=[Middleware(GZipMiddleware), Middleware(BaseHTTPMiddleware, dispatch=passed_on)],
)
"""

SERVERS = {
    "uvicorn": ("uvicorn", "--port={port}"),
    "uvicorn h11": ("uvicorn", "--port={port}", "--http=h11", "--loop=asyncio"),
    "gunicorn": (
        *("gunicorn", "--bind=127.0.0.1:{port}", "--graceful-timeout=25"),
        "--worker-class=uvicorn_worker.UvicornWorker",
    ),
    "gunicorn asgi": (
        *("gunicorn", "--bind=127.0.0.1:{port}", "--graceful-timeout=25"),
        "--worker-class=asgi",
    ),
}


@contextlib.contextmanager
def service(kind: str, app: str, folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server with the agent mounted in it."""
    (folder / "service.py").write_text(SERVICE)
    port = free_port()
    command = [sys.executable, "-m", *(word.format(port=port) for word in SERVERS[kind])]
    command += ["--chdir" if "gunicorn" in kind else "--app-dir", str(folder), f"service:{app}"]
    base = f"http://127.0.0.1:{port}/debug/pprof"
    with running(command, ready=f"{base}/") as process:
        yield base, process


# Not gunicorn with SIGINT: it sends its workers SIGQUIT, which those of uvicorn do not heed at all.
@pytest.mark.parametrize(
    ("kind", "app", "number"),
    [
        ("uvicorn", "plain", signal.SIGTERM),
        ("uvicorn", "wrapped", signal.SIGINT),
        pytest.param("uvicorn h11", "wrapped", signal.SIGTERM, marks=pytest.mark.thorough),
        pytest.param("gunicorn", "plain", signal.SIGTERM, marks=pytest.mark.thorough),
        ("gunicorn", "wrapped", signal.SIGTERM),
        pytest.param("gunicorn asgi", "plain", signal.SIGTERM, marks=pytest.mark.thorough),
    ],
)
def test_the_end_of_the_service_does_not_wait_for_a_capture(
    kind: str, app: str, number: signal.Signals, tmp_path: Path
) -> None:
    answers: list[httpx.Response] = []
    with service(kind, app, tmp_path) as (base, process):

        def capture() -> None:
            answers.append(httpx.get(f"{base}/profile?seconds=60", timeout=90))

        thread = threading.Thread(target=capture)
        thread.start()
        time.sleep(1)
        begin = time.monotonic()
        process.send_signal(number)
        process.wait(20)
        thread.join(20)
        assert time.monotonic() - begin < 4
    (answer,) = answers
    assert (answer.status_code, answer.text) == (503, "the service is shutting down\n")
    assert answer.headers["x-go-pprof"] == "1"


@pytest.mark.parametrize("app", ["plain", "wrapped"])
def test_a_client_that_hangs_up_frees_its_place_within_a_second(app: str, tmp_path: Path) -> None:
    with service("uvicorn", app, tmp_path) as (base, _):
        for _ in range(2):
            with pytest.raises(httpx.ReadTimeout):
                httpx.get(f"{base}/wall?seconds=60", timeout=0.3)
            time.sleep(0.7)
            # One capture is served at once.
            assert httpx.get(f"{base}/wall?seconds=1").status_code == 200


def test_one_too_many_is_told_when_to_come_back(tmp_path: Path) -> None:
    with service("uvicorn", "plain", tmp_path) as (base, _):
        first = threading.Thread(target=lambda: httpx.get(f"{base}/wall?seconds=3"))
        first.start()
        time.sleep(0.5)
        refused = httpx.get(f"{base}/wall?seconds=1")
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 3
        first.join()
        assert httpx.get(f"{base}/wall?seconds=1").status_code == 200
