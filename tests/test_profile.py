"""Profiles as values: sums, differences, rounding, the rules they keep, and files."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyprof_agent import ProfileError
from pyprof_agent.formats.pprof import decode
from pyprof_agent.profile import (
    Frame,
    Label,
    Profile,
    Sample,
    ValueType,
    merge,
    rounded,
    scale,
    subtract,
)
from pyprof_agent.profile_rules import validate, validate_frame
from tests.conftest import GoPprof
from tests.support import HEAP_TYPES, LEAF, ROOT_FRAME, heap_profile

SECOND = 1_000_000_000
NOON = 1_700_000_000 * SECOND

Row = tuple[tuple[Frame, ...], tuple[Label, ...]]

# Few frames and labels, so that the rows of two profiles often meet.
FRAMES = st.builds(
    Frame,
    st.sampled_from(("shop.add", "shop.pay", "<unsampled>")),
    st.sampled_from(("/srv/shop.py", "")),
    st.integers(0, 2),
    st.integers(0, 2),
)
LABELS = st.sampled_from(
    ((), (Label("thread", "MainThread"),), (Label("thread", 7),), (Label("size", 7, "bytes"),))
)
ROWS = st.tuples(st.lists(FRAMES, max_size=3).map(tuple), LABELS)
# Totals are floats: these stay exact in them.
INTEGERS = st.integers(-(2**40), 2**40)
FRACTIONS = st.floats(-1e9, 1e9)


def profiles(
    numbers: st.SearchStrategy[int] | st.SearchStrategy[float],
) -> st.SearchStrategy[Profile]:
    """Profiles with each row once, and no row of zeros."""
    values: st.SearchStrategy[tuple[float, ...]] = st.tuples(*[numbers] * 4).filter(any)
    return st.dictionaries(ROWS, values, max_size=6).map(
        lambda table: heap_profile(
            *(Sample(stack, values, labels) for (stack, labels), values in table.items())
        )
    )


def rows(profile: Profile) -> dict[Row, tuple[float, ...]]:
    """The rows by stack and labels, after a check that none occurs twice."""
    table = {(sample.stack, sample.labels): sample.values for sample in profile.samples}
    assert len(table) == len(profile.samples)
    return table


def totals(profile: Profile) -> list[float]:
    return [profile.total(value_type.type) for value_type in profile.sample_types]


def one_row(*values: float) -> Profile:
    return heap_profile(Sample((LEAF,), values))


# Values


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (ValueType("cpu", "nanoseconds"), "unit"),
        (LEAF, "line"),
        (Label("thread", 1), "value"),
        (Sample((LEAF,), (1,)), "values"),
        (LEAF, "column"),
        (heap_profile(), "period"),
    ],
)
def test_a_value_cannot_be_changed(value: object, field: str) -> None:
    with pytest.raises(AttributeError):
        setattr(value, field, 0)


def test_equal_profiles_are_equal_and_hash_alike() -> None:
    first, second = one_row(1, 2, 3, 4), one_row(1, 2, 3, 4)
    assert first is not second
    assert len({first, second}) == 1
    assert len({first, one_row(1, 2, 3, 5)}) == 2


def test_a_label_is_found_by_its_key() -> None:
    sample = Sample((), (1,), (Label("thread", "MainThread"), Label("id", 7)))
    assert sample.label("id") == 7
    assert sample.label("thread") == "MainThread"
    assert sample.label("task") is None


# Columns


def test_column_gives_the_index_of_a_sample_type() -> None:
    names = ("alloc_objects", "alloc_space", "inuse_objects", "inuse_space")
    assert [heap_profile().column(name) for name in names] == [0, 1, 2, 3]


def test_total_sums_one_column_only() -> None:
    profile = heap_profile(Sample((LEAF,), (1, 10, 2, 20)), Sample((ROOT_FRAME,), (3, 30, 4, 40)))
    assert totals(profile) == [4, 40, 6, 60]


def test_total_loses_nothing_beside_large_values() -> None:
    samples = [Sample((LEAF,), (value,) * 4) for value in (1e16, 1.0, -1e16)]
    assert heap_profile(*samples).total("inuse_space") == 1


@pytest.mark.parametrize("method", [Profile.column, Profile.total])
def test_an_unknown_column_is_an_error_that_lists_the_known(
    method: Callable[[Profile, str], float],
) -> None:
    with pytest.raises(ProfileError, match=r"'cpu'.*alloc_objects, alloc_space.*inuse_space"):
        method(heap_profile(), "cpu")


# Merge


def test_merge_adds_rows_of_equal_stack_and_labels() -> None:
    thread = (Label("thread", "MainThread"),)
    first = heap_profile(Sample((LEAF,), (1, 10, 1, 10)), Sample((LEAF,), (5, 5, 5, 5), thread))
    second = heap_profile(Sample((LEAF,), (2, 20, 0, 0)), Sample((ROOT_FRAME,), (1, 1, 1, 1)))
    assert rows(merge((first, second))) == {
        ((LEAF,), ()): (3, 30, 1, 10),
        ((LEAF,), thread): (5, 5, 5, 5),
        ((ROOT_FRAME,), ()): (1, 1, 1, 1),
    }


def test_merge_tells_a_string_label_from_a_number_and_its_units() -> None:
    labels = (Label("id", 1), Label("id", "1"), Label("id", 1, "bytes"))
    samples = [Sample((LEAF,), (1, 1, 1, 1), (label,)) for label in labels]
    assert len(merge([heap_profile(*samples)]).samples) == 3


def test_merge_leaves_out_rows_that_cancel() -> None:
    merged = merge((one_row(1, 2, 3, 4), one_row(-1, -2, -3, -4)))
    assert merged.samples == ()


def test_merge_keeps_a_row_in_which_one_value_is_left() -> None:
    merged = merge((one_row(1, 2, 3, 4), one_row(-1, -2, -3, 0)))
    assert rows(merged) == {((LEAF,), ()): (0, 0, 0, 4)}


def test_merge_takes_time_duration_period_and_comments_as_go_does() -> None:
    first = replace(heap_profile(), time_nanos=20, duration_nanos=3, period=1, comments=("a", "b"))
    second = replace(heap_profile(), time_nanos=10, duration_nanos=4, period=9, comments=("c", "b"))
    merged = merge(iter((first, second)))
    assert merged == replace(
        first, time_nanos=10, duration_nanos=7, period=9, comments=("a", "b", "c")
    )


def test_merge_of_nothing_is_an_error() -> None:
    with pytest.raises(ProfileError, match="nothing to merge"):
        merge(())


@pytest.mark.parametrize("combine", [lambda a, b: merge((a, b)), subtract])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_types": HEAP_TYPES[:2]}, "different sample_types.*inuse_space"),
        ({"period_type": ValueType("wall", "seconds")}, "different period_type.*space.*wall"),
    ],
)
def test_profiles_of_different_kinds_do_not_go_together(
    combine: Callable[[Profile, Profile], Profile], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ProfileError, match=message):
        combine(heap_profile(), replace(heap_profile(), **changes))


@given(profiles(INTEGERS), profiles(INTEGERS))
def test_merge_commutes_and_keeps_the_totals(first: Profile, second: Profile) -> None:
    one, other = merge((first, second)), merge((second, first))
    assert rows(one) == rows(other)
    expected = [a + b for a, b in zip(totals(first), totals(second), strict=True)]
    assert totals(one) == expected


@given(profiles(INTEGERS), profiles(INTEGERS), profiles(INTEGERS))
def test_merge_of_three_is_merge_of_two_and_one(a: Profile, b: Profile, c: Profile) -> None:
    assert rows(merge((a, b, c))) == rows(merge((merge((a, b)), c)))


# Scale and subtract


def test_scale_multiplies_every_value_and_nothing_else() -> None:
    profile = one_row(1, 2, 3, 4)
    assert scale(profile, 2.5) == replace(
        profile, samples=(Sample((LEAF,), (2.5, 5.0, 7.5, 10.0)),)
    )


@given(profiles(FRACTIONS))
def test_scaling_by_minus_one_twice_changes_nothing(profile: Profile) -> None:
    assert scale(scale(profile, -1), -1) == profile


@given(profiles(INTEGERS), profiles(INTEGERS))
def test_subtract_undoes_merge(first: Profile, second: Profile) -> None:
    assert rows(subtract(merge((first, second)), second)) == rows(first)


@given(profiles(FRACTIONS))
def test_a_profile_minus_itself_is_empty(profile: Profile) -> None:
    assert subtract(profile, profile).samples == ()


def test_subtract_covers_every_column_and_may_go_below_zero() -> None:
    assert rows(subtract(one_row(5, 50, 1, 10), one_row(2, 20, 4, 40))) == {
        ((LEAF,), ()): (3, 30, -3, -30)
    }


def test_subtract_keeps_a_stack_that_is_gone_as_negative() -> None:
    assert rows(subtract(heap_profile(), one_row(0, 0, 1, 10))) == {((LEAF,), ()): (0, 0, -1, -10)}


def test_the_duration_between_snapshots_is_their_distance_in_time() -> None:
    earlier = replace(heap_profile(time_nanos=NOON), comments=("earlier",))
    later = replace(heap_profile(time_nanos=NOON + 3 * SECOND), comments=("later",))
    difference = subtract(later, earlier)
    assert difference.time_nanos == NOON + 3 * SECOND
    assert difference.duration_nanos == 3 * SECOND
    assert difference.comments == ("later",)


def test_the_duration_between_counters_is_the_difference_of_their_durations() -> None:
    # The wall clock jumped back between the two; how long they counted is what matters.
    earlier = replace(heap_profile(time_nanos=NOON), duration_nanos=100)
    later = replace(heap_profile(time_nanos=NOON - SECOND), duration_nanos=160)
    assert subtract(later, earlier).duration_nanos == 60


def test_the_duration_is_never_negative() -> None:
    earlier = heap_profile(time_nanos=NOON)
    later = heap_profile(time_nanos=NOON - SECOND)
    assert subtract(later, earlier).duration_nanos == 0


# Rounding


def test_fractions_are_summed_before_they_are_rounded() -> None:
    parts = [one_row(0.4, 0.4, 0.4, 0.4)] * 3
    assert rows(rounded(merge(parts))) == {((LEAF,), ()): (1, 1, 1, 1)}
    assert rounded(merge(map(rounded, parts))).samples == ()


@given(st.lists(profiles(FRACTIONS), min_size=1, max_size=4))
def test_a_rounded_sum_is_at_most_half_off_in_every_row(parts: list[Profile]) -> None:
    exact = rows(merge(parts))
    whole = rows(rounded(merge(parts)))
    assert whole.keys() <= exact.keys()
    for row, values in exact.items():
        for value, integer in zip(values, whole.get(row, (0, 0, 0, 0)), strict=True):
            assert isinstance(integer, int)
            assert abs(value - integer) <= 0.5


def test_rounding_leaves_out_rows_in_which_nothing_is_left() -> None:
    profile = heap_profile(Sample((LEAF,), (0.4, 0.2, 0, 0)), Sample((ROOT_FRAME,), (0.4, 0, 0, 1)))
    assert rows(rounded(profile)) == {((ROOT_FRAME,), ()): (0, 0, 0, 1)}


@given(profiles(FRACTIONS))
def test_rounding_twice_is_rounding_once(profile: Profile) -> None:
    assert rounded(rounded(profile)) == rounded(profile)


# Rules


def labelled(*labels: Label) -> dict[str, Any]:
    return {"samples": (Sample((LEAF,), (1, 2, 3, 4), labels),)}


def types(*names: str) -> dict[str, Any]:
    return {
        "sample_types": tuple(ValueType(name, "count") for name in names),
        "default_sample_type": "",
    }


def values(*numbers: float) -> dict[str, Any]:
    return {"samples": (Sample((LEAF,), numbers),)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (types(), "needs at least one sample type"),
        (types("a", "b", "c", "d", "e"), r"5 sample types \['a', .*\]; readers take at most 4"),
        (types("a", "b", "a"), r"occurs twice in \['a', 'b', 'a'\]"),
        (types("a", ""), "a sample type has no name"),
        (types("in-use"), "'in-use' has a '-'"),
        ({"default_sample_type": "cpu"}, r"'cpu' is none of \['alloc_objects', "),
        ({"time_nanos": 0}, "time_nanos is 0; give the Unix time in nanoseconds"),
        ({"time_nanos": -1}, "time_nanos is -1"),
        ({"time_nanos": 2**63}, f"time_nanos is {2**63}"),
        ({"duration_nanos": -1}, "duration_nanos is -1; it must"),
        ({"duration_nanos": 2**63}, f"duration_nanos is {2**63}; it must"),
        ({"period": -5}, "period is -5; it must"),
        ({"period": 2**63}, f"period is {2**63}; it must"),
        (values(1, 2, 3), "3 values for 4 sample types"),
        (values(1, 2, 3, 4, 5), "5 values for 4 sample types"),
        (values(1, 2, 3, float("nan")), "the value nan"),
        (values(1, 2, 3, float("inf")), "the value inf"),
        (values(1, 2, 3, 2**63), f"the value {2**63}"),
        (values(1, 2, 3, -(2.0**64)), r"the value -1\.8446744073709552e\+19"),
        (labelled(Label("", "x")), "the label with value 'x' has no key"),
        (labelled(Label("a", 1), Label("a", "x")), r"key occurs twice in \['a', 'a'\]"),
        (labelled(Label("pprof::base", "true")), "'pprof::base': keys that start with 'pprof::'"),
        (labelled(Label("a", "x", "bytes")), "label 'a' is a string and has a unit"),
        (labelled(Label("a", 2**63)), f"label 'a' is {2**63}"),
    ],
)
def test_what_a_reader_would_refuse_is_refused(changes: dict[str, Any], message: str) -> None:
    profile = replace(heap_profile(), **changes)
    with pytest.raises(ProfileError, match=message):
        validate(profile)
    with pytest.raises(ProfileError, match=message):
        profile.to_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        types("a"),
        types("a", "b", "c", "d"),
        {"time_nanos": 2**63 - 1, "duration_nanos": 2**63 - 1, "period": 0},
        values(2**63 - 1, -(2**63 - 1), 0, 0.5),
        labelled(Label("id", -(2**63 - 1)), Label("size", 2**63 - 1, "bytes"), Label("a", "x")),
        {"samples": (Sample((), (1, 2, 3, 4)),)},
    ],
)
def test_what_is_at_the_limit_is_accepted(changes: dict[str, Any]) -> None:
    profile = replace(heap_profile(), **changes)
    validate(profile)
    assert decode(profile.to_bytes()).sample_types == profile.sample_types


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (Frame("", "/srv/shop.py", 1, 2), "a frame of '/srv/shop.py' has no function name"),
        (Frame("shop.add", "/srv/shop.py", -1, 2), "shop.add has the line -1"),
        (Frame("shop.add", "/srv/shop.py", 1, -2), "shop.add has the line -2"),
        (Frame("shop.add", "/srv/shop.py", 1, 2**63), f"shop.add has the line {2**63}"),
    ],
)
def test_a_frame_that_the_format_cannot_hold_is_refused(frame: Frame, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        validate_frame(frame)
    with pytest.raises(ProfileError, match=message):
        heap_profile(Sample((LEAF, frame), (1, 2, 3, 4))).to_bytes()


def test_a_frame_without_file_and_lines_is_accepted() -> None:
    validate_frame(Frame("<unsampled>", "", 0, 0))


# Files


def test_write_makes_a_gzip_file_that_holds_the_profile(tmp_path: Path) -> None:
    profile = one_row(1, 2, 3, 4)
    path = tmp_path / "heap.pb.gz"
    profile.write(path)
    assert decode(gzip.decompress(path.read_bytes())) == profile


def test_pprof_opens_what_write_makes(go_pprof: GoPprof, tmp_path: Path) -> None:
    path = tmp_path / "heap.pb.gz"
    one_row(1, 2, 3, 4).write(path)
    assert go_pprof("-top", "-unit=B", path).splitlines()[-1].split() == [
        *("4B", "100%", "100%", "4B", "100%"),
        "shop.cart.Cart.add",
    ]


def test_write_takes_a_relative_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    heap_profile().write("heap.pb.gz")
    assert os.listdir() == ["heap.pb.gz"]


def test_write_replaces_a_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "heap.pb.gz"
    path.write_bytes(b"an older profile")
    one_row(1, 2, 3, 4).write(path)
    assert os.listdir(tmp_path) == ["heap.pb.gz"]
    assert decode(path.read_bytes()) == one_row(1, 2, 3, 4)


def test_the_whole_file_appears_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "heap.pb.gz"
    profile = one_row(1, 2, 3, 4)
    moves = []

    def spy(source: str, target: str, replace: Callable[[str, str], None] = os.replace) -> None:
        # A rename within a folder is atomic; across file systems it is not.
        assert Path(source).parent == Path(target).parent
        assert Path(source).read_bytes() == profile.to_bytes()
        assert not Path(target).exists()
        moves.append(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", spy)
    profile.write(path)
    assert moves == [str(path)]


def test_the_file_has_the_rights_that_the_umask_leaves(tmp_path: Path) -> None:
    path = tmp_path / "heap.pb.gz"
    before = os.umask(0o027)
    try:
        heap_profile().write(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_no_other(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "heap.pb.gz"
    path.write_bytes(b"an older profile")

    def fail(source: str, target: str) -> None:
        raise error

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(type(error)):
        heap_profile().write(path)
    assert os.listdir(tmp_path) == ["heap.pb.gz"]
    assert path.read_bytes() == b"an older profile"


def test_a_folder_in_the_way_is_an_error_that_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "heap.pb.gz").mkdir()
    with pytest.raises(IsADirectoryError):
        heap_profile().write(tmp_path / "heap.pb.gz")
    assert os.listdir(tmp_path) == ["heap.pb.gz"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        heap_profile().write(tmp_path / "missing" / "heap.pb.gz")


def test_an_invalid_profile_touches_no_file(tmp_path: Path) -> None:
    path = tmp_path / "heap.pb.gz"
    path.write_bytes(b"an older profile")
    with pytest.raises(ProfileError):
        one_row(1, 2, 3).write(path)
    assert os.listdir(tmp_path) == ["heap.pb.gz"]
    assert path.read_bytes() == b"an older profile"


def test_what_stands_for_a_profile_in_logs_is_short() -> None:
    profile = heap_profile(*[Sample((LEAF,), (1, 2, 3, 4))] * 20_000)
    types = ", ".join(value_type.type for value_type in HEAP_TYPES)
    assert repr(profile) == f"<Profile of {types} at {profile.time_nanos}>"
