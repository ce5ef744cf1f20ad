"""`last=`: profiles of what has already happened."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from pyprof_agent import Agent, Config, make_asgi_app
from pyprof_agent.formats.pprof import decode
from pyprof_agent.sources import heap_native, stacks_native


def client_of(agent: Agent) -> TestClient:
    return TestClient(
        make_asgi_app(agent),
        base_url="http://localhost",
        client=("127.0.0.1", 50000),
        headers={"accept-encoding": "gzip"},
    )


@pytest.fixture
def agent() -> Iterator[Agent]:
    agent = Agent(Config(look_back=30))
    agent.start()
    yield agent
    agent.stop()


needs_native = pytest.mark.skipif(
    bool(stacks_native.unusable()), reason=stacks_native.unusable() or "-"
)


@needs_native
@pytest.mark.parametrize(("name", "kind"), [("profile", "cpu"), ("cpu", "cpu"), ("wall", "wall")])
def test_it_answers_at_once_with_what_has_happened(agent: Agent, name: str, kind: str) -> None:
    sum(range(5_000_000))
    answer = client_of(agent).get(f"/{name}?last=20")
    assert answer.status_code == 200
    profile = decode(answer.content)
    assert profile.sample_types[1].type == kind
    assert profile.total(kind) > 0
    assert 0 < profile.duration_nanos < 10e9
    assert client_of(agent).head(f"/{name}?last=20").status_code == 200


def block() -> bytes:
    return bytes(1000)


def blocks(count: int) -> list[bytes]:
    return [block() for _ in range(count)]


@pytest.mark.skipif(bool(heap_native.unusable()), reason=heap_native.unusable() or "-")
def test_the_growth_of_the_heap_is_answered_at_once() -> None:
    agent = Agent(Config(stacks=False, heap_sample_bytes=1000, look_back=30))
    agent.start()
    client = client_of(agent)
    kept = blocks(1000)
    answers = [client.get(f"/{name}?last=20") for name in ("heap", "allocs")]
    refused = client.get("/heap?last=20&debug=1")
    agent.stop()
    assert [answer.status_code for answer in answers] == [200, 200]
    assert 'filename="heap-delta"' in answers[0].headers["content-disposition"]
    for answer in answers:
        profile = decode(answer.content)
        column = profile.column("inuse_space")
        in_use = sum(
            row.values[column]
            for row in profile.samples
            if row.stack[0].function.endswith(".block")
        )
        assert in_use == pytest.approx(sys.getsizeof(kept[0]) * 1000, rel=0.5)
        assert 0 < profile.duration_nanos < 10e9
    assert refused.status_code == 400
    assert "last and debug params are incompatible" in refused.text


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("profile?last=0", "\"last\" is '0'; use a positive integer"),
        ("profile?last=ten", "\"last\" is 'ten'; use a positive integer"),
        ("profile?last=31", "last is 31; use a positive number up to look_back, which is 30"),
        ("profile?last=5&seconds=5", '"last" and "seconds" are of different windows'),
        ("goroutine?last=5", '"last" is not supported for this profile'),
        ("delta_heap?last=5", '"last" is not supported for this profile'),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(
    agent: Agent, query: str, message: str
) -> None:
    answer = client_of(agent).get(f"/{query}")
    assert answer.status_code == 400
    assert message in answer.text
    assert answer.headers["x-go-pprof"] == "1"


@pytest.mark.parametrize("name", ["wall", "heap"])
def test_an_engine_that_keeps_nothing_says_so(name: str) -> None:
    agent = Agent(Config(stack_engine="python", heap_engine="tracemalloc"))
    agent.start()
    answer = client_of(agent).get(f"/{name}?last=5")
    agent.stop()
    assert answer.status_code == 500
    assert f"{name} cannot look back" in answer.text
