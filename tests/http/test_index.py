"""The index page: what it says, that every link of it works, and that it costs little."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest
from starlette.testclient import TestClient

from pyprof_agent import Agent, Config, make_asgi_app
from pyprof_agent.hidden_thread import HIDDEN
from pyprof_agent.http import index
from tests.http.test_app import BASE, LOCAL, client_of

STATS = {
    "threads": {"threads": 3, "tasks": 4},
    "heap": {"samples": 2213, "stacks": 39, "dropped": 7, "sample_bytes": 524288},
    "stacks": {"hz": 20, "ticks": 41, "stacks": 6, "failures": 0},
    "process": {
        "resident_bytes": 173543424,
        "heap_bytes": 135285552,
        "seconds": 90061,
        "agent_seconds": 59.6,
    },
}


def page(**changes: Any) -> str:
    """A page of literal facts."""
    facts: dict[str, Any] = {
        "url": "http://localhost/debug/pprof/",
        "profiles": ("heap", "profile", "goroutine"),
        "windowed": ("profile",),
        "engines": {"heap": "native", "stacks": "python"},
        "fallbacks": {},
        "stats": STATS,
        "cmdline": False,
    }
    return index.page(**{**facts, **changes})


class _Rows(HTMLParser):
    """The rows of all tables, as the texts of their cells."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._in_cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("th", "td"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.rows[-1][-1] += data


def rows(content: str) -> dict[str, list[str]]:
    """The cells of each row after its first one, by that."""
    parser = _Rows()
    parser.feed(content)
    return {row[0]: row[1:] for row in parser.rows}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """A client of an application that serves an agent of its own."""
    agent = Agent(Config(stack_hz=200, heap_sample_bytes=4096))
    agent.start()
    with client_of(make_asgi_app(agent, max_seconds=1)) as client:
        yield client
    agent.stop()


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> None:
    """Not here: one agent serves all tests of this module."""


def test_every_profile_has_its_row_and_its_formats(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    found = rows(answer.text)
    for name in ("heap", "allocs", "profile", "wall", "goroutine", "threadcreate"):
        _, links, what = found[name]
        assert links.startswith("flame graphtopfoldedspeedscope")
        assert what == index.DESCRIPTIONS[name]
    assert found["symbol"][1] == ""
    assert "cmdline" not in found


def test_every_link_leads_to_an_answer(client: TestClient) -> None:
    links = [unescape(link) for link in re.findall(r'href="([^"]+)"', client.get("/").text)]
    assert len(links) > 30
    for link in links:
        shorter = link.replace("seconds=10", "seconds=1")
        assert client.head(f"/{shorter}").status_code == 200, link
    assert "profile?format=html&seconds=10" in links
    assert "heap?format=html" in links


def test_memory_is_told_with_what_is_not_seen() -> None:
    found = rows(page())
    assert found["resident set size"][0] == "165.50MB"
    assert found["Python heap in use"] == [
        "129.02MB",
        "allocated since the agent's start; estimated from samples",
    ]
    assert found["the rest"][0] == "36.49MB"
    assert "C code does not get from Python's allocators" in found["the rest"][1]


def test_without_a_heap_engine_or_a_proc_there_is_less_to_tell() -> None:
    found = rows(page(stats={"process": {"resident_bytes": 1 << 20}}))
    assert found["resident set size"][0] == "1MB"
    assert "the rest" not in found
    assert "resident set size" not in rows(page(stats={"process": {"heap_bytes": 5}}))
    exact = rows(page(stats={"heap": {"stacks": 1}, "process": {"heap_bytes": 5}}))
    assert exact["Python heap in use"][1].endswith("exact")


def test_the_time_it_runs() -> None:
    found = rows(page())
    assert found["process runs for"][0] == "1 d 1 h"
    assert found["agent runs for"][0] == "1 min 0 s"


def test_engines_their_rates_and_what_was_lost() -> None:
    found = rows(page())
    assert found["heap engine"] == ["native", "in C; taken where it can be used"]
    assert found["heap rate"] == ["512kB", "allocated between two samples, on average"]
    assert found["stacks rate"][0] == "20 Hz"
    assert found["heap: dropped"] == [
        "7",
        "samples lost: no memory, or other code had removed the hooks",
    ]
    assert found["heap: samples"][0] == "2,213"
    fallback = rows(page(fallbacks={"heap": "it was <not> built"}))
    assert fallback["heap: not native because"] == ["", "it was <not> built"]


def test_every_number_of_a_real_agent_is_there_once(client: TestClient) -> None:
    agent = Agent(Config())
    parser = _Rows()
    parser.feed(client.get("/").text)
    names = [row[0] for row in parser.rows]
    for room, numbers in agent.stats().items():
        for key in numbers:
            if room != "process" and key not in ("hz", "sample_bytes"):
                known = (f"{room}: {key}", f"{room}: {key.replace('_', ' ')}")
                assert sum(name in known for name in names) == 1, (room, key)
    assert {"resident set size", "Python heap in use", "agent runs for"} <= {*names}


def test_the_commands_are_for_this_very_address() -> None:
    commands = unescape(page(url="https://shop.example/api/debug/pprof/"))
    assert "go tool pprof -http=: 'https://shop.example/api/debug/pprof/heap'" in commands
    assert "'https://shop.example/api/debug/pprof/profile?seconds=10'" in commands
    assert "curl 'https://shop.example/api/debug/pprof/goroutine?debug=2'" in commands
    assert "go tool" not in page(profiles=("goroutine",))


def test_the_commands_are_right_below_a_root_path() -> None:
    agent = Agent(Config(heap=False, stacks=False))
    agent.start()
    client = TestClient(
        make_asgi_app(agent), base_url=BASE, client=LOCAL, root_path="/api/debug/pprof"
    )
    answer = client.get("/")
    agent.stop()
    assert f"curl '{BASE}/api/debug/pprof/goroutine?debug=2'" in unescape(answer.text)


def test_what_it_is_told_is_text() -> None:
    hostile = "\"><script>alert(1)</script>'&"
    content = page(
        url=f"http://x/{hostile}/",
        engines={"heap": hostile},
        fallbacks={"heap": hostile},
        stats={hostile: {hostile: 1}},
    )
    assert "<script" not in content


def test_it_needs_no_script_and_says_how_it_is_to_be_read(client: TestClient) -> None:
    answer = client.get("/")
    assert "script" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert '<html lang="en">' in answer.text
    assert 'name="viewport"' in answer.text
    assert answer.text.count("<h1>") == 1
    assert "<td><a" not in answer.text, "a row is headed by a th"
    for table in re.findall(r"<table.*?</table>", answer.text, re.DOTALL):
        labelled = re.search(r'aria-labelledby="([^"]+)"', table)
        assert labelled is not None
        assert f'<h2 id="{labelled[1]}">' in answer.text
        for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL):
            assert 'scope="row"' in row or 'scope="col"' in row
    names = re.findall(r'aria-label="([^"]+)"', answer.text)
    assert len(names) == len(set(names)), "no two links are read alike"


def test_the_numbers_are_collected_in_the_worker(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    real = Agent.stats

    def stats(agent: Agent) -> Any:
        threads.append(HIDDEN[threading.get_ident()].name)
        return real(agent)

    monkeypatch.setattr(Agent, "stats", stats)
    assert client.get("/").status_code == 200
    assert threads == ["pyprof-agent-worker"]


def test_the_page_itself_is_made_in_a_moment() -> None:
    times = []
    for _ in range(20):
        start = time.thread_time()
        page()
        times.append(time.thread_time() - start)
    assert min(times) < 0.01  # 0.2 ms where nothing else runs
