"""The endpoints: Go's answers to good and bad requests, mounted in real applications."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator, Sequence

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message

import pyprof_agent
from pyprof_agent import Agent, Config, make_asgi_app
from pyprof_agent.formats.pprof import address, decode
from pyprof_agent.http import index

LOCAL = ("127.0.0.1", 50000)
BASE = "http://localhost:8000"
SECONDS = 'invalid value for "seconds" - must be a positive integer\n'
UNSUPPORTED = '"seconds" parameter is not supported for this profile type\n'


def client_of(app: ASGIApp, peer: tuple[str, int] = LOCAL) -> TestClient:
    # What httpx accepts of itself has zstd in it where CPython has, from 3.14 on.
    return TestClient(
        app,
        base_url=BASE,
        client=peer,
        follow_redirects=False,
        headers={"accept-encoding": "gzip, deflate"},
    )


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """A client of an application that serves an agent of its own, heap included."""
    agent = Agent(Config(stack_hz=200, heap_sample_bytes=4096))
    agent.start()
    with client_of(make_asgi_app(agent)) as client:
        yield client
    agent.stop()


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> None:
    """Not here: one agent serves all tests of this module."""


SNAPSHOTS = ("heap", "allocs", "goroutine", "threadcreate")


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_a_snapshot_is_a_gzip_file_to_download(client: TestClient, name: str) -> None:
    answer = client.get(f"/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-encoding"] == "identity"
    assert answer.content[:2] == b"\x1f\x8b"
    profile = decode(answer.content)
    assert profile.samples
    assert profile.duration_nanos == 0
    assert profile.time_nanos > 0


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_a_snapshot_with_seconds_is_a_delta(client: TestClient, name: str) -> None:
    answer = client.get(f"/{name}?seconds=1")
    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}-delta"'
    # From the first snapshot to the second, which itself takes a moment under tracemalloc.
    assert 1e9 <= decode(answer.content).duration_nanos < 5e9


@pytest.mark.parametrize("name", ["profile", "wall", "cpu"])
def test_a_window_has_a_duration(client: TestClient, name: str) -> None:
    answer = client.get(f"/{name}?seconds=1")
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    profile = decode(answer.content)
    assert profile.duration_nanos == pytest.approx(1e9, rel=0.5)
    assert profile.default_sample_type == ("wall" if name == "wall" else "cpu")


@pytest.mark.parametrize(
    ("name", "first_line"),
    [
        ("heap", "heap profile: "),
        ("allocs", "heap profile: "),
        ("goroutine", "goroutine profile: total "),
        ("threadcreate", "threadcreate profile: total "),
    ],
)
@pytest.mark.parametrize("debug", ["1", "2"])
def test_debug_is_text(client: TestClient, name: str, first_line: str, debug: str) -> None:
    answer = client.get(f"/{name}?debug={debug}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "content-disposition" not in answer.headers
    if (name, debug) == ("goroutine", "2"):
        assert '"MainThread":' in answer.text
    else:
        assert answer.text.startswith(first_line)


@pytest.mark.parametrize("query", ["debug=0", "debug=abc", "debug=", "junk", "a=b&&%zz=%", "%00"])
def test_junk_in_the_query_changes_nothing(client: TestClient, query: str) -> None:
    answer = client.get(f"/threadcreate?{query}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/octet-stream"


def test_gc_collects_garbage_first(client: TestClient) -> None:
    import gc

    gc.disable()
    try:
        make_cycle()
        before = held(client.get("/heap"))
        after = held(client.get("/heap?gc=1"))
    finally:
        gc.enable()
    assert before > 300_000
    assert after == 0


def make_cycle() -> None:
    cycle: list[object] = [bytes(300_000)]
    cycle.append(cycle)


def held(answer: object) -> float:
    profile = decode(getattr(answer, "content"))  # noqa: B009
    column = profile.column("inuse_space")
    return sum(
        sample.values[column]
        for sample in profile.samples
        if sample.stack[0].function == f"{__name__}.make_cycle"
    )


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/nosuch", 404, "Unknown profile\n"),
        ("GET", "/trace", 404, "Unknown profile\n"),
        ("GET", "/delta_heap?seconds=1", 400, UNSUPPORTED),
        ("GET", "/delta_block?seconds=1", 400, UNSUPPORTED),
        ("GET", "/delta_heap?seconds=x", 400, SECONDS),
        ("GET", "/heap/extra", 404, "Unknown profile\n"),
        ("GET", "/%2e%2e/heap", 404, "Unknown profile\n"),
        ("GET", "/nosuch?seconds=abc", 404, "Unknown profile\n"),
        ("GET", "/heap?seconds=abc", 400, SECONDS),
        ("GET", "/heap?seconds=-1", 400, SECONDS),
        ("GET", "/heap?seconds=0", 400, SECONDS),
        ("GET", "/heap?seconds=1.5", 400, SECONDS),
        ("GET", "/heap?seconds=1_0", 400, SECONDS),
        ("GET", "/heap?seconds=%D9%A3", 400, SECONDS),
        ("GET", f"/heap?seconds={10**30}", 400, SECONDS),
        ("GET", "/goroutine?seconds=0", 400, SECONDS),
        (
            "GET",
            f"/heap?seconds={10**12}",
            400,
            f'"seconds" is {10**12}; at most 300 are served\n',
        ),
        (
            "GET",
            f"/profile?seconds={10**12}",
            400,
            f'"seconds" is {10**12}; at most 300 are served\n',
        ),
        ("GET", "/wall?seconds=301", 400, '"seconds" is 301; at most 300 are served\n'),
        ("GET", "/heap?seconds=1&debug=1", 400, "seconds and debug params are incompatible\n"),
        ("POST", "/heap", 405, "Method Not Allowed\n"),
        ("POST", "/", 405, "Method Not Allowed\n"),
        ("PUT", "/heap", 405, "Method Not Allowed\n"),
        ("DELETE", "/symbol", 405, "Method Not Allowed\n"),
        (
            "GET",
            "/cmdline",
            404,
            "cmdline is off, as arguments may hold secrets; "
            "make_asgi_app(cmdline=True) switches it on\n",
        ),
    ],
)
def test_errors_are_gos(client: TestClient, method: str, path: str, status: int, body: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.text) == (status, body)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-go-pprof"] == "1"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "content-disposition" not in answer.headers
    if status == 405:
        allowed = "GET, HEAD, POST" if path == "/symbol" else "GET, HEAD"
        assert answer.headers["allow"] == allowed
    assert client.get("/threadcreate").status_code == 200


@pytest.mark.parametrize("path", ["/heap", "/profile", "/heap?debug=1", "/heap?seconds=100", "/"])
def test_head_has_the_headers_at_once_and_no_body(client: TestClient, path: str) -> None:
    answer = client.head(path)
    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "content-length" not in answer.headers


def test_head_of_a_bad_request_is_an_error(client: TestClient) -> None:
    assert client.head("/heap?seconds=x").status_code == 400
    assert client.head("/nosuch").status_code == 404


def test_symbol_names_the_addresses_of_profiles(client: TestClient) -> None:
    frame = decode(client.get("/goroutine").content).samples[0].stack[0]
    known = f"{address(frame):#x}"
    expected = f"num_symbols: 1\n{known} {frame.function}\n"
    assert client.get(f"/symbol?{known}+0x1+junk+").text == expected
    answer = client.post("/symbol", content=f"{known}+0x1\n")
    assert answer.text == expected
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert client.get("/symbol").text == "num_symbols: 1\n"
    assert client.post("/symbol", content=b"\xff\xfe+").text == "num_symbols: 1\n"


def test_symbol_refuses_a_huge_body(client: TestClient) -> None:
    answer = client.post("/symbol", content=b"0x1+" * (1 << 20) + b"+")
    assert answer.status_code == 413
    assert answer.headers["x-go-pprof"] == "1"


def test_every_profile_of_the_agent_has_a_description(client: TestClient) -> None:
    agent = Agent(Config())
    assert {*agent.profiles, "leaks", "cmdline", "symbol"} == set(index.DESCRIPTIONS)


def test_cmdline_where_it_is_asked_for(client: TestClient) -> None:
    agent = Agent(Config(heap=False, stacks=False))
    agent.start()
    app = client_of(make_asgi_app(agent, cmdline=True))
    answer = app.get("/cmdline")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text.split("\0") == [sys.executable, *sys.orig_argv[1:]]
    assert "cmdline" in app.get("/").text
    agent.stop()


def test_profiles_that_are_switched_off_are_unknown() -> None:
    agent = Agent(Config(heap=False, stacks=False))
    agent.start()
    app = client_of(make_asgi_app(agent))
    for name in ("heap", "allocs", "profile", "cpu", "wall"):
        assert app.get(f"/{name}").status_code == 404
    assert app.get("/goroutine").status_code == 200
    assert "curl" in app.get("/").text
    agent.stop()


@pytest.mark.parametrize("path", ["/", "/heap", "/goroutine", "/profile?seconds=1", "/symbol"])
def test_an_agent_that_does_not_run_is_told(path: str) -> None:
    answer = client_of(make_asgi_app()).get(path)
    assert answer.status_code == 503
    assert answer.text == "the agent is not running; call pyprof_agent.start() first\n"
    assert answer.headers["x-go-pprof"] == "1"


def test_a_collection_that_fails_is_a_500_without_a_traceback(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = Agent(Config(heap=False, stacks=False))
    agent.start()

    def broken(name: str) -> object:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(agent, "_since_start", broken)
    answer = client_of(make_asgi_app(agent)).get("/goroutine")
    agent.stop()
    assert answer.status_code == 500
    assert answer.text == "failed to collect profile; the service's log says why\n"
    assert "secret" in caplog.text


def mounted_in_starlette(app: ASGIApp) -> ASGIApp:
    return Starlette(routes=[Mount("/debug/pprof", app)])


def mounted_in_starlette_with_slash(app: ASGIApp) -> ASGIApp:
    return Starlette(routes=[Mount("/debug/pprof/", app)])


def mounted_in_fastapi(app: ASGIApp) -> ASGIApp:
    service = FastAPI()
    service.mount("/debug/pprof", app)
    return service


def mounted_below_a_mount(app: ASGIApp) -> ASGIApp:
    return Starlette(routes=[Mount("/debug", Starlette(routes=[Mount("/pprof", app)]))])


HOSTS = [
    mounted_in_starlette,
    mounted_in_starlette_with_slash,
    mounted_in_fastapi,
    mounted_below_a_mount,
]


@pytest.fixture
def debug_app() -> Iterator[ASGIApp]:
    """An application whose agent only looks at threads."""
    agent = Agent(Config(heap=False, stacks=False))
    agent.start()
    yield make_asgi_app(agent)
    agent.stop()


@pytest.mark.parametrize("mount", HOSTS)
@pytest.mark.parametrize("slash", ["", "/"])
def test_it_can_be_mounted_with_and_without_a_trailing_slash(
    debug_app: ASGIApp, mount: object, slash: str
) -> None:
    assert callable(mount)
    client = TestClient(mount(debug_app), base_url=BASE, client=LOCAL)
    page = client.get(f"/debug/pprof{slash}")
    assert page.status_code == 200
    assert str(page.url) == f"{BASE}/debug/pprof/"
    assert f"{BASE}/debug/pprof/goroutine?debug=2" in page.text
    assert decode(client.get(f"/debug/pprof/goroutine{slash}").content).samples


def test_served_as_the_root_application(debug_app: ASGIApp) -> None:
    assert client_of(debug_app).get("/").status_code == 200


STRANGERS: Sequence[tuple[str, int] | None] = [
    ("10.0.0.5", 1),
    ("192.168.1.1", 1),
    ("203.0.113.9", 1),
    ("2001:db8::1", 1),
    ("::ffff:10.0.0.5", 1),
    ("0.0.0.0", 1),
    ("testclient", 1),
    ("", 0),
    None,
]


@pytest.mark.parametrize("peer", STRANGERS)
@pytest.mark.parametrize("path", ["/", "/heap", "/symbol", "/nosuch"])
def test_strangers_are_refused(debug_app: ASGIApp, peer: tuple[str, int] | None, path: str) -> None:
    forged = {
        "x-forwarded-for": "127.0.0.1",
        "forwarded": "for=127.0.0.1",
        "x-real-ip": "127.0.0.1",
        "host": "localhost",
    }
    client = client_of(debug_app, peer)  # type: ignore[arg-type]
    answer = client.get(path, headers=forged)
    assert answer.status_code == 403
    assert "loopback" in answer.text
    assert answer.headers["x-go-pprof"] == "1"


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_loopback_clients_are_answered(debug_app: ASGIApp, peer: str) -> None:
    assert client_of(debug_app, (peer, 1)).get("/goroutine").status_code == 200


def test_websockets_are_refused(debug_app: ASGIApp) -> None:
    from starlette.websockets import WebSocketDisconnect

    with (
        pytest.raises(WebSocketDisconnect),
        client_of(debug_app).websocket_connect("/heap"),
    ):
        pass


def test_the_body_is_compressed_once(client: TestClient) -> None:
    raw = gzip.decompress(client.get("/threadcreate").content)
    assert raw[:2] != b"\x1f\x8b"


@pytest.mark.parametrize("name", ["heap", "goroutine", "wall?seconds=1", "heap?seconds=1"])
@pytest.mark.parametrize("accepted", ["gzip", "gzip, deflate, br", "identity", ""])
def test_a_middleware_that_compresses_leaves_profiles_alone(
    client: TestClient, name: str, accepted: str
) -> None:
    wrapped = client_of(GZipMiddleware(client.app, minimum_size=1))
    with wrapped.stream("GET", f"/{name}", headers={"accept-encoding": accepted}) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "identity"
    assert int(answer.headers["content-length"]) == len(raw)
    assert gzip.decompress(raw)[:2] != b"\x1f\x8b"
    assert decode(raw)


@pytest.mark.parametrize("path", ["/", "/heap?debug=1", "/nosuch", "/symbol"])
def test_a_middleware_may_compress_what_is_text(client: TestClient, path: str) -> None:
    wrapped = client_of(GZipMiddleware(client.app, minimum_size=1))
    answer = wrapped.get(path, headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.text


def test_without_an_agent_of_its_own_it_serves_the_process(debug_app: ASGIApp) -> None:
    app = client_of(make_asgi_app())
    assert app.get("/goroutine").status_code == 503
    pyprof_agent.start(heap=False, stacks=False)
    assert app.get("/goroutine").status_code == 200
    pyprof_agent.stop()
    assert app.get("/goroutine").status_code == 503


@pytest.mark.parametrize("path", ["/", "/heap", "/profile", "/cmdline", "/symbol"])
def test_under_a_loop_that_is_not_asyncios_the_answer_says_so(
    client: TestClient, path: str
) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "client": LOCAL,
    }
    # As trio drives it: a coroutine, and no asyncio loop that runs.
    answering = client.app(scope, receive, send)
    with pytest.raises(StopIteration):
        answering.send(None)  # type: ignore[attr-defined]
    start, body = sent
    assert start["status"] == 501
    assert body["body"].startswith(b"these endpoints need an asyncio event loop")
