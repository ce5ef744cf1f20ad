"""The watch in the example service: the leak has a name, a rate, a page and a warning."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pyprof_agent.sources import heap_native
from tests.chromium import browser, executable
from tests.support import EXAMPLES, free_port, running

pytestmark = pytest.mark.skipif(bool(heap_native.unusable()), reason=heap_native.unusable() or "-")

SECONDS = 8
CHROMIUM = executable()


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """The leaky service, leaking under load."""
    port, over = free_port(), threading.Event()
    base = f"http://localhost:{port}"

    def load() -> None:
        while not over.wait(0.02):
            httpx.post(f"{base}/messages?count=100", timeout=60)

    command = [sys.executable, str(EXAMPLES / "leaky_service.py"), "--port", str(port)]
    environ = {"PYPROF_AGENT_LEAK_WINDOW": str(SECONDS), "PYPROF_AGENT_HEAP_SAMPLE_BYTES": "256"}
    with running(command, ready=f"{base}/ping", env=environ):
        httpx.delete(f"{base}/receiver")
        thread = threading.Thread(target=load)
        thread.start()
        try:
            yield f"{base}/debug/pprof/leaks"
        finally:
            over.set()
            thread.join()


def found(url: str) -> dict[str, Any]:
    """The report, once it warns."""
    deadline = time.monotonic() + 60
    while True:
        answer: dict[str, Any] = httpx.get(f"{url}?format=json").json()
        if answer["alarms"] or time.monotonic() > deadline:
            return answer
        time.sleep(0.5)


def test_it_is_named_with_its_bytes_a_message(service: str) -> None:
    report = found(service)
    assert report["verdict"] == "leak"
    suspect = report["suspects"][0]
    lines = (EXAMPLES / "leaky_channel.py").read_text().splitlines()
    assert "ENVELOPE.pack" in lines[suspect["line"] - 1]
    assert suspect["bytes_per_request"]["estimate"] == pytest.approx(128, rel=0.05)
    assert suspect["bytes_per_hour"]["low"] > 0
    assert [frame["function"] for frame in suspect["stack"]][1].endswith("send_messages")


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_and_complains_of_nothing(
    service: str, width: int, dark: bool, tmp_path: Path
) -> None:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on PATH")
    found(service)
    with browser(CHROMIUM) as page:
        page.open(service, width=width, dark=dark)
        assert page.complaints == []
        assert page.run("document.documentElement.scrollWidth") <= width
        assert "leaky_channel.Channel.send" in page.run("document.body.innerText")
        assert page.run("document.querySelectorAll('polyline').length") >= 2
        page.picture(tmp_path / "leaks.png")
        assert (tmp_path / "leaks.png").stat().st_size > 10_000


def test_the_text_is_for_curl(service: str) -> None:
    found(service)
    text = httpx.get(service, headers={"accept": "*/*"}).text
    assert text.startswith("leak: memory grows by more than 5 % of the process an hour\n")
