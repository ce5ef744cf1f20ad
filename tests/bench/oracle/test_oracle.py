"""The judge on profiles that are made up, what it reads of others, its page, and one tiny run."""

from __future__ import annotations

import argparse
import math
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.__main__ import judge as measure
from tests.bench.__main__ import parse
from tests.bench.oracle import accuracy, judge, samplers, trials
from tests.bench.oracle.accuracy import Judged
from tests.bench.oracle.judge import (
    Row,
    Share,
    branch_of,
    row,
    slowdown,
    standard_error,
    surprise,
)
from tests.bench.oracle.ledger import REST, Ledger, Spent, together
from tests.bench.oracle.programs import PROGRAMS, Program
from tests.bench.oracle.samplers import OFF, SAMPLERS, Reading
from tests.bench.oracle.trials import Trial
from tests.bench.processes import ChildError

MAIN = ("<module>", "/srv/main.py")
FILE = "/srv/tests/bench/oracle/programs/shop.py"

SHOP = Program(
    "shop",
    "A shop",
    lambda until: Spent({}, {}, {}),
    ("buy", "sell"),
    "shop (buy (pay )?|sell (pack )?)?",
)


def shop_row(*functions: str, samples: float = 1, weight: float = 1) -> Row:
    frames = [MAIN, *((f"tests.shop.{function}", FILE) for function in functions)]
    return row(frames, samples, weight)


def test_a_right_profile_has_no_errors() -> None:
    rows = [
        shop_row("shop", "buy", "pay", samples=50, weight=5.0),
        shop_row("shop", "buy", samples=10, weight=1.0),
        shop_row("shop", "sell", samples=30, weight=3.0),
        shop_row("shop", samples=10, weight=1.0),
    ]
    verdict = judge.judge(SHOP, {"buy": 0.6, "sell": 0.3, REST: 0.1}, rows)
    assert [share.branch for share in verdict.shares] == ["buy", REST, "sell"]
    assert [share.error for share in verdict.shares] == pytest.approx([0, 0, 0])
    assert (verdict.samples, verdict.impossible, verdict.elsewhere) == (100, 0, 0)
    assert verdict.total == 10


def test_an_error_is_told_in_points_beside_three_standard_errors() -> None:
    rows = [shop_row("shop", "buy", samples=64), shop_row("shop", "sell", samples=36)]
    rows = [replace(one, weight=one.samples) for one in rows]
    buy, sell = judge.judge(SHOP, {"buy": 1.0, "sell": 1.0}, rows).shares
    assert (buy.error, sell.error) == pytest.approx((14, -14))
    assert buy.width == pytest.approx(3 * math.sqrt(0.5 * 0.5 / 100))


def test_the_worst_share_is_the_farthest_whatever_its_sign() -> None:
    rows = [shop_row("shop", "buy", weight=2), shop_row("shop", "sell", weight=1)]
    verdict = judge.judge(SHOP, {"buy": 0.5, "sell": 0.4, REST: 0.1}, rows)
    assert verdict.worst == verdict.shares[0]
    verdict = judge.judge(SHOP, {"buy": 0.5, REST: 0.5}, [shop_row("shop", "buy")])
    assert verdict.worst is not None
    assert abs(verdict.worst.error) == 50


def test_a_share_that_chance_does_not_explain_is_worse_than_a_larger_error_that_it_does() -> None:
    rows = [
        shop_row("shop", "buy", samples=540, weight=540),
        shop_row("shop", "sell", samples=445, weight=445),
        shop_row("shop", samples=15, weight=15),
    ]
    verdict = judge.judge(SHOP, {"buy": 500, "sell": 499, REST: 1}, rows)
    errors = {share.branch: round(share.error, 1) for share in verdict.shares}
    assert errors == {"buy": 4.0, "sell": -5.4, REST: 1.4}
    assert [share.branch for share in verdict.shares if share.wrong] == [REST]
    assert verdict.worst is not None
    assert verdict.worst.branch == REST


@pytest.mark.parametrize(
    "functions",
    [
        ("pay",),  # its callers are lost
        ("buy", "pay"),
        ("shop", "sell", "pay"),  # the one below is of another moment
        ("shop", "buy", "buy"),
        ("shop", "buy", "pay", "pack"),
        ("shop", "pay"),
    ],
)
def test_stacks_that_the_program_cannot_have_are_counted(functions: tuple[str, ...]) -> None:
    rows = [shop_row(*functions, samples=3), shop_row("shop", "buy", samples=7)]
    verdict = judge.judge(SHOP, {"buy": 1.0}, rows)
    assert verdict.impossible == 3
    assert verdict.impossible_share == pytest.approx(0.3)
    assert verdict.examples == ("".join(f"{name} " for name in functions),)


