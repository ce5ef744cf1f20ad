"""Go's own program and ours are asked the same, row by row."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.conformance.answers import (
    AT_ONCE,
    LATER,
    LONGER_THAN_ASKED_FOR,
    WAITS,
    Answer,
    as_text,
    ask,
    expected,
)
from tests.conformance.rows import ROWS, Row
from tests.support import ROOT, free_port, running

SIDE_BY_SIDE = 24
"""Rows that are asked at once: most of those that take time only wait."""

DIFFERENCES = [row for row in ROWS if row.ours is not None]


@contextlib.contextmanager
def go_server(program: str) -> Iterator[str]:
    """Go's program: its address."""
    with subprocess.Popen([program, "serve"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def frame_address(address: str, prefix: str = "") -> str:
    """The address of some frame, as the `#` lines of a text have it."""
    with urllib.request.urlopen(f"http://{address}{prefix}/debug/pprof/heap?debug=1") as text:
        found = re.search(r"^#\t(0x[0-9a-f]+)\t", text.read().decode(), re.MULTILINE)
    assert found
    return found[1]


def answers_of(row: Row, wanted: Answer, address: str, prefix: str, frame: str) -> Answer:
    """What a server answers to the request of a row."""
    patience = LONGER_THAN_ASKED_FOR if wanted.body == WAITS else 60
    method, path = row.ask.replace("ADDRESS", frame).split(" ", 1)
    body = None if row.body is None else row.body.replace("ADDRESS", frame)

    def once(path: str) -> Answer:
        whole = path if path.startswith("/") else f"{prefix}/debug/pprof/{path}"
        return ask(address, method, whole, row.headers, body, patience)

    if row.before:
        once(row.before)
    if row.twice:
        with ThreadPoolExecutor(2) as both:
            return max(both.map(once, [path, path]), key=lambda answer: answer.status)
    answer = once(path)
    for _ in range(5):  # a busy machine may take long for anything
        if answer.body == LATER and wanted.body == AT_ONCE:
            answer = once(path)
    return answer


@pytest.fixture(scope="module")
def answers(go_program: str) -> Iterator[Mapping[str, tuple[Future[Answer], Future[Answer]]]]:
    """By row: Go's answer and ours. They are asked side by side, since many wait for a window."""
    port = free_port()
    own = f"127.0.0.1:{port}"
    command = [sys.executable, "-m", "uvicorn", f"--port={port}", "tests.conformance.service:app"]
    with (
        running(command, ready=f"http://{own}/debug/pprof/"),
        go_server(go_program) as shared,
        ThreadPoolExecutor(SIDE_BY_SIDE) as pool,
    ):
        go_frame, own_frame = frame_address(shared), frame_address(own)

        def of_go(row: Row) -> Answer:
            if not row.alone:
                return answers_of(row, row.go, shared, "", go_frame)
            with go_server(go_program) as address:
                return answers_of(row, row.go, address, "", go_frame)

        def of_ours(row: Row) -> Answer:
            prefix = f"/{row.mount}" if row.mount else ""
            return answers_of(row, row.ours or row.go, own, prefix, own_frame)

        yield {
            row.id: (pool.submit(of_go, row), pool.submit(of_ours, row))
            for row in sorted(ROWS, key=lambda row: not row.alone)
        }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_the_answer_is_gos_or_differs_as_documented(
    row: Row, answers: Mapping[str, tuple[Future[Answer], Future[Answer]]]
) -> None:
    go, ours = (future.result() for future in answers[row.id])
    assert as_text(go) == as_text(expected(row.go, ours=False)), "Go's answer"
    assert as_text(ours) == as_text(expected(row.ours or row.go, ours=True)), "our answer"


def test_every_row_has_a_name_of_its_own() -> None:
    assert len({row.id for row in ROWS}) == len(ROWS)


def documented() -> list[str]:
    """First cells of the table of differences."""
    page = (ROOT / "docs" / "endpoints.md").read_text()
    table = page[page.index("## What differs from Go") :]
    return re.findall(r"^\| (.+?) \|", table, re.MULTILINE)[1:]


@pytest.mark.parametrize("row", DIFFERENCES, ids=lambda row: row.id)
def test_a_difference_is_in_the_documentation(row: Row) -> None:
    assert row.ours != row.go
    assert row.why in documented()


NOT_IN_AN_ANSWER = {
    "mounted",
    "windows at the end of the service",
    "`Cache-Control`",  # compared in every row
    "`goroutine`",  # what the same words mean here
    "`threadcreate`",
    "`symbol`, addresses",
    "`block`, `mutex`",
    "`heap?debug=1`",
    "index",
    "a 500",  # cannot be had from Go by asking
    "a client that goes away during a delta",
    "body of `symbol`",
}


def test_every_difference_that_an_answer_can_show_has_a_row() -> None:
    assert set(documented()) == {row.why for row in DIFFERENCES} | NOT_IN_AN_ANSWER


def test_the_documentation_has_the_counts() -> None:
    counts = f"{len(ROWS)} requests"
    print(f"\n{counts}, {len(DIFFERENCES)} deliberate differences")
    page = " ".join((ROOT / "docs" / "endpoints.md").read_text().split())
    assert f"sends {counts} to both: {len(DIFFERENCES)} are answered differently" in page
