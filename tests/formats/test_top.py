"""The table of functions: what the real `go tool pprof -top` prints of the same profile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pyprof_agent import ProfileError
from pyprof_agent.formats import top
from pyprof_agent.formats.units import label, percentage
from pyprof_agent.profile import Frame, Profile, Sample, ValueType
from tests.conftest import GoPprof
from tests.formats.big import big_profile
from tests.support import LEAF, ROOT_FRAME, heap_profile

OTHER = Frame("shop.db.query", "/srv/shop/db.py", 5, 6)
TINY = Frame("shop.log.write", "/srv/shop/log.py", 5, 6)


def cpu_profile(*samples: Sample, duration: int = 2_000_000_000) -> Profile:
    return Profile(
        sample_types=(ValueType("samples", "count"), ValueType("cpu", "nanoseconds")),
        samples=samples,
        period_type=ValueType("cpu", "nanoseconds"),
        period=50_000_000,
        time_nanos=1_700_000_000_123_456_789,
        duration_nanos=duration,
        comments=("made by a test", "# not shown"),
    )


HEAP = heap_profile(
    Sample((LEAF, ROOT_FRAME), (10, 1000, 4, 130 << 20)),
    Sample((LEAF, LEAF, OTHER, ROOT_FRAME), (1, 1, 1, 6_815_744)),
    Sample((ROOT_FRAME,), (7, 7000, 1, 1000)),
    Sample((TINY, ROOT_FRAME), (3, 30, 1, 30)),
    Sample((OTHER, TINY), (0, 0, 0, 0)),
)

PROFILES = {
    "heap": HEAP,
    "objects": replace(HEAP, default_sample_type="alloc_objects"),
    "empty": heap_profile(),
    "shrunk": heap_profile(
        Sample((LEAF, ROOT_FRAME), (1, 1, -4, -400_000)),
        Sample((OTHER, ROOT_FRAME), (1, 1, 3, 300_000)),
    ),
    "one byte": heap_profile(Sample((LEAF,), (1, 1, 1, 1))),
    "petabytes": heap_profile(
        Sample((LEAF,), (1, 1, 1, 3 << 51)), Sample((OTHER,), (1, 1, 1, 1 << 42))
    ),
    "cpu": cpu_profile(
        Sample((LEAF, ROOT_FRAME), (3, 1_234_567_890)),
        Sample((OTHER, ROOT_FRAME), (1, 50_000_000)),
        Sample((OTHER,), (1, 7_000)),
    ),
    "hours": cpu_profile(Sample((LEAF,), (3, 7_200 * 10**9)), duration=10**13),
    "counts": replace(
        cpu_profile(Sample((LEAF,), (3, 5))), default_sample_type="samples", duration_nanos=999
    ),
    "3,000 stacks": big_profile(3000),
}


@pytest.mark.parametrize("name", PROFILES)
def test_it_is_what_pprof_prints(
    go_pprof: GoPprof, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    path = tmp_path / "profile.pb.gz"
    PROFILES[name].write(path)
    assert top.encode(PROFILES[name]).decode() == go_pprof("-top", path)


def test_a_column_that_is_not_there_is_refused() -> None:
    with pytest.raises(ProfileError, match="no sample type 'wall'"):
        top.encode(replace(HEAP, default_sample_type="wall"))


def test_no_name_can_add_a_line() -> None:
    hostile = Frame("a\nb\x1b[2J", "/x.py", 1, 1)
    profile = replace(heap_profile(Sample((hostile,), (1, 1, 1, 1))), comments=("x\ny",))
    text = top.encode(profile).decode()
    assert text.endswith(r"  a\nb\x1b[2J" + "\n")
    assert "\nx\\ny\n" in text


@pytest.mark.parametrize(
    ("value", "unit", "written"),
    [
        (0, "bytes", "0"),
        (1023, "bytes", "1023B"),
        (-1536, "bytes", "-1.50kB"),
        (999, "nanoseconds", "999ns"),
        (90 * 10**9, "nanoseconds", "90s"),
        (12345, "count", "12345"),
    ],
)
def test_values_have_a_unit_that_fits(value: int, unit: str, written: str) -> None:
    assert label(value, unit) == written


def test_shares_have_two_digits_at_least() -> None:
    assert [percentage(value, 10_000) for value in (0, 1, 150, 9994, 9996)] == [
        "    0%",
        " 0.01%",
        " 1.50%",
        "99.94%",
        "  100%",
    ]
    assert percentage(5, 0) == "    0%"
