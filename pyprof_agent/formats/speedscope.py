"""Profiles as files of speedscope, the flame graph viewer: https://www.speedscope.app."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from pyprof_agent.formats.columns import Part, parts, shown_part
from pyprof_agent.formats.json_text import array, compact
from pyprof_agent.formats.numbering import Numbering
from pyprof_agent.profile import Frame, Profile, Sample, rounded

SCHEMA = "https://www.speedscope.app/file-format-schema.json"
_UNITS = {"bytes": "bytes", "nanoseconds": "nanoseconds"}


def encode(profile: Profile, name: str) -> bytes:
    """A file with a sampled profile for each sample type, the default one shown first; JSON.

    What has shrunk in a window is a profile of its own, as widths are never below 0.

    name: what the viewer calls it

    Raises ProfileError if the profile has no column of its default's name.
    """
    profile = rounded(profile)
    functions = Numbering(identity)
    stacks = [stack[::-1] for stack in functions.stacks(profile.samples)]
    columns = parts(profile)
    profiles = ",".join([_profile(part, stacks, profile.samples) for part in columns])
    frames = array([_frame(*key) for key in functions.keys])
    return (
        f'{{"$schema":"{SCHEMA}","exporter":"pyprof-agent","name":{compact(name)},'
        f'"activeProfileIndex":{shown_part(profile, columns)},'
        f'"shared":{{"frames":{frames}}},"profiles":[{profiles}]}}\n'
    ).encode()


def _profile(part: Part, stacks: Sequence[tuple[int, ...]], samples: Sequence[Sample]) -> str:
    # Largest first: in its first view speedscope keeps the order.
    rows = [(part.of(sample), stack) for sample, stack in zip(samples, stacks, strict=True)]
    rows = sorted([row for row in rows if row[0]], key=itemgetter(0), reverse=True)
    unit = _UNITS.get(part.value_type.unit, "none")
    return (
        f'{{"type":"sampled","name":{compact(part.name)},"unit":"{unit}",'
        f'"startValue":0,"endValue":{sum([value for value, _ in rows])},'
        f'"samples":{array([stack for _, stack in rows])},'
        f'"weights":{array([value for value, _ in rows])}}}'
    )


def identity(frame: Frame) -> tuple[str, str, int]:
    """What frames of one function have in common: name, file, first line."""
    return frame.function, frame.filename, frame.first_line


def _frame(name: str, file: str, line: int) -> dict[str, object]:
    known: dict[str, object] = {"name": name}
    if file:
        known["file"] = file
    if line:
        known["line"] = line
    return known