def test_frames_of_others_neither_break_a_chain_nor_make_one() -> None:
    frames = [MAIN, ("shop", FILE), ("run", "/lib/asyncio/runners.py"), ("pay", "/lib/other.py")]
    found = row([*frames, ("buy", FILE)], 1, 1)
    assert found.chain == ("shop", "buy")
    assert found.leaf == "buy"
    assert row([MAIN, ("pay", "/lib/other.py")], 1, 1).chain == ()


def test_what_is_in_no_stack_of_the_program_is_elsewhere_and_in_the_total() -> None:
    rows = [shop_row("shop", "buy", weight=3), row([("<unsampled>", "")], 0, 1)]
    verdict = judge.judge(SHOP, {"buy": 1.0}, rows)
    assert verdict.elsewhere == 0.25
    assert verdict.total == 4
    assert verdict.shares[0].seen == 1


def test_a_profile_that_saw_nothing_has_no_shares() -> None:
    verdict = judge.judge(SHOP, {"buy": 1.0}, [])
    assert (verdict.samples, verdict.shares, verdict.worst, verdict.total) == (0, (), None, 0)
    assert verdict.impossible_share == 0


def test_a_stack_is_billed_to_the_innermost_branch() -> None:
    assert branch_of(SHOP, ("shop", "sell", "buy", "pay")) == "buy"
    assert branch_of(SHOP, ("shop", "pay")) == REST


def test_names_are_told_without_module_class_and_outer_function() -> None:
    found = row([("tests.x.f.<locals>.<listcomp>", FILE), ("Class.method", FILE)], 1, 1)
    assert found.chain == ("<listcomp>", "method")


def test_a_program_is_known_by_a_bare_file_name_too() -> None:
    assert row([("left", "calls.py"), ("run", "other.py")], 1, 1).chain == ("left",)


def test_standard_errors_are_binomial() -> None:
    assert standard_error(0.1, 900) == pytest.approx(0.01)
    assert standard_error(0.0, 10) == standard_error(1.0, 10) == 0
    assert standard_error(-0.01, 10) == 0  # clocks may say so of next to nothing
    assert standard_error(0.5, 0) == math.inf


def test_what_chance_explains_is_no_surprise_and_what_it_does_not_is_one() -> None:
    # Nine times "sell" in a row, where it is one of two.
    assert surprise(1.0, 0.5, 9) == pytest.approx(9 * math.log(2))
    assert surprise(0.0, 0.5, 9) == pytest.approx(9 * math.log(2))
    assert surprise(0.5, 0.5, 10**6) == 0
    assert surprise(0.53, 0.5, 10**6, bias=0.03) == pytest.approx(0, abs=1e-6)
    assert surprise(0.1, 0.0, 10) == math.inf
    assert surprise(0.1, -0.001, 10) == math.inf
    assert surprise(1 / 7, 0.001, 7) < 7  # a rare thing was seen once
    exact = sum(math.comb(100, hits) * 0.2**hits * 0.8 ** (100 - hits) for hits in range(40, 101))
    assert exact < math.exp(-surprise(0.4, 0.2, 100)) < 20 * exact


def test_slowdown_is_of_equal_work() -> None:
    off = {"buy": 1.0, "sell": 3.0, REST: 0.5}, {"buy": 10.0, "sell": 10.0}
    on = {"buy": 4.0, "sell": 3.0, REST: 9.0}, {"buy": 20.0, "sell": 10.0}
    assert slowdown(on, off) == pytest.approx((2.0 + 3.0) / 4.0)
    assert math.isnan(slowdown(({}, {}), ({}, {})))


def test_a_ledger_books_what_nobody_else_did_on_the_rest() -> None:
    def work(units: int) -> None:
        end = time.thread_time() + units / 1000
        while time.thread_time() < end:
            pass

    with Ledger() as ledger:
        ledger.spend(work, 20)
        time.sleep(0.02)
    spent = ledger.spent()
    assert 0.02 <= spent.cpu["work"] < 0.03
    assert spent.cpu[REST] < 0.01
    assert spent.wall[REST] >= 0.02
    assert spent.units == {"work": 20}
    both = together([spent, spent])
    assert both.cpu["work"] == 2 * spent.cpu["work"]
    assert both.units == {"work": 40}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_tells_the_time_of_its_branches_and_no_more(name: str) -> None:
    program = PROGRAMS[name]
    began, cpu = time.monotonic(), time.process_time()
    spent = program.run(began + 0.2)
    cpu = time.process_time() - cpu
    threads = {"threads": 21, "pinned": 2}.get(name, 1)
    assert set(spent.cpu) <= {*program.branches, REST}
    assert sum(spent.cpu.values()) == pytest.approx(cpu, abs=0.03)
    assert sum(spent.wall.values()) <= threads * (time.monotonic() - began)
    assert re.fullmatch(program.chains, f"{name} ")


def test_what_py_spy_writes_is_read() -> None:
    text = f"<module> (<string>:1);left_once ({FILE}:33);sorted (a b) (x.py:1) 12\n"
    (found,) = samplers.spy_rows(text)
    assert found == Row(("left_once",), "sorted (a b)", 12, 0.12)


