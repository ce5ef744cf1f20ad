"""`format`, `sample` and Accept-Encoding on every profile: bodies, headers, refusals."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from html import escape

import pytest
import zstandard
from starlette.datastructures import Headers, QueryParams
from starlette.middleware.gzip import GZipMiddleware
from starlette.testclient import TestClient

from pyprof_agent import Agent, Config, make_asgi_app
from pyprof_agent.formats import flamegraph
from pyprof_agent.formats.pprof import decode
from pyprof_agent.http.renderings import FORMATS, rendering
from tests.http.test_app import BASE, LOCAL, client_of
from tests.support import heap_profile

SNAPSHOTS = ("heap", "allocs", "goroutine", "threadcreate")
COLUMN = {
    "heap": "inuse_space",
    "allocs": "alloc_space",
    "goroutine": "goroutine",
    "threadcreate": "threadcreate",
    "profile": "cpu",
    "cpu": "cpu",
    "wall": "wall",
}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """A client that names no coding, of an application with an agent of its own."""
    agent = Agent(Config(stack_hz=200, heap_sample_bytes=4096))
    agent.start()
    with TestClient(
        make_asgi_app(agent),
        base_url=BASE,
        client=LOCAL,
        headers={"accept-encoding": ""},
    ) as client:
        yield client
    agent.stop()


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> None:
    """Not here: one agent serves all tests of this module."""


def first_line(text: str) -> str:
    return text.partition("\n")[0]


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_folded_is_a_stack_a_line(client: TestClient, name: str) -> None:
    answer = client.get(f"/{name}?format=folded")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-disposition"] == f'inline; filename="{name}.folded"'
    stack, _, value = first_line(answer.text).rpartition(" ")
    assert stack
    assert int(value) > 0


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_top_is_a_table_of_the_default_column(client: TestClient, name: str) -> None:
    answer = client.get(f"/{name}?format=top")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-disposition"] == f'inline; filename="{name}.txt"'
    assert f"\nType: {COLUMN[name]}\n" in answer.text
    assert "      flat  flat%   sum%        cum   cum%\n" in answer.text


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_speedscope_is_a_file_to_download(client: TestClient, name: str) -> None:
    answer = client.get(f"/{name}?format=speedscope")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-disposition"] == (
        f'attachment; filename="{name}.speedscope.json"'
    )
    file = json.loads(answer.text)
    assert file["name"] == f"{name} of localhost:8000"
    assert file["profiles"][file["activeProfileIndex"]]["name"] == COLUMN[name]


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_html_is_a_page_to_look_at_with_its_policy(client: TestClient, name: str) -> None:
    answer = client.get(f"/{name}?format=html")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-disposition"] == f'inline; filename="{name}.html"'
    assert answer.headers["content-security-policy"] == flamegraph.policy()
    assert f"<h1>{name} of localhost:8000</h1>" in answer.text


@pytest.mark.parametrize("wanted", FORMATS)
def test_every_format_has_the_headers_of_all_answers(client: TestClient, wanted: str) -> None:
    answer = client.get(f"/threadcreate?format={wanted}")
    assert answer.status_code == 200
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-encoding"] == "identity"
    assert answer.headers["vary"] == "Accept-Encoding"


def test_a_window_comes_in_other_formats(client: TestClient) -> None:
    answer = client.get("/wall?seconds=1&format=top")
    assert answer.headers["content-disposition"] == 'inline; filename="wall.txt"'
    assert f"\nType: {COLUMN['wall']}\n" in answer.text
    assert "\nDuration: " in answer.text


def test_a_window_of_a_snapshot_is_named_delta(client: TestClient) -> None:
    answer = client.head("/heap?seconds=1&format=folded")
    assert answer.headers["content-disposition"] == 'inline; filename="heap-delta.folded"'


def test_proto_is_the_default(client: TestClient) -> None:
    for query in ("", "?format=", "?format=proto"):
        answer = client.get(f"/threadcreate{query}")
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"] == 'attachment; filename="threadcreate"'
        assert decode(answer.content).samples


@pytest.mark.parametrize("wanted", ["top", "html", "speedscope", "proto"])
def test_sample_chooses_the_column_that_is_shown(client: TestClient, wanted: str) -> None:
    body = client.get(f"/heap?format={wanted}&sample=alloc_objects").content
    if wanted == "proto":
        assert decode(body).default_sample_type == "alloc_objects"
    elif wanted == "top":
        assert b"\nType: alloc_objects\n" in body
    elif wanted == "html":
        assert b'"shown":0,' in body
    else:
        assert json.loads(body)["activeProfileIndex"] == 0


def test_sample_chooses_the_values_of_folded_stacks(client: TestClient) -> None:
    held = list(range(100_000, 101_000))  # so that a row has more bytes than objects for sure
    objects, space = (
        sum(int(line.rpartition(" ")[2]) for line in answer.text.splitlines())
        for answer in (
            client.get("/heap?format=folded&sample=inuse_objects"),
            client.get("/heap?format=folded&sample=inuse_space"),
        )
    )
    assert held
    assert 0 < objects < space / 8


@pytest.mark.parametrize("name", COLUMN)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_unknown_format_is_refused_before_anything_is_collected(
    client: TestClient, name: str, method: str
) -> None:
    answer = client.request(method, f"/{name}?format=svg&seconds=100")
    assert answer.status_code == 400
    assert answer.headers["x-go-pprof"] == "1"
    if method == "GET":
        assert answer.text == (
            "\"format\" is 'svg'; use one of: proto, folded, speedscope, html, top\n"
        )


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            "/heap?format=top&sample=cpu",
            "\"sample\" is 'cpu'; heap has: alloc_objects, alloc_space, inuse_objects, "
            "inuse_space\n",
        ),
        ("/wall?seconds=99&sample=cpu", "\"sample\" is 'cpu'; wall has: samples, wall\n"),
        ("/cpu?sample=wall", "\"sample\" is 'wall'; cpu has: samples, cpu\n"),
        ("/goroutine?sample=x", "\"sample\" is 'x'; goroutine has: goroutine\n"),
        ("/threadcreate?sample=x", "\"sample\" is 'x'; threadcreate has: threadcreate\n"),
        ("/heap?format=top&debug=1", "format and debug params are incompatible\n"),
        ("/heap?sample=inuse_space&debug=1", "sample and debug params are incompatible\n"),
    ],
)
def test_what_does_not_go_together_is_refused(client: TestClient, path: str, text: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.text) == (400, text)
    assert answer.headers["x-go-pprof"] == "1"


def test_a_refusal_shows_no_more_than_a_line_of_what_was_asked(client: TestClient) -> None:
    answer = client.get("/heap", params={"format": "<script>\n" + "x" * 5000})
    assert answer.status_code == 400
    assert answer.text.count("\n") == 1
    assert len(answer.text) < 300
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_the_agent_names_the_columns_that_its_profiles_have(agent: Agent) -> None:
    for name in (*agent.profiles, "cpu"):
        profile = agent.capture(name)
        assert agent.sample_types(name) == tuple(kind.type for kind in profile.sample_types)
    agent.stop()


def raw(client: TestClient, path: str, **headers: str) -> tuple[bytes, str]:
    """The body as it was sent, and its coding."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    with client.stream("GET", path, headers=names) as answer:
        assert answer.headers["vary"] == "Accept-Encoding"
        return b"".join(answer.iter_raw()), answer.headers["content-encoding"]


