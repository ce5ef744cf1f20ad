"""Which column of a profile is shown, and as what, where a picture has no room for all of them."""

from __future__ import annotations

from dataclasses import dataclass

from pyprof_agent.profile import Profile, Sample, ValueType


def shown(profile: Profile) -> int:
    """Index of the column that is shown first: the default one, and without that the last.

    Raises ProfileError if the profile has no column of its default's name.
    """
    if profile.default_sample_type:
        return profile.column(profile.default_sample_type)
    return len(profile.sample_types) - 1


@dataclass(frozen=True, slots=True)
class Part:
    """What of a column a picture can show: widths are never below 0.

    sign: 1 for what there is or has grown, -1 for what has shrunk in a window
    """

    value_type: ValueType
    column: int
    sign: int

    @property
    def name(self) -> str:
        """The sample type, and whether it is what has shrunk."""
        return self.value_type.type if self.sign > 0 else f"{self.value_type.type} (shrunk)"

    def of(self, sample: Sample) -> float:
        """The value of a sample in it, 0 or more."""
        return max(self.sign * sample.values[self.column], 0)


def parts(profile: Profile) -> tuple[Part, ...]:
    """The columns in their order, each followed by what has shrunk in it, if anything has."""
    found = []
    for column, value_type in enumerate(profile.sample_types):
        found.append(Part(value_type, column, 1))
        if any(sample.values[column] < 0 for sample in profile.samples):
            found.append(Part(value_type, column, -1))
    return tuple(found)


def shown_part(profile: Profile, among: tuple[Part, ...]) -> int:
    """Index of the part that is shown first."""
    column = shown(profile)
    return next(index for index, part in enumerate(among) if part.column == column)
