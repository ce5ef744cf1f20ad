"""The benchmark's own parts: numbers, what it reads, what it writes, and one tiny run."""

from __future__ import annotations

import argparse
import gzip
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import (
    batch,
    compression,
    install,
    instructions,
    live,
    processes,
    profilers,
    report,
)
from tests.bench.__main__ import QUICK, measure, parse
from tests.bench.batch import Probe, Row, Table
from tests.bench.load import Load, LoadError, parse_wrk, put_load
from tests.bench.numbers import Spread, percentile, ratios
from tests.bench.processes import ChildError, Run, reason, shortened
from tests.bench.report import Results
from tests.bench.workloads import WORKLOADS
from tests.support import ROOT

CALLGRIND = """\
==4242== Callgrind, a call-graph generating cache profiler
==4242== Events    : Ir
==4242== Collected : 1877614808
==4242==
==4242== I   refs:      1,877,614,808
"""

WRK = """\
Running 1s test @ http://127.0.0.1:8000/orders
  1 threads and 8 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.89ms  512.00us   9.10ms   91.20%
    Req/Sec     2.78k   120.01     2.95k    80.00%
  Latency Distribution
     50%    2.80ms
     99%    4.70ms
  2774 requests in 1.00s, 8.21MB read
Requests/sec:   2774.13
Transfer/sec:      8.21MB
"""


def a_run(wall: float, work: float) -> Run:
    return Run(wall=wall, work=work, cpu=work, peak=20.0)


@pytest.fixture
def results() -> Results:
    """What a run might have measured; one profiler failed, and one is slow."""
    tree = WORKLOADS["tree"]
    base = [a_run(1.0, 0.9), a_run(1.2, 1.0), a_run(1.1, 0.95)]
    rows = [
        Row("ours", [a_run(1.1, 0.99), a_run(1.2, 1.01), a_run(1.2, 1.0)], base),
        Row("tracemalloc-25", [a_run(9.0, 8.0)], [a_run(0.2, 0.1)], smaller=True),
        Row("mprofile", failure="could not be installed: no matching distribution"),
    ]
    count = instructions.Count(tree, "ours", [101e6, 102e6, 103e6], [100e6, 100e6, 100e6])
    off = live.Seen(2000, 5.0, 0.4)
    return Results(
        date="2026-01-02",
        command="make bench",
        cpus=2,
        python="CPython 3.11.7",
        system="Linux x86_64",
        load_tool="wrk",
        quick=False,
        versions={"pyprof-agent": "0.1.0", "mprofile": None},
        probes={
            "ours": Probe("heap native", "19 stacks in `heap`"),
            "mprofile": Probe(failure="could not be installed: no matching distribution"),
        },
        tables=[Table(tree, rows)],
        counts=[count, instructions.Count(tree, "mprofile", failure="ended by signal 4")],
        service=[
            live.ServiceRow("off", [off], [off]),
            live.ServiceRow("ours", [live.Seen(1800, 6.0, 0.44)], [off]),
            live.ServiceRow("ddtrace", failure="did not answer within 30 s"),
        ],
        service_seconds=4,
    )


@pytest.fixture
def sink() -> Iterator[int]:
    """The port of a server that takes uploads."""
    with processes.upload_sink() as port:
        yield port


def test_medians_spreads_and_ratios() -> None:
    assert Spread.of([3.0, 1.0, 2.0, 10.0]) == Spread(2.5, 1.0, 10.0)
    assert ratios([2.0, 3.0], [1.0, 2.0]) == [2.0, 1.5]
    assert percentile([float(number) for number in range(100, 0, -1)], 0.99) == 99.0
    assert percentile([7.0], 0.99) == 7.0
    with pytest.raises(ValueError, match="no values"):
        Spread.of([])


def test_a_ratio_is_taken_within_a_round() -> None:
    # The machine was twice as slow in the second round, for both.
    row = Row("ours", [a_run(1.1, 1.1), a_run(2.2, 2.2)], [a_run(1.0, 1.0), a_run(2.0, 2.0)])
    assert row.ratio(lambda run: run.wall).high == pytest.approx(1.1)


def test_callgrind_output_is_read() -> None:
    assert instructions.collected(CALLGRIND) == 1877614808
    with pytest.raises(ChildError):
        instructions.collected("==1== Collected nothing")


def test_start_and_imports_are_not_counted() -> None:
    start, work = 900, 10
    assert instructions.per_round(start + 5 * work, start + 10 * work, 5) == work


@pytest.mark.thorough
@pytest.mark.skipif(instructions.callgrind() is None, reason="valgrind is not installed")
def test_a_byte_that_is_copied_is_not_an_instruction() -> None:
    def counted(copies: int) -> int:
        code = f"block = bytearray(1_000_000)\nfor _ in range({copies}): copy = block[:]"
        command = [*(instructions.callgrind() or ()), sys.executable, "-S", "-c", code]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        return instructions.collected(result.stderr)

    assert instructions.per_round(counted(20), counted(40), 20) < 250_000


