"""Any request whatever has an answer that is meant: no traceback, no 500, Go's error headers."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp

from pyprof_agent import Agent, Config, make_asgi_app, make_fgprof_app
from pyprof_agent.access import Networks
from tests.http import hostile

LOOPBACK = st.sampled_from((b"localhost", b"localhost", b"127.0.0.1:80", b"[::1]:80", b"", b"evil"))
ANY_HOST = st.one_of(
    st.sampled_from((b"localhost", b"", b"[", b"[::1", b"a b", b"a:b:c", b"//", b"@", b"\xff")),
    st.binary(max_size=12),
)
HOSTS = {"loopback": LOOPBACK, "fgprof": LOOPBACK, "networks": ANY_HOST}


@pytest.fixture(scope="module")
def agent_of_all() -> Iterator[Agent]:
    """An agent with every profile."""
    agent = Agent(Config(stack_hz=10))
    agent.start()
    yield agent
    agent.stop()


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> None:
    """Not here: one agent serves all tests of this module."""


@pytest.fixture(scope="module")
def apps(agent_of_all: Agent) -> dict[str, ASGIApp]:
    """The application with different doors, and the one for fgprof."""
    everybody = Networks("0.0.0.0/0")
    return {
        "loopback": make_asgi_app(agent_of_all, cmdline=True, max_captures=1000),
        "networks": make_asgi_app(agent_of_all, access=everybody, max_captures=1000),
        "fgprof": make_fgprof_app(agent_of_all, max_captures=1000),
    }


@pytest.mark.parametrize("kind", HOSTS)
def test_any_request_has_an_answer_that_is_meant(
    apps: dict[str, ASGIApp], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = apps[kind]
    with asyncio.Runner() as runner:

        @settings(max_examples=150)
        @given(hostile.requests(host=HOSTS[kind]))
        def fuzz(request: hostile.Request) -> None:
            # Windows are left at once: that is another answer, and none for who is gone.
            answer = runner.run(hostile.answer_to(app, request, hang_up_after=0))
            hostile.check(request, answer)

        with caplog.at_level(logging.WARNING):
            fuzz()
        assert caplog.text == ""


def test_hostile_requests_leave_nothing_behind(apps: dict[str, ASGIApp]) -> None:
    kept: list[hostile.Request] = []

    @settings(max_examples=100)
    @given(hostile.requests(host=ANY_HOST))
    def keep(request: hostile.Request) -> None:
        kept.append(request)

    async def replay() -> int:
        for request in kept:
            await hostile.answer_to(apps["networks"], request, hang_up_after=0)
        assert len(asyncio.all_tasks()) == 1
        return hostile.left_over()

    keep()
    with asyncio.Runner() as runner:
        runner.run(replay())  # what is learnt once: names, caches
        threads = threading.active_count()
        before = runner.run(replay())
        for _ in range(3):
            after = runner.run(replay())
    # An object a request would be 300.
    assert after - before < 50
    assert threading.active_count() <= threads
