"""A heap against a limit: three honest answers."""

from __future__ import annotations

import random

import pytest

from pyprof_agent.errors import ConfigError
from pyprof_agent.leaks.looks import Counts, Look, error, look
from pyprof_agent.leaks.verdict import FAILED, PASSED, UNKNOWN, Limit, decide
from pyprof_agent.leaks.work import WorkCounter, process, units
from pyprof_agent.profile import Frame, Profile, Sample, ValueType

MIB = 2**20
CACHE = Frame("shop.cache.put", "/shop/cache.py", 1, 5)
LEAK = Frame("shop.channel.send", "/shop/channel.py", 30, 40)


def looks(seconds: float, leak: float, *, noise: float = 0.001, rate: float = 100) -> list[Look]:
    """Looks at a heap of 100 MiB that leaks so many bytes for each of `rate` requests a second."""
    dice = random.Random(7)
    found = []
    for number in range(60):
        second = seconds * number / 59
        work = round(rate * second)
        leaked, cached = leak * work, 100 * MIB * (1 + dice.gauss(0, noise))
        lines = {LEAK: Counts(leaked, leaked), CACHE: Counts(200 * MIB + 10 * second, cached)}
        found.append(Look(second, lines, 1, work))
    return found


def test_what_surely_grows_by_less_passes() -> None:
    verdict = decide(looks(3600, 0), Limit.hourly("5%/h"))
    assert verdict.answer == PASSED
    assert verdict.needed is None
    assert verdict.bounds is not None
    assert verdict.bounds.low < 0 < verdict.bounds.high < 5


def test_what_surely_grows_by_more_fails_and_is_named() -> None:
    verdict = decide(looks(3600, 128), Limit.hourly("5%/h"))
    assert verdict.answer == FAILED
    assert verdict.bounds is not None
    assert verdict.bounds.estimate == pytest.approx(128 * 360_000 / MIB, rel=0.05)
    assert [suspect.line for suspect in verdict.suspects] == [LEAK]
    (suspect,) = verdict.suspects
    assert suspect.growth.per_unit is not None
    assert suspect.growth.per_unit.slope == pytest.approx(128)
    assert suspect.share == 1


@pytest.mark.parametrize(("leak", "answer"), [(0, PASSED), (128, FAILED)])
def test_a_run_as_long_as_it_says_can_tell_what_a_short_one_cannot(
    leak: float, answer: str
) -> None:
    limit = Limit.hourly("1%/h")
    short = decide(looks(40, leak if leak == 0 else 4), limit)
    assert short.answer == UNKNOWN
    assert short.needed is not None
    assert short.needed > 40
    assert decide(looks(short.needed, leak), limit).answer == answer


def test_bytes_for_each_request_are_held_against_a_limit() -> None:
    assert decide(looks(40, 128, rate=5000), Limit.per_request("16B")).answer == FAILED
    assert decide(looks(40, 0, rate=5000), Limit.per_request("16B")).answer == PASSED


def test_where_no_sample_tells_of_growth_there_may_be_some_all_the_same() -> None:
    """As many bytes as come between samples now and then: 6.9 times their mean, with 99.9 %."""
    still = {CACHE: Counts(200 * MIB, 100 * MIB)}
    seen = [Look(float(second), still, 524288, 100 * second) for second in range(40)]
    verdict = decide(seen, Limit.per_request("16B"))
    assert verdict.answer == UNKNOWN
    assert verdict.bounds is not None
    assert verdict.bounds.high == pytest.approx(6.9 * 524288 / 3900, rel=0.01)
    assert verdict.bounds.low == 0
    closer = [Look(look.seconds, still, 4096, look.work) for look in seen]
    assert decide(closer, Limit.per_request("16B")).answer == PASSED


def test_without_requests_there_are_no_bytes_for_each() -> None:
    idle = [Look(one.seconds, one.lines, 1, None) for one in looks(40, 128)]
    with pytest.raises(ConfigError, match="no request was counted"):
        decide(idle, Limit.per_request("16B"))


