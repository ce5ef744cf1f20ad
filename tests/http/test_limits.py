"""Limits: captures at once, the longest window, garbage collected for a profile."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message

import pyprof_agent
from pyprof_agent import Agent, Config, ConfigError, make_asgi_app
from pyprof_agent.http import limits
from pyprof_agent.http.limits import Captures, Garbage, TooManyError
from pyprof_agent.http.shutdown import ServerEnd


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the limits."""
    clock = Clock()
    monkeypatch.setattr(limits, "time", clock)
    return clock


@pytest.fixture
def app() -> Iterator[ASGIApp]:
    """An application that serves two captures at once of at most 20 s."""
    agent = Agent(Config(stacks=False))
    agent.start()
    yield make_asgi_app(agent, max_seconds=20, max_captures=2)
    agent.stop()


def client_of(app: ASGIApp) -> TestClient:
    return TestClient(app, base_url="http://localhost", client=("127.0.0.1", 1))


class Request:
    """A request made by hand, whose client hangs up when told to."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self.hang_up = asyncio.Event()
        self.sent: list[Message] = []
        name, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": "GET",
            "path": f"/{name}",
            "query_string": query.encode(),
            "headers": [(b"host", b"localhost")],
            "client": ("127.0.0.1", 1),
        }
        self.task = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def _receive(self) -> Message:
        await self.hang_up.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    async def answer(self) -> tuple[int, dict[bytes, bytes], bytes]:
        await asyncio.wait_for(self.task, 30)
        start, body = self.sent
        return start["status"], dict(start["headers"]), body["body"]


def test_more_captures_than_the_limit_are_told_when_to_come_back(app: ASGIApp) -> None:
    async def main() -> None:
        held = [Request(app, "goroutine?seconds=20"), Request(app, "heap?seconds=20")]
        await asyncio.sleep(0.2)
        status, headers, body = await Request(app, "allocs?seconds=5").answer()
        assert status == 429
        assert 18 <= int(headers[b"retry-after"]) <= 20
        assert headers[b"x-go-pprof"] == b"1"
        assert body.startswith(b"2 captures are under way, and no more are served at once; try")
        # What is no window has no part in it.
        assert (await Request(app, "goroutine").answer())[0] == 200
        held[0].hang_up.set()
        await asyncio.wait_for(held[0].task, 1)
        last = Request(app, "threadcreate?seconds=1")
        assert (await last.answer())[0] == 200
        held[1].hang_up.set()
        await held[1].task

    asyncio.run(main())


def test_clients_that_hang_up_free_what_they_held(app: ASGIApp) -> None:
    async def main() -> None:
        for _ in range(50):
            request = Request(app, "goroutine?seconds=20")
            await asyncio.sleep(0)
            request.hang_up.set()
            await asyncio.wait_for(request.task, 1)
        assert (await Request(app, "goroutine?seconds=1").answer())[0] == 200
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    gc.collect()
    assert not [kept for kept in gc.get_objects() if isinstance(kept, pyprof_agent.Window)]


def test_the_longest_window_can_be_set(app: ASGIApp) -> None:
    answer = client_of(app).get("/heap?seconds=21")
    assert (answer.status_code, answer.text) == (400, '"seconds" is 21; at most 20 are served\n')
    assert client_of(app).head("/heap?seconds=20").status_code == 200


def test_garbage_is_collected_once_in_ten_seconds(app: ASGIApp, clock: Clock) -> None:
    client = client_of(app)
    assert client.head("/heap?gc=1").status_code == 200  # collects nothing
    assert client.get("/heap?gc=1").status_code == 200
    clock.now += 3.5
    answer = client.get("/heap?gc=1")
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "7"
    assert answer.headers["x-go-pprof"] == "1"
    assert "gc=1 is served once in 10 s" in answer.text
    for path in ("/heap", "/heap?gc=0", "/allocs?gc=1"):
        assert client.get(path).status_code == 200
    clock.now += 6.5
    assert client.get("/heap?gc=1").status_code == 200


@pytest.mark.parametrize("name", ["max_seconds", "max_captures"])
def test_limits_of_no_use_are_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limit: dict[str, Any] = {name: 0}
    with pytest.raises(ConfigError, match=f"{name} is 0; use a whole number from 1"):
        make_asgi_app(**limit)
    monkeypatch.setenv(f"PYPROF_AGENT_{name.upper()}", "many")
    with pytest.raises(ConfigError, match=f"PYPROF_AGENT_{name.upper()} is 'many'"):
        pyprof_agent.serve(port=0)


def test_a_place_is_free_again_whatever_ends_a_capture(clock: Clock) -> None:
    captures = Captures(1)
    for error in (ValueError, KeyboardInterrupt, asyncio.CancelledError):
        place = captures.hold(5)
        place.__enter__()
        with pytest.raises(TooManyError) as caught, captures.hold(1):
            pass
        assert caught.value.retry_after == 5
        assert not place.__exit__(error, error(), None)
        with captures.hold(1):
            pass
    # One that takes longer than its window, as the encoder is busy.
    with captures.hold(5):
        clock.now += 60
        with pytest.raises(TooManyError, match="try again in 1 s"), captures.hold(1):
            pass


def test_who_is_too_early_does_not_put_the_next_collection_off(clock: Clock) -> None:
    garbage = Garbage()
    garbage.collect()
    for _ in range(9):
        clock.now += 1
        with pytest.raises(TooManyError):
            garbage.collect()
    clock.now += 1
    garbage.collect()


# The end of the server


def test_without_uvicorn_the_end_is_never_near() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ServerEnd().near(), 0.5)

    asyncio.run(main())


@pytest.mark.parametrize("inside", [False, True], ids=["serve itself", "awaited, as by gunicorn"])
def test_the_end_of_uvicorn_is_noticed(inside: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("nobody asks")

    async def main() -> None:
        server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_config=None))

        async def wrapped() -> None:
            await server.serve()

        # Beside the test's own code, which is not uvicorn's.
        serving = asyncio.ensure_future(wrapped() if inside else server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        end = ServerEnd()
        near = asyncio.ensure_future(end.near())
        await asyncio.sleep(0.5)
        assert not near.done()
        server.should_exit = True
        await asyncio.wait_for(near, 1)
        await asyncio.wait_for(end.near(), 1)
        await asyncio.wait_for(serving, 5)

    asyncio.run(main())
