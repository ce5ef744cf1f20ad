"""The side port: a real uvicorn in a thread, its errors, its end."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest

import pyprof_agent
from pyprof_agent import NotRunningError, ServeError
from pyprof_agent.formats.pprof import decode
from pyprof_agent.http.server import Server
from tests.support import free_port, get


@pytest.fixture(autouse=True)
def without_heap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The heap engine has nothing to do here, and makes a server slow."""
    monkeypatch.setenv("PYPROF_AGENT_HEAP", "0")


def refusal(url: str) -> tuple[int, bytes]:
    """Status and body of a request that must fail."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(url)
    with refused.value as answer:
        return answer.code, answer.read()


def test_it_serves_the_endpoints_on_loopback_and_starts_the_agent() -> None:
    server = pyprof_agent.serve(port=0)
    try:
        assert server.url == f"http://127.0.0.1:{server.port}/debug/pprof/"
        assert decode(get(f"{server.url}goroutine")).samples
        assert decode(get(f"{server.url}profile?seconds=1")).duration_nanos > 0
        assert pyprof_agent.current_agent().running
    finally:
        server.stop()


def test_garbage_is_not_collected_in_the_thread_of_a_side_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYPROF_AGENT_HEAP", "1")
    server = pyprof_agent.serve(port=0)
    try:
        status, body = refusal(f"{server.url}heap?gc=1")
        assert (status, body.split(b":")[0]) == (400, b"gc=1 is not served by this port")
    finally:
        server.stop()


@pytest.mark.parametrize("path", ["", "/", "/debug/pprof", "/debug/pprof/"])
def test_every_way_in_leads_to_the_index(path: str) -> None:
    server = pyprof_agent.serve(port=0)
    try:
        page = get(f"http://127.0.0.1:{server.port}{path}").decode()
        assert f"go tool pprof -http=: &#x27;{server.url}profile?seconds=10&#x27;" in page
    finally:
        server.stop()


def test_forwarding_headers_make_nobody_local_or_foreign() -> None:
    server = pyprof_agent.serve(port=0)
    try:
        request = urllib.request.Request(
            f"{server.url}threadcreate", headers={"X-Forwarded-For": "203.0.113.9"}
        )
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200
    finally:
        server.stop()


def test_a_client_from_another_address_is_refused() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; tells this machine's own address
            address = probe.getsockname()[0]
        except OSError:
            pytest.skip("this machine has no address but loopback")
    if address.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    server = pyprof_agent.serve(port=0, host="0.0.0.0")
    try:
        status, body = refusal(f"http://{address}:{server.port}/debug/pprof/goroutine")
        assert status == 403
        assert b"loopback" in body
        assert get(f"http://127.0.0.1:{server.port}/debug/pprof/goroutine")
    finally:
        server.stop()


def test_ipv6_loopback() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    try:
        server = pyprof_agent.serve(port=0, host="::1")
    except ServeError:
        pytest.skip("no IPv6 loopback on this machine")
    try:
        assert server.url.startswith("http://[::1]:")
        assert get(f"{server.url}threadcreate")
    finally:
        server.stop()


def test_a_port_in_use_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServeError, match=rf"'127\.0\.0\.1' port {port}: .*in use.*port=0"):
            pyprof_agent.serve(port=port)
    with pytest.raises(NotRunningError):
        pyprof_agent.current_agent()


@pytest.mark.parametrize(
    ("host", "port"), [("127.0.0.1", 70000), ("127.0.0.1", -1), ("no such host", 0)]
)
def test_an_address_that_cannot_be_is_told(host: str, port: int) -> None:
    with pytest.raises(ServeError, match="cannot listen on"):
        pyprof_agent.serve(port=port, host=host)


def test_stop_frees_the_port_the_thread_and_the_descriptors() -> None:
    port = free_port()
    pyprof_agent.serve(port=port).stop()  # the first time imports and opens for good
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    for _ in range(3):
        server = pyprof_agent.serve(port=port)
        get(f"{server.url}threadcreate")
        server.stop()
        server.stop()
    assert "pyprof-agent-server" not in {thread.name for thread in threading.enumerate()}
    if sys.platform == "linux":
        assert len(os.listdir("/proc/self/fd")) <= before


def test_a_capture_under_way_does_not_hold_up_the_stop() -> None:
    server = pyprof_agent.serve(port=0)

    def capture() -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port)) as client:
            client.request("GET", "/debug/pprof/profile?seconds=60")
            with contextlib.suppress(OSError, http.client.HTTPException):
                client.getresponse().read()

    thread = threading.Thread(target=capture)
    thread.start()
    time.sleep(0.5)
    begin = time.monotonic()
    server.stop()
    assert time.monotonic() - begin < 4
    thread.join(10)
    assert not thread.is_alive()


def test_the_logging_of_the_program_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    import logging

    handlers = list(logging.getLogger("uvicorn").handlers)
    server = pyprof_agent.serve(port=0)
    get(f"{server.url}threadcreate")
    server.stop()
    assert logging.getLogger("uvicorn").handlers == handlers
    assert not [record for record in caplog.records if "GET" in record.getMessage()]


def test_a_forked_child_does_not_hold_the_port() -> None:
    server = pyprof_agent.serve(port=0)
    child = os.fork() if sys.version_info < (3, 12) else None
    if child is None:
        server.stop()
        pytest.skip("from 3.12 on a fork beside a server's thread warns")
    if child == 0:
        os._exit(0 if server._socket.fileno() == -1 else 1)
    try:
        assert os.waitpid(child, 0)[1] == 0
        assert get(f"{server.url}threadcreate")
    finally:
        server.stop()


def test_an_application_can_be_served_directly() -> None:
    app = pyprof_agent.make_asgi_app()
    server = Server(app, "127.0.0.1", 0)
    try:
        assert refusal(f"{server.url}goroutine")[0] == 503
    finally:
        server.stop()


def test_a_server_whose_handle_is_dropped_still_serves_and_is_still_known() -> None:
    import gc

    from pyprof_agent.http import server as module

    url = pyprof_agent.serve(port=0).url
    gc.collect()
    (server,) = module._servers
    try:
        assert server.url == url
        assert get(f"{url}threadcreate")
    finally:
        server.stop()
    assert module._servers == set()
