"""The path `leaks`: a page for people, JSON for machines, text for curl."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
from starlette.testclient import TestClient

from pyprof_agent import Agent, Config, LeakReport, make_asgi_app
from pyprof_agent.http import leak_page
from pyprof_agent.leaks.history import History
from pyprof_agent.leaks.looks import Counts, Look
from pyprof_agent.leaks.report import report
from pyprof_agent.profile import Frame
from tests.leaks.test_report import watched

LOCAL = ("127.0.0.1", 50000)
URL = "http://localhost:8000/"


def client_of(agent: Agent) -> TestClient:
    return TestClient(make_asgi_app(agent), client=LOCAL, base_url=URL)


@pytest.fixture
def watching() -> Iterator[Agent]:
    found = Agent(Config(stacks=False, leak_window=600))
    found.start()
    yield found
    found.stop()


@pytest.fixture
def client(watching: Agent, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setattr(Agent, "leaks", lambda self: watched(8))
    return client_of(watching)


def test_curl_gets_text(client: TestClient) -> None:
    answer = client.get("leaks")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.text.startswith("leak: memory grows by more than 5 % of the process an hour\n")
    assert f"go tool pprof -http=: '{URL}heap'" in answer.text


def test_machines_get_json(client: TestClient) -> None:
    answer = client.get("leaks?format=json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["suspects"][0]["file"] == "/shop/channel.py"


def test_a_browser_gets_a_page_that_needs_no_script(client: TestClient) -> None:
    answer = client.get("leaks", headers={"accept": "text/html,*/*;q=0.8"})
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "script" not in answer.headers["content-security-policy"]
    assert "<svg" in answer.text
    assert "shop.channel.send (/shop/channel.py:40)" in answer.text
    assert client.get("leaks?format=text", headers={"accept": "text/html"}).text.startswith("leak")


def test_another_format_and_another_method_are_refused(client: TestClient) -> None:
    answer = client.get("leaks?format=proto")
    assert answer.status_code == 400
    assert answer.text == "\"format\" is 'proto'; use one of: text, json, html\n"
    assert client.post("leaks").status_code == 405
    head = client.head("leaks")
    assert (head.status_code, head.content) == (200, b"")


def test_where_it_is_off_the_answer_says_how_to_switch_it_on() -> None:
    off = Agent(Config(stacks=False, leak_window=0))
    off.start()
    answer = client_of(off).get("/leaks")
    off.stop()
    assert answer.status_code == 404
    assert answer.text.startswith("the leak watch is off: leak_window is 0")


def test_an_agent_that_does_not_run_is_unavailable_and_not_off() -> None:
    answer = client_of(Agent(Config(stacks=False, leak_window=600))).get("/leaks")
    assert answer.status_code == 503
    assert answer.text.startswith("the agent is not running")


def test_the_index_has_a_link_to_it_where_it_is_on(watching: Agent) -> None:
    page = client_of(watching).get("/").text
    assert '<a href="leaks">leaks</a>' in page
    assert "Whether memory grows" in page
    off = Agent(Config(heap=False, stacks=False))
    off.start()
    assert 'href="leaks"' not in client_of(off).get("/").text
    off.stop()


def hostile() -> LeakReport:
    """A report with names that are markup."""
    line = Frame("<script>alert(1)</script>", "/shop/\"'&.py", 1, 2)
    history = History(1)
    for number in range(60):
        size = 1e6 * number
        history.add(Look(60.0 * number, {line: Counts(size, size)}, 1, None), None)
    return report(history, 3600, 5.0)


def test_names_are_text_in_the_page_and_the_picture_is_well_formed() -> None:
    page = leak_page.page(hostile(), URL)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    for picture in re.findall(r"<svg.*?</svg>", page):
        ElementTree.fromstring(picture)


def test_a_page_of_nothing_is_a_page() -> None:
    page = leak_page.page(report(History(1), 3600, 5.0), URL)
    assert "cannot tell" in page
    assert "<svg" not in page