def test_few_looks_tell_nothing_and_say_how_many_would() -> None:
    verdict = decide(looks(40, 128)[:5], Limit.hourly("1%/h"))
    assert verdict.answer == UNKNOWN
    assert verdict.bounds is None
    assert verdict.needed is not None
    assert verdict.needed > 5


def test_where_nothing_was_sampled_more_has_to_be() -> None:
    verdict = decide([Look(one.seconds, {}, 1, 0) for one in looks(40, 0)], Limit.hourly("1%/h"))
    assert verdict.answer == UNKNOWN
    assert "by a lower heap_sample_bytes" in verdict.reason
    assert verdict.needed is None


@pytest.mark.parametrize(
    ("text", "most"), [("1%/h", 1), ("0.5 %/h", 0.5), ("100%/h", 100), (".5%/h", 0.5)]
)
def test_hourly_limits_are_read(text: str, most: float) -> None:
    assert Limit.hourly(text) == Limit(most)


@pytest.mark.parametrize("text", ["", "1", "1%", "0%/h", "-1%/h", "1.2.3%/h", ".%/h", "16B"])
def test_other_hourly_limits_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="as in 1%/h"):
        Limit.hourly(text)


@pytest.mark.parametrize(("text", "most"), [("16B", 16), ("1KiB", 1024), ("0.5 kB", 500)])
def test_limits_for_each_request_are_read(text: str, most: float) -> None:
    assert Limit.per_request(text) == Limit(most, per_work=True)


@pytest.mark.parametrize("text", ["", "16", "0B", "16 bytes", "1%/h"])
def test_other_limits_for_each_request_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="as in 16B"):
        Limit.per_request(text)


def heap(rows: dict[tuple[Frame, ...], tuple[float, float]], comments: tuple[str, ...]) -> Profile:
    types = ("alloc_objects", "alloc_space", "inuse_objects", "inuse_space")
    return Profile(
        sample_types=tuple(ValueType(name, "bytes") for name in types),
        samples=tuple(
            Sample(stack, (1, allocated, 1, in_use)) for stack, (allocated, in_use) in rows.items()
        ),
        period_type=ValueType("space", "bytes"),
        period=512,
        time_nanos=5 * 10**9,
        comments=comments,
    )


def test_a_look_adds_up_lines_and_leaves_out_the_agent() -> None:
    caller, other = Frame("shop.a", "/a.py", 1, 2), Frame("shop.b", "/b.py", 1, 2)
    own = Frame("pyprof_agent.worker.Worker._work", "/w.py", 1, 2)
    counting = Frame("pyprof_agent.http.counting.CountingApp.__call__", "/c.py", 1, 2)
    profile = heap(
        {
            (LEAK, caller): (100, 10),
            (LEAK, other, counting): (200, 20),
            (CACHE, own): (400, 40),
            (): (800, 80),
        },
        ("whatever", "process: 77", "work done so far: 12"),
    )
    found = look(profile)
    assert found == Look(5.0, {LEAK: Counts(300, 30)}, 512, 12, 77)
    assert found.in_use == 30


def test_work_is_told_in_comments() -> None:
    counter = WorkCounter()
    profile = heap({}, ("first",))
    assert units(counter.tell(profile).comments) is None
    counter.add(3)
    counter.add(4)
    comments = counter.tell(profile).comments
    assert units(comments) == 7
    assert process(comments) is not None
    assert comments[0] == "first"
    assert process(profile.comments) is None


def test_what_has_stayed_is_no_source_of_error() -> None:
    def at(allocated: float, in_use: float) -> Look:
        return Look(0, {LEAK: Counts(allocated, in_use)}, 1000, None)

    assert error([at(500, 400), at(500, 400)], LEAK) == 0
    assert error([at(500, 400), at(600, 500)], LEAK) == pytest.approx((100 * 1000) ** 0.5)
    assert error([at(500, 400), at(500, 100)], LEAK) == pytest.approx((300 * 1000) ** 0.5)
    assert error([at(500, 400), at(99_999, 400)]) == pytest.approx((800 * 1000) ** 0.5)
