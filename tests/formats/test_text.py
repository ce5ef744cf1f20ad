"""Go's text forms against golden strings, and as `go tool pprof` itself reads them."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyprof_agent import ProfileError
from pyprof_agent.formats import text
from pyprof_agent.formats.pprof import address
from pyprof_agent.profile import Frame, Label, Profile, Sample, ValueType
from tests.conftest import GoPprof
from tests.support import LEAF, ROOT_FRAME, heap_profile

UNSAMPLED = Frame("<unsampled>", "", 0, 0)

# Every block is counted, as tracemalloc does: the period is one byte.
HEAP = replace(
    heap_profile(
        Sample((LEAF,), (3, 30, 0, 0)),
        Sample((ROOT_FRAME,), (7, 7000, 1, 1000)),
        Sample((LEAF, ROOT_FRAME), (10.4, 999.6, 4, 400)),
    ),
    period=1,
)

HEAP_TEXT = """\
heap profile: 5: 1400 [20: 8030] @ heap/2
1: 1000 [7: 7000] @ 0x47d502f5345faa66
#\t0x47d502f5345faa65\tshop.main.<module>+0x2\t/srv/shop/main.py:3

4: 400 [10: 1000] @ 0xbde4e6b8d25201 0x47d502f5345faa66
#\t0xbde4e6b8d25200\tshop.cart.Cart.add+0x2\t/srv/shop/cart.py:12
#\t0x47d502f5345faa65\tshop.main.<module>+0x2\t/srv/shop/main.py:3

0: 0 [3: 30] @ 0xbde4e6b8d25201
#\t0xbde4e6b8d25200\tshop.cart.Cart.add+0x2\t/srv/shop/cart.py:12


# made by a test
"""

GOROUTINE = Profile(
    sample_types=(ValueType("goroutine", "count"),),
    samples=(
        Sample((ROOT_FRAME,), (1,), (Label("kind", "thread"), Label("name", "MainThread"))),
        Sample((LEAF, ROOT_FRAME), (1,), (Label("kind", "task"), Label("name", "a"))),
        Sample((LEAF, ROOT_FRAME), (2,), (Label("kind", "task"), Label("name", "b"))),
    ),
    period_type=ValueType("goroutine", "count"),
    period=1,
    time_nanos=1,
    comments=("made by a test",),
)

GOROUTINE_TEXT = """\
goroutine profile: total 4
3 @ 0xbde4e6b8d25201 0x47d502f5345faa66
#\t0xbde4e6b8d25200\tshop.cart.Cart.add+0x2\t/srv/shop/cart.py:12
#\t0x47d502f5345faa65\tshop.main.<module>+0x2\t/srv/shop/main.py:3

1 @ 0x47d502f5345faa66
#\t0x47d502f5345faa65\tshop.main.<module>+0x2\t/srv/shop/main.py:3

# made by a test
"""

DUMP = replace(
    GOROUTINE,
    samples=(
        Sample(
            (LEAF, ROOT_FRAME),
            (1,),
            (Label("kind", "thread"), Label("name", "MainThread"), Label("id", 140120)),
        ),
        Sample(
            (LEAF, UNSAMPLED),
            (1,),
            (
                Label("kind", "task"),
                Label("name", "Task-7"),
                Label("id", 7),
                Label("state", "waiting for Future"),
            ),
        ),
    ),
)

DUMP_TEXT = """\
2 stacks

thread 140120 "MainThread":
shop.cart.Cart.add
\t/srv/shop/cart.py:12
shop.main.<module>
\t/srv/shop/main.py:3

task 7 "Task-7" [waiting for Future]:
shop.cart.Cart.add
\t/srv/shop/cart.py:12
<unsampled>