def test_wrk_output_is_read() -> None:
    assert parse_wrk(WRK) == Load(2774.13, 4.7, 2774)
    assert parse_wrk(WRK.replace("4.70ms", "1.50s")).p99 == 1500
    with pytest.raises(LoadError, match="Non-2xx"):
        parse_wrk(WRK + "  Non-2xx or 3xx responses: 12\n")
    with pytest.raises(LoadError, match="no result"):
        parse_wrk("unable to connect")


def test_a_failure_is_told_without_paths() -> None:
    error = 'Traceback:\n  File "/srv/x.py", line 1\nOSError: /srv/lib/x.so.1: no such | file\n'
    assert reason(1, error) == "OSError: ...: no such / file"
    assert reason(-11, "") == "ended by signal 11"
    assert reason(1, "ModuleNotFoundError: No module named 'mprofile'") == (
        "not installed: no module mprofile"
    )
    assert shortened("see https://example.com/a and 1/2 of it") == "see ... and 1/2 of it"
    assert len(shortened("x" * 500)) == 140


def test_pip_says_why() -> None:
    output = "Collecting x\nERROR: No matching distribution found for x\n\n[notice] new pip\n"
    assert install.pip_reason(output) == "ERROR: No matching distribution found for x"


def test_the_page_has_every_row(results: Results) -> None:
    page = report.page(results)
    assert "2026-01-02" in page
    assert "| pyprof-agent, heap | 1.20 (1.10-1.20) | 1.09 (1.00-1.10) | 1.05 (1.01-1.10) |" in page
    assert "| tracemalloc, 25 frames \\* | 9.00 | 45.0 | 80.0 | 80.0 |" in page
    assert "| off \\* | 0.20 |" in page
    assert page.count("not measured: could not be installed: no matching distribution") == 2
    assert "| 100 | 102 | 1.020 (1.010-1.030) |" in page
    assert "not measured: ended by signal 4" in page
    assert "| pyprof-agent, heap | 1,800 | 0.90 | 6.00 | 0.44 | 1.10 |" in page
    assert "| ddtrace, memory | not measured: did not answer within 30 s |" in page
    assert "Engines: heap native." in page


def test_the_tables_are_even(results: Results) -> None:
    for block in report.page(results).split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1, block


def test_parts_that_were_left_out_are_named(results: Results) -> None:
    skipped = dict.fromkeys(("programs", "instructions", "service"), "left out of this run")
    page = report.page(replace(results, tables=(), counts=(), service=(), skipped=skipped))
    assert page.count("Not measured: left out of this run.") == 3


def test_uploads_are_unpacked() -> None:
    inner = gzip.compress(b"leave_behind")
    outer = gzip.compress(b"head" + inner + b"tail")
    assert profilers.unzipped(b"\x1f\x8b\x08 " + outer) == b"\x1f\x8b\x08 headleave_behind"


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["ours", "ours-all", "tracemalloc-1"])
def test_a_profiler_shows_what_it_sampled(name: str, sink: int) -> None:
    found = batch.probe(name, sink)
    assert found.failure == ""
    assert found.evidence
    assert found.engine.startswith("heap ") == name.startswith("ours")


def test_a_profiler_that_is_not_there_says_so(sink: int) -> None:
    assert batch.probe("mprofile", sink).failure == "not installed: no module mprofile"


def test_a_child_that_takes_too_long_is_ended(sink: int) -> None:
    with pytest.raises(ChildError, match="longer than"):
        processes.run("off", "tree", 10**6, sink, timeout=0.5)


def test_the_client_without_wrk(sink: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    load = put_load(sink, "/orders", b"{}", 0.2, str(tmp_path))
    assert load.requests > 0
    assert load.p99 > 0


@pytest.mark.thorough
def test_a_tiny_run(sink: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = replace(QUICK, scale=0.01, rounds=1, load_seconds=0.2)
    monkeypatch.setattr("tests.bench.__main__.QUICK", tiny)
    monkeypatch.setattr("shutil.which", lambda _: None)  # neither wrk nor valgrind
    options: argparse.Namespace = parse(["--quick", "--only", "mprofile,tracemalloc-1"])
    page = report.page(measure(options, sink))
    assert "Not measured: valgrind is not installed." in page
    assert page.count("| tracemalloc, 1 frame ") == 8
    assert page.count("not measured: not installed: no module mprofile") == 7
    assert str(ROOT) not in page


def test_every_level_of_both_codings_is_measured() -> None:
    rows = list(compression.rows(b"stack " * 500, rounds=1))
    assert [name for name, _, _ in rows] == [
        f"{coding} {level}" for coding in ("gzip", "zstd") for level in range(1, 10)
    ]
    assert all(0 < size < 500 and seconds >= 0 for _, size, seconds in rows)
