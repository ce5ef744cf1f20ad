"""What the watch says of a process, at its default setting and looking once a minute."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from pyprof_agent.leaks import telling
from pyprof_agent.leaks.growth import INNOCENT, LEAK, UNSURE
from pyprof_agent.leaks.history import History
from pyprof_agent.leaks.looks import Counts, Look
from pyprof_agent.leaks.report import LeakReport, report
from pyprof_agent.profile import Frame
from tests.leaks.histories import HOUR, MIB, histories
from tests.leaks.histories import History as Known

LINE = Frame("shop.channel.send", "/shop/channel.py", 30, 40)
CACHE = Frame("shop.cache.put", "/shop/cache.py", 1, 5)
SEEDS = range(3)

# While memory grows it grows: a cache that takes hours to fill is told from a leak only later, and
# the first tooth of a saw as long.
KNOWN_LATER = ("a cache fills for hours", "garbage, every 3 hours")


def minutes(known: Known) -> Iterator[Look]:
    """A history as the watch sees it: a look each minute."""
    place = 0
    for number in range(int(known.seconds[-1] / 60) + 1):
        second = 60.0 * number
        while place + 2 < len(known.seconds) and known.seconds[place + 1] <= second:
            place += 1
        start, stop = known.seconds[place : place + 2]
        part = min((second - start) / (stop - start), 1.0)

        def at(values: list[float], part: float = part, place: int = place) -> float:
            return values[place] + part * (values[place + 1] - values[place])

        live, work = at(known.live), None if known.work is None else int(at(known.work))
        yield Look(second, {LINE: Counts(live, live)}, 1, work)


@pytest.mark.parametrize("place", range(30), ids=[found.name for found in histories(0)])
def test_every_history_is_judged_right_and_no_innocent_one_warned_of(place: int) -> None:
    for seed in SEEDS:
        known, history = histories(seed)[place], History(1)
        for number, look in enumerate(minutes(known)):
            history.add(look, None)
            if number % 30 == 29 and not known.leaks and known.name not in KNOWN_LATER:
                assert report(history, HOUR, 5.0).alarms == ()
        found = report(history, HOUR, 5.0)
        assert (found.verdict == LEAK) == known.leaks, found
        if not known.leaks:
            assert found.alarms == ()


def watched(
    leak: float, *, looks: int = 60, native: float = 0, work: bool = True, limit: float = 5.0
) -> LeakReport:
    """An hour of a process of 200 MiB, half of it Python's.

    leak: per cent of it an hour
    native: the same, of what Python does not see
    """
    history = History(1)
    for number in range(looks):
        grown = 2 * MIB * leak * number / 60
        lines = {LINE: Counts(grown, grown), CACHE: Counts(500 * MIB, 100 * MIB)}
        resident = 200 * MIB + grown + 2 * MIB * native * number / 60
        history.add(Look(60.0 * number, lines, 1, 100 * number if work else None), resident)
    return report(history, HOUR, limit)


def test_a_leak_beyond_the_limit_is_warned_of_and_named() -> None:
    found = watched(8)
    assert found.verdict == LEAK
    assert [suspect.line for suspect in found.suspects] == [LINE]
    (alarm,) = found.alarms
    assert alarm == "memory in use grows by 8 % of the process an hour, surely by 8 %"


def test_a_leak_below_the_limit_is_told_and_not_warned_of() -> None:
    found = watched(3)
    assert (found.verdict, found.alarms) == (LEAK, ())
    assert "by less than the limit of 5 % an hour" in telling.text(found, "/")
    assert watched(3, limit=2.5).alarms


def test_work_is_known_though_the_first_unit_came_later_than_the_first_look() -> None:
    history = History(1)
    for number in range(60):
        size = 1e6 * number
        work = 1000 * number if number > 3 else None
        history.add(Look(60.0 * number, {LINE: Counts(size, size)}, 1, work), None)
    (suspect,) = report(history, HOUR, 5.0).suspects
    assert suspect.growth.per_unit is not None
    assert suspect.growth.per_unit.slope == pytest.approx(1000, rel=0.05)


def test_it_does_not_warn_before_it_has_seen_the_whole_span() -> None:
    assert watched(8, looks=40).verdict == LEAK
    assert watched(8, looks=40).alarms == ()
    assert "; warnings begin after 60 min" in telling.text(watched(8, looks=40), "/")
    assert watched(8, looks=5).verdict == UNSURE
    assert report(History(1), HOUR, 5.0).verdict == UNSURE


def test_memory_that_python_does_not_see_is_warned_of_where_there_is_much_of_it() -> None:
    (alarm,) = watched(0, native=20).alarms
    assert alarm.startswith("the resident set grows by 20 % of the process an hour, surely by 20 %")
    assert watched(0, native=6).alarms == ()  # 12 MiB
    assert all("resident" not in alarm for alarm in watched(20).alarms)


def test_nothing_is_no_leak() -> None:
    found = watched(0)
    assert (found.verdict, found.alarms, found.suspects) == (INNOCENT, (), ())


def test_the_text_has_all_that_one_needs_at_night() -> None:
    text = telling.text(watched(8), "http://shop:80/debug/pprof/")
    for words in (
        "leak: memory grows by more than 5 % of the process an hour",
        "shop.channel.send (/shop/channel.py:40), 16.0 MiB an hour, 2796 B a request, 100% of that",
        "The last 59 min, in 60 looks",
        "go tool pprof -http=: 'http://shop:80/debug/pprof/heap'",
        "pyprof-agent gate 'http://shop:80/'",
    ):
        assert words in text
    assert telling.NOTHING_COUNTED not in text
    assert telling.NOTHING_COUNTED in telling.text(watched(8, work=False), "/")
    assert "no leak: " in telling.text(watched(0), "/")
    assert "cannot tell: " in telling.text(report(History(1), HOUR, 5.0), "/")


def test_json_is_json_whatever_is_not_known() -> None:
    found = json.loads(telling.as_json(watched(8)))
    assert found["verdict"] == "leak"
    (suspect,) = found["suspects"]
    assert (suspect["file"], suspect["line"]) == ("/shop/channel.py", 40)
    assert suspect["bytes_per_hour"]["estimate"] == pytest.approx(16 * MIB)
    assert len(found["spans"][0]["heap_bytes"]) == 60
    nothing = json.loads(telling.as_json(report(History(1), HOUR, 5.0)))
    assert nothing["suspects"] == []
    assert nothing["spans"][0]["heap"]["bytes_per_hour"] is None
