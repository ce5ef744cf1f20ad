"""Checks that every reader of pprof files accepts a profile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pyprof_agent.batches import gently
from pyprof_agent.errors import ProfileError
from pyprof_agent.profile import Frame, Label, Profile, Sample, unmade

MAX_SAMPLE_TYPES = 4
"""Values a sample may carry: Grafana Alloy's delta code reads at most four."""

_INT64_MAX = 2**63 - 1


def validate(profile: Profile) -> None:
    """Raise ProfileError if a reader of pprof files would refuse or misread the profile.

    The rules are those of google/pprof's `CheckValid`, and of the strictest readers:
    Pyroscope (no `-` in a sample type), Alloy (at most four values).
    """
    problem = _problem(profile)
    if problem is None and unmade(profile) is None:
        width = len(profile.sample_types)
        problem = next(_sample_problems(profile.samples, width), None)
    if problem is not None:
        raise ProfileError(problem)


def validate_frame(frame: Frame) -> None:
    """Raise ProfileError if a frame's lines are not what the format can hold."""
    if not frame.function:
        raise ProfileError(f"a frame of {frame.filename!r} has no function name")
    for line in (frame.first_line, frame.line):
        if not 0 <= line <= _INT64_MAX:
            raise ProfileError(f"{frame.function} has the line {line}")


def _problem(profile: Profile) -> str | None:
    types = [value_type.type for value_type in profile.sample_types]
    if not types:
        return "a profile needs at least one sample type"
    if len(types) > MAX_SAMPLE_TYPES:
        return f"{len(types)} sample types {types}; readers take at most {MAX_SAMPLE_TYPES}"
    if len(set(types)) < len(types):
        return f"a sample type occurs twice in {types}"
    for name in types:
        if not name:
            return "a sample type has no name"
        if "-" in name:
            return f"sample type {name!r} has a '-', which Pyroscope refuses"
    if profile.default_sample_type not in ("", *types):
        return f"default sample type {profile.default_sample_type!r} is none of {types}"
    if not 0 < profile.time_nanos <= _INT64_MAX:
        return f"time_nanos is {profile.time_nanos}; give the Unix time in nanoseconds"
    for field in ("duration_nanos", "period"):
        value = getattr(profile, field)
        if not 0 <= value <= _INT64_MAX:
            return f"{field} is {value}; it must be from 0 to {_INT64_MAX}"
    return None


def _sample_problems(samples: Sequence[Sample], width: int) -> Iterator[str]:
    for _, values, labels in gently(samples):
        if len(values) != width:
            yield f"a sample has {len(values)} values for {width} sample types"
        for value in values:
            if not -_INT64_MAX <= value <= _INT64_MAX:  # not a number fails this, too
                yield f"a sample has the value {value}, which is no 64-bit integer"
        if labels:
            problem = _label_problem(labels)
            if problem is not None:
                yield problem


def _label_problem(labels: tuple[Label, ...]) -> str | None:
    keys = [label.key for label in labels]
    if len(set(keys)) < len(keys):
        return f"a label key occurs twice in {keys}"
    for key, value, unit in labels:
        if not key:
            return f"the label with value {value!r} has no key"
        if key.startswith("pprof::"):
            return f"label {key!r}: keys that start with 'pprof::' are reserved"
        if isinstance(value, str):
            if unit:
                return f"label {key!r} is a string and has a unit"
        elif not -_INT64_MAX <= value <= _INT64_MAX:
            return f"label {key!r} is {value}, which is no 64-bit integer"
    return None
