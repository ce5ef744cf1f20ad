"""The formats as their users meet them: the documentation's commands, a browser, pprof."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.chromium import Page, browser, executable
from tests.conftest import GoPprof
from tests.support import EXAMPLES, ROOT, free_port, running

CHROMIUM = executable()
ENDPOINTS = (ROOT / "docs" / "endpoints.md").read_text()
SECTION = ENDPOINTS[ENDPOINTS.index("\n## Formats\n") : ENDPOINTS.index("\n## Index\n")]
COMMANDS = re.findall(r"^    (curl .*)$", SECTION, re.MULTILINE)


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """The leaky service after some messages; its base URL."""
    port = free_port()
    base = f"http://localhost:{port}"
    command = [sys.executable, str(EXAMPLES / "leaky_service.py"), "--port", str(port)]
    env = {"PYPROF_AGENT_HEAP_SAMPLE_BYTES": "4096", "PYPROF_AGENT_MAX_FRAMES": "10"}
    with running(command, ready=f"{base}/ping", env=env):
        httpx.delete(f"{base}/receiver")
        httpx.post(f"{base}/messages?count=20000", timeout=60)
        yield base


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on PATH")
    with browser(CHROMIUM) as page:
        yield page


def test_the_section_has_commands() -> None:
    assert len(COMMANDS) >= 5
    for wanted in ("top", "html", "folded", "speedscope"):
        assert any(f"format={wanted}" in command for command in COMMANDS)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on PATH")
@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_documentation_work(service: str, command: str, tmp_path: Path) -> None:
    line = command.replace("localhost:8000", service.removeprefix("http://"))
    line = line.replace("curl ", "curl --silent --show-error --fail ")
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # grep -c fails where it counts 0.
    assert result.returncode == 0 or (result.stdout, result.stderr) == ("0\n", ""), result.stderr
    files = [path.read_bytes() for path in tmp_path.iterdir()]
    assert len(files) == command.count(" -o ")
    assert all(files or [result.stdout])


def test_top_is_what_pprof_makes_of_the_same_url(service: str, go_pprof: GoPprof) -> None:
    ours = httpx.get(f"{service}/debug/pprof/heap?format=top").text
    theirs = go_pprof("-top", f"{service}/debug/pprof/heap")
    heading = "      flat  flat%   sum%        cum   cum%\n"
    first = [text.partition(heading)[2].splitlines()[0].split()[-1] for text in (ours, theirs)]
    assert first == ["leaky_channel.Channel.send"] * 2


def test_pprof_reads_what_a_client_of_zstd_saves(
    service: str, go_pprof: GoPprof, tmp_path: Path
) -> None:
    answer = httpx.get(f"{service}/debug/pprof/heap", headers={"accept-encoding": "zstd"})
    assert answer.headers["content-encoding"] == "zstd"
    path = tmp_path / "heap.pb"
    path.write_bytes(answer.content)  # decoded by httpx
    assert "leaky_channel.Channel.send" in go_pprof("-top", path)


def test_the_flame_graph_is_drawn_from_the_url(service: str, page: Page) -> None:
    page.complaints.clear()
    page.open(f"{service}/debug/pprof/heap?format=html")
    names = "[...document.querySelectorAll('g')].map(g => g.getAttribute('name'))"
    page.wait_for(f"{names}.includes('leaky_channel.Channel.send')")
    assert page.complaints == []
    assert page.requests == [f"{service}/debug/pprof/heap?format=html"]


@pytest.mark.parametrize("width", [390, 1200])
def test_the_index_fits_the_screen_and_loads_nothing(service: str, page: Page, width: int) -> None:
    page.complaints.clear()
    page.open(f"{service}/debug/pprof/", width=width)
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.complaints == []
    assert page.requests == [f"{service}/debug/pprof/"]


@pytest.mark.parametrize("dark", [False, True])
def test_links_of_the_index_can_be_read(service: str, page: Page, dark: bool) -> None:
    page.open(f"{service}/debug/pprof/", dark=dark)
    colours = page.run(
        "(() => { const of = (name, what) => getComputedStyle(document.querySelector(name))[what];"
        "const canvas = document.createElement('div'); canvas.style.color = 'canvas';"
        "document.body.append(canvas);"
        "return [of('a', 'color'), of('body', 'color'), getComputedStyle(canvas).color] })()"
    )
    link, text, ground = (luminance(colour) for colour in colours)
    for colour in (link, text):
        contrast = (max(colour, ground) + 0.05) / (min(colour, ground) + 0.05)
        assert contrast >= 4.5, "the least that WCAG 2 asks for"


def luminance(colour: str) -> float:
    """WCAG's relative luminance of a colour as browsers compute it: `rgb(11, 87, 208)`."""
    channels = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
