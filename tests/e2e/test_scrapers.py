"""Every path that scrapers ask for by default is served, as they ask: back to back, overlapping."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from pyprof_agent.formats.pprof import decode
from tests.conftest import GoPprof
from tests.support import EXAMPLES, ROOT, free_port, get, running


@dataclass(frozen=True)
class Scrape:
    """A path, and whether the scraper adds `seconds` to it."""

    path: str
    seconds: bool = False


SCRAPERS = {
    # internal/component/pyroscope/scrape/scrape.go of grafana/alloy, DefaultProfilingConfig;
    # those that are off until switched on are served as well
    "Alloy": [
        Scrape("/debug/pprof/allocs"),
        Scrape("/debug/pprof/block"),
        Scrape("/debug/pprof/goroutine"),
        Scrape("/debug/pprof/mutex"),
        Scrape("/debug/pprof/profile", seconds=True),
        Scrape("/debug/fgprof", seconds=True),
        Scrape("/debug/pprof/delta_heap"),
        Scrape("/debug/pprof/delta_mutex"),
        Scrape("/debug/pprof/delta_block"),
    ],
    # pkg/config/config.go of parca-dev/parca, DefaultScrapeConfig
    "Parca": [
        Scrape("/debug/pprof/allocs"),
        Scrape("/debug/pprof/block"),
        Scrape("/debug/pprof/goroutine"),
        Scrape("/debug/pprof/mutex"),
        Scrape("/debug/pprof/profile", seconds=True),
    ],
}

SIDE_PORT = """
import sys, threading
import pyprof_agent
pyprof_agent.start(heap_sample_bytes=8192)
kept = [bytes(1000) for _ in range(1000)]
pyprof_agent.serve(int(sys.argv[1]), max_captures=30)
threading.Event().wait()
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A program with the side port, which has all paths."""
    program = tmp_path_factory.mktemp("side-port") / "program.py"
    program.write_text(SIDE_PORT)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, str(program), str(port)]
    with running(command, ready=f"{url}/debug/pprof/"):
        yield url


def test_all_default_paths_are_served_back_to_back_and_overlapping(base: str) -> None:
    def scrape(each: Scrape) -> None:
        for _ in range(2):
            profile = decode(get(f"{base}{each.path}{'?seconds=1' if each.seconds else ''}"))
            assert profile.sample_types
            assert (profile.duration_nanos > 0) == each.seconds
            if "block" not in each.path and "mutex" not in each.path:
                assert profile.samples

    # Two at once, so that a scrape begins while the one before is under way.
    paths = {each for scraper in SCRAPERS.values() for each in scraper}
    twice = [each for each in paths for _ in range(2)]
    with ThreadPoolExecutor(len(twice)) as pool:
        for done in [pool.submit(scrape, each) for each in twice]:
            done.result()


def test_the_documentation_names_all_of_them() -> None:
    page = (ROOT / "docs" / "endpoints.md").read_text()
    page = page[page.index("## What scrapers ask for") : page.index("## What differs from Go")]
    for each in SCRAPERS["Alloy"] + SCRAPERS["Parca"]:
        assert f"`{each.path.removeprefix('/debug/pprof/')}" in page


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("heap", ["__main__.<module>"]),
        ("goroutine", ["pyprof_agent.pauses.wait_readable", "threading.Event.wait"]),
        ("threadcreate", ["__main__.<module>", "pyprof_agent.worker.Worker._work"]),
    ],
)
def test_go_tool_pprof_reads_the_text_of_a_live_service_and_asks_for_the_names(
    go_pprof: GoPprof, base: str, path: str, names: list[str]
) -> None:
    output = go_pprof("-top", "-nodecount=100", f"{base}/debug/pprof/{path}?debug=1")
    assert f"Type: {'inuse_space' if path == 'heap' else path}" in output
    # pprof takes a symbol in angle brackets, such as <threads without Python>, for the arguments
    # of a C++ template, and drops it.
    assert output.count("<unknown>") <= (1 if path == "threadcreate" else 0)
    for name in names:
        assert name in output


@pytest.mark.parametrize("path", ["block", "mutex"])
def test_go_tool_pprof_reads_the_empty_ones(go_pprof: GoPprof, base: str, path: str) -> None:
    for query in ("", "?debug=1"):
        assert "Type: delay" in go_pprof("-top", f"{base}/debug/pprof/{path}{query}")


def test_a_scraper_told_the_path_below_the_mount_has_fgprof_too() -> None:
    port = free_port()
    command = [sys.executable, str(EXAMPLES / "leaky_service.py"), "--port", str(port)]
    with running(command, ready=f"http://127.0.0.1:{port}/ping"):
        url = f"http://127.0.0.1:{port}/debug"
        there = urllib.request.Request(f"{url}/pprof/fgprof", method="HEAD")
        with urllib.request.urlopen(there, timeout=60) as answer:
            assert answer.headers["content-disposition"] == 'attachment; filename="fgprof"'
        with pytest.raises(urllib.error.HTTPError) as missing:
            get(f"{url}/fgprof?seconds=1")
        missing.value.close()
        assert missing.value.code == 404