@pytest.mark.parametrize("path", ["/heap", "/wall?seconds=1"])
def test_a_client_that_names_zstd_gets_bare_protobuf_in_zstd(client: TestClient, path: str) -> None:
    body, coding = raw(client, path, accept_encoding="gzip, zstd")
    assert coding == "zstd"
    protobuf = zstandard.ZstdDecompressor().decompress(body)
    assert protobuf[:2] != b"\x1f\x8b"
    assert decode(protobuf).sample_types


@pytest.mark.parametrize("accepted", ["gzip", "*", "zstd;q=0", "gzip;q=0, *"])
def test_others_get_the_file_itself(client: TestClient, accepted: str) -> None:
    body, coding = raw(client, "/heap", accept_encoding=accepted)
    assert coding == "identity"
    assert gzip.decompress(body)[:2] != b"\x1f\x8b"


def test_what_a_browser_saves_is_a_gzip_file(client: TestClient) -> None:
    body, coding = raw(
        client,
        "/heap",
        accept_encoding="gzip, deflate, br, zstd",
        sec_fetch_mode="navigate",
        sec_fetch_site="none",
    )
    assert coding == "identity"
    assert body[:2] == b"\x1f\x8b"


@pytest.mark.parametrize("wanted", ["folded", "top", "speedscope", "html"])
@pytest.mark.parametrize(
    ("accepted", "coding"), [("gzip, zstd", "zstd"), ("gzip", "gzip"), ("br", "identity")]
)
def test_other_formats_come_in_a_coding_that_the_client_names(
    client: TestClient, wanted: str, accepted: str, coding: str
) -> None:
    body, used = raw(client, f"/threadcreate?format={wanted}", accept_encoding=accepted)
    assert used == coding
    if coding == "zstd":
        body = zstandard.ZstdDecompressor().decompress(body)
    elif coding == "gzip":
        body = gzip.decompress(body)
    assert b"Worker._work" in body


def test_a_middleware_that_compresses_has_nothing_to_do(client: TestClient) -> None:
    wrapped = client_of(GZipMiddleware(client.app, minimum_size=1))
    for accepted in ("gzip", "zstd", "gzip;q=0.5"):
        body, coding = raw(wrapped, "/heap?format=html", accept_encoding=accepted)
        assert coding in ("gzip", "zstd")
        if coding == "gzip":
            assert b"<!DOCTYPE html>" in gzip.decompress(body)


def test_a_host_is_text_in_the_page() -> None:
    hostile = '"><script>x[&\xe9'
    kind = rendering(QueryParams("format=html"), Headers({"host": hostile}), "heap", ())
    body = kind.encode(heap_profile()).decode()
    assert f"<h1>heap of {escape(hostile)}</h1>" in body
    assert "<script>x" not in body
    no_host = rendering(QueryParams("format=top"), Headers({}), "heap", ())
    assert no_host.title == "heap of this process"