# made by a test
"""


def go_reads(go_command: list[str], path: Path, *arguments: str) -> str:
    """What pprof says to a text; that no binary is at hand for its addresses is no fault."""
    result = subprocess.run(
        [*go_command, "tool", "pprof", *arguments, str(path)],
        capture_output=True,
        text=True,
        timeout=90,
        env={**os.environ, "GOTOOLCHAIN": "local", "PPROF_TMPDIR": str(path.parent)},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert set(result.stderr.splitlines()) <= {"Main binary filename not available."}
    return result.stdout


# Heap


def test_heap_is_gos_legacy_text_with_twice_the_rate_and_most_bytes_in_use_first() -> None:
    assert text.heap(HEAP).decode() == HEAP_TEXT


def test_heap_is_the_same_for_rows_in_any_order() -> None:
    assert text.heap(replace(HEAP, samples=HEAP.samples[::-1])).decode() == HEAP_TEXT


def test_heap_sorts_rows_of_equal_use_by_what_was_allocated_then_by_stack() -> None:
    other = LEAF._replace(line=13)
    rows = [
        Sample((ROOT_FRAME,), (1, 900, 1, 10)),
        Sample((LEAF,), (1, 800, 1, 10)),
        Sample((other,), (1, 800, 1, 10)),
        Sample((other, LEAF), (1, 0, 0, 0)),
    ]
    forwards, backwards = text.heap(heap_profile(*rows)), text.heap(heap_profile(*rows[::-1]))
    assert re.findall(rb"^\d+: .*\[1: (\d+)\] @ (\S+)", forwards, re.MULTILINE) == [
        (b"900", b"0x47d502f5345faa66"),
        (b"800", b"0xbde4e6b8d25201"),
        (b"800", b"%#x" % (address(other) + 1)),
        (b"0", b"%#x" % (address(other) + 1)),
    ]
    assert forwards == backwards


def test_heap_without_a_row_has_a_heading() -> None:
    empty = replace(HEAP, samples=(), comments=())
    assert text.heap(empty) == b"heap profile: 0: 0 [0: 0] @ heap/2\n\n"


def test_heap_finds_its_columns_by_name() -> None:
    types = HEAP.sample_types
    turned = replace(
        HEAP,
        sample_types=types[::-1],
        samples=tuple(sample._replace(values=sample.values[::-1]) for sample in HEAP.samples),
    )
    assert text.heap(turned).decode() == HEAP_TEXT


def test_heap_of_another_profile_is_an_error_that_names_the_column() -> None:
    with pytest.raises(ProfileError, match=r"'inuse_objects'.*goroutine"):
        text.heap(GOROUTINE)


@pytest.mark.parametrize("column", ["inuse_space", "inuse_objects", "alloc_space"])
@pytest.mark.parametrize("period", [1, 524288])
def test_pprof_reads_the_same_numbers_from_the_text_as_from_the_protobuf(
    go_command: list[str], go_pprof: GoPprof, tmp_path: Path, period: int, column: str
) -> None:
    # Our values are estimates of everything. Go's text has what was sampled, and its readers
    # scale that up by the rate of the heading, where that is above one byte.
    profile = replace(HEAP, period=period)
    (tmp_path / "heap.txt").write_bytes(text.heap(profile))
    profile.write(tmp_path / "heap.pb.gz")
    arguments = ("-top", f"-sample_index={column}", "-unit=B")
    outputs = (
        go_reads(go_command, tmp_path / "heap.txt", *arguments),
        go_pprof(*arguments, tmp_path / "heap.pb.gz"),
    )
    from_text, from_protobuf = (re.findall(r"\S+ total$", out, re.MULTILINE) for out in outputs)
    assert from_text == from_protobuf == [f"{round(profile.total(column))}B total"]


# Counts


def test_count_is_gos_text_with_the_largest_first_and_labels_summed() -> None:
    assert text.count("goroutine", GOROUTINE).decode() == GOROUTINE_TEXT


def test_count_is_the_same_for_rows_in_any_order() -> None:
    turned = replace(GOROUTINE, samples=GOROUTINE.samples[::-1])
    assert text.count("goroutine", turned).decode() == GOROUTINE_TEXT


def test_count_sorts_by_number_then_by_stack() -> None:
    rows = [Sample((ROOT_FRAME,), (5,)), Sample((LEAF,), (2,)), Sample((ROOT_FRAME, LEAF), (2,))]
    forwards = text.count("goroutine", replace(GOROUTINE, samples=tuple(rows)))
    backwards = text.count("goroutine", replace(GOROUTINE, samples=tuple(rows[::-1])))
    assert re.findall(rb"^(\d+) @ (.*)$", forwards, re.MULTILINE) == [
        (b"5", b"0x47d502f5345faa66"),
        (b"2", b"0xbde4e6b8d25201"),
        (b"2", b"0x47d502f5345faa66 0xbde4e6b8d25201"),
    ]
    assert forwards == backwards


def test_count_without_a_row_has_a_heading() -> None:
    empty = replace(GOROUTINE, samples=(), comments=())
    assert text.count("threadcreate", empty) == b"threadcreate profile: total 0\n"


def test_count_of_a_profile_with_more_columns_is_an_error() -> None:
    with pytest.raises(ProfileError, match="heap has 4 sample types; one is wanted"):
        text.count("heap", HEAP)


def test_pprof_reads_counts(go_command: list[str], tmp_path: Path) -> None:
    path = tmp_path / "goroutine.txt"
    path.write_bytes(text.count("goroutine", GOROUTINE))
    output = go_reads(go_command, path, "-top")
    assert "Type: goroutine" in output
    assert "100% of 4 total" in output


def test_contention_is_gos_text_with_the_longest_waits_first() -> None:
    waits = replace(
        GOROUTINE,
        sample_types=(ValueType("contentions", "count"), ValueType("delay", "nanoseconds")),
        samples=(Sample((ROOT_FRAME,), (3, 1000)), Sample((LEAF,), (1, 2000))),
    )
    rows = """\