def test_what_profiling_sampling_writes_is_read() -> None:
    text = "tid:7;<string>:<module>:5;calls.py:calls:65;ledger.py:Ledger.spend:58 3\n"
    (found,) = samplers.collapsed_rows(text)
    assert found == Row(("calls",), "Ledger.spend", 3, 0.03)


def test_an_upload_is_read_down_to_its_profile() -> None:
    profile = b"\x0a\x04\x08\x01\x10\x02"
    sample = b"\x0a" + bytes([len(profile)]) + profile + b"\x12\x02id"
    series = b"\x0a\x02xx\x12" + bytes([len(sample)]) + sample
    push = b"\x18\x96\x01\x0a" + bytes([len(series)]) + series
    assert samplers.field(push, 1, 2, 1) == profile
    with pytest.raises(ValueError, match="no field 9"):
        samplers.field(push, 1, 9)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Judged:
    """What a run might have measured; one profiler failed, and one does not sample."""
    monkeypatch.setattr(accuracy, "PROGRAMS", {"calls": PROGRAMS["calls"]})
    spent = Spent({"left": 0.5, "right": 0.5}, {"left": 0.6, "right": 0.6}, {"left": 9, "right": 9})
    calls = [Row(("calls", "take_turns", name), name, 50, 0.5) for name in ("left", "right")]
    torn = Row(("left",), "left", 100, 1.0)
    off = Trial(spent, 1.2, 1.0, 0.0, "3.11.7", ())
    outcomes: dict[tuple[str, str], accuracy.Outcome] = {}
    for name in ["calls"]:
        outcomes[name, OFF] = off
        outcomes[name, "native"] = replace(
            off, process_cpu=1.012, readings=(Reading("cpu", calls), Reading("wall", calls))
        )
        outcomes[name, "py-spy"] = replace(
            off, outside_cpu=0.12, readings=(Reading("cpu", [*calls, torn]),)
        )
        outcomes[name, "cProfile"] = replace(
            off, readings=(Reading("wall", [Row(("left",), "left", 0, 0.6)], stacks=False),)
        )
        outcomes[name, "ddtrace"] = "ended by signal 11"
    return Judged(
        date="2026-01-02",
        command="make bench",
        cpus=2,
        python="CPython 3.11.7",
        system="Linux x86_64",
        quick=False,
        seconds=20,
        versions={"pyprof-agent": "0.1.0", "py-spy": "0.4.3"},
        samplers=("native", "py-spy", "cProfile", "ddtrace"),
        outcomes=outcomes,
    )


def test_the_page_has_every_figure(judged: Judged) -> None:
    page = accuracy.page(judged)
    assert "| pyprof-agent, native, cpu | 100 | 0.00 % | 0.99 | 1.0 % | 1.00 |" in page
    assert "| pyprof-agent, native, wall | 100 | 0.00 % | 0.83 | 1.0 % | 1.00 |" in page
    assert "| py-spy, cpu | 200 | 50.00 % | 2.00 | 10.0 % | 1.00 |" in page
    assert "| the truth, cpu | 50.0 % | 50.0 % |  |  |" in page
    assert "| py-spy, cpu | **+25.0 (10.6)** | **-25.0 (10.6)** | 200 | 100 |" in page
    assert "| cProfile, wall | **+50.0** | **-50.0** | - | - |" in page
    assert "failed: ended by signal 11" in page
    assert "cProfile 5 s" in page


def test_the_tables_are_even(judged: Judged) -> None:
    for block in accuracy.page(judged).split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1, block


def test_only_errors_beyond_chance_and_a_point_are_bold() -> None:
    assert accuracy.error(Share("left", 0.5, 0.529, 0.02)) == "+2.9 (2.0)"
    assert accuracy.error(Share("left", 0.5, 0.531, 0.02)) == "**+3.1 (2.0)**"
    assert accuracy.error(Share("left", 0.5, 0.469, 0.02)) == "**-3.1 (2.0)**"


def test_a_profiler_that_fails_says_why() -> None:
    with pytest.raises(ChildError, match="not installed: no module ddtrace"):
        trials.run(SAMPLERS["ddtrace"], PROGRAMS["calls"], 0.1, 1)


def test_a_tiny_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "PROGRAMS", {"calls": PROGRAMS["calls"]})
    options: argparse.Namespace = parse(
        ["--parts", "accuracy", "--only", "python,cProfile", "--seconds", "0.4"]
    )
    result = measure(options, 1)
    page = accuracy.page(result)
    assert "**A quick run" in page
    assert "failed" not in page
    trial = result.outcomes["calls", "python"]
    assert isinstance(trial, Trial)
    cpu, wall = trial.readings
    assert trial.verdict(PROGRAMS["calls"], cpu).total == pytest.approx(trial.process_cpu, rel=0.1)
    assert (cpu.kind, wall.kind) == ("cpu", "wall")
    assert trial.verdict(PROGRAMS["calls"], cpu).impossible == 0