2000 1 @ 0xbde4e6b8d25201
#\t0xbde4e6b8d25200\tshop.cart.Cart.add+0x2\t/srv/shop/cart.py:12
1000 3 @ 0x47d502f5345faa66
#\t0x47d502f5345faa65\tshop.main.<module>+0x2\t/srv/shop/main.py:3
# made by a test
"""
    heading = "--- contention:\ncycles/second=1000000000\n"
    assert text.contention("block", waits).decode() == heading + rows
    heading = "--- mutex:\ncycles/second=1000000000\nsampling period=1\n"
    assert text.contention("mutex", waits).decode() == heading + rows


@pytest.mark.parametrize("name", ["block", "mutex"])
def test_pprof_reads_contention(go_command: list[str], tmp_path: Path, name: str) -> None:
    waits = replace(
        GOROUTINE,
        sample_types=(ValueType("contentions", "count"), ValueType("delay", "nanoseconds")),
        samples=(Sample((ROOT_FRAME,), (3, 1000)), Sample((LEAF,), (1, 2000))),
    )
    path = tmp_path / "waits.txt"
    path.write_bytes(text.contention(name, waits))
    assert "3000ns total" in go_reads(go_command, path, "-top", "-unit=ns")
    output = go_reads(go_command, path, "-top", "-sample_index=contentions")
    assert "100% of 4 total" in output


# Symbols


def test_symbols_name_the_call_and_the_address_after_it() -> None:
    names = {0x10: "shop.add", 0x20: "shop.<module>"}
    assert text.symbols("0x10+33+0x11+0x30+junk++-16+0x12", names) == (
        b"num_symbols: 1\n0x10 shop.add\n0x21 shop.<module>\n0x11 shop.add\n"
    )


def test_a_name_with_a_line_break_is_one_line() -> None:
    hostile = "f\nnum_symbols: 0\r\u2028\x1b[0m\x85"
    line = rb"f\nnum_symbols: 0\r\u2028\x1b[0m\x85"
    assert text.symbols("0x10", {0x10: hostile}) == b"num_symbols: 1\n0x10 " + line + b"\n"
    frame = Frame(hostile, f"/srv/{hostile}.py", 1, 1)
    heap = text.heap(heap_profile(Sample((frame,), (1, 1, 1, 1))))
    counts = text.count("goroutine", replace(GOROUTINE, samples=(Sample((frame,), (1,)),)))
    for output in (heap, counts):
        assert b"\t%s+0x0\t/srv/%s.py:1\n" % (line, line) in output
        assert len(output.decode().splitlines()) == output.count(b"\n")


@settings(max_examples=50)
@given(
    st.lists(
        st.builds(
            Frame,
            st.text(min_size=1, max_size=8),
            st.text(max_size=8),
            st.integers(0, 9),
            st.integers(0, 9),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_every_line_is_of_the_form_that_pprof_reads(frames: list[Frame]) -> None:
    stack = tuple(frames)
    rows = [rb"\d+ @( 0x[0-9a-f]+)+", rb"\d+: \d+ \[\d+: \d+\] @( 0x[0-9a-f]+)+"]
    outputs = [
        text.count("goroutine", replace(GOROUTINE, samples=(Sample(stack, (1,)),))),
        text.heap(heap_profile(Sample(stack, (1, 2, 1, 2)))),
    ]
    for row, output in zip(rows, outputs, strict=True):
        _, *lines = output.split(b"\n")
        assert [line for line in lines if line and not line.startswith(b"#")]
        for line in lines:
            assert not line or line.startswith(b"#") or re.fullmatch(row, line)


# The dump


def test_dump_has_a_paragraph_for_each_thread_and_task() -> None:
    assert text.dump(DUMP).decode() == DUMP_TEXT


def test_dump_of_nothing_says_so() -> None:
    assert text.dump(replace(GOROUTINE, samples=(), comments=())) == b"0 stacks\n"


# All of them


@pytest.mark.parametrize("form", ["heap", "count", "dump"])
def test_a_file_name_that_is_not_utf8_is_written_with_escapes(form: str) -> None:
    frame = Frame("shop.add", "/srv/caf\udce9.py", 1, 2)
    output = {
        "heap": lambda: text.heap(heap_profile(Sample((frame,), (1, 1, 1, 1)))),
        "count": lambda: text.count("g", replace(GOROUTINE, samples=(Sample((frame,), (1,)),))),
        "dump": lambda: text.dump(replace(GOROUTINE, samples=(Sample((frame,), (1,)),))),
    }[form]()
    assert rb"/srv/caf\udce9.py:2" in output


@pytest.mark.parametrize("form", ["heap", "count"])
def test_a_frame_without_a_file_has_a_dash(form: str) -> None:
    samples = (Sample((UNSAMPLED,), (1,) * (4 if form == "heap" else 1)),)
    profile = replace(HEAP if form == "heap" else GOROUTINE, samples=samples)
    output = text.heap(profile) if form == "heap" else text.count("goroutine", profile)
    assert re.search(rb"^#\t0x[0-9a-f]+\t<unsampled>\+0x0\t-$", output, re.MULTILINE)
