"""How a profile is made of a source, and of a stretch of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from pyprof_agent import forks
from pyprof_agent.engines import Source, StackSource
from pyprof_agent.errors import CaptureError, NotRunningError
from pyprof_agent.profile import Profile, ValueType, rounded, subtract
from pyprof_agent.sources import stack_counters


@dataclass(frozen=True, slots=True)
class Kind:
    """How a profile is made: a snapshot, what two of them differ in, and what is made of that."""

    source: Source
    sample_types: tuple[ValueType, ...]
    snapshot: Callable[[], Profile]
    finish: Callable[[Profile], Profile] = lambda profile: profile
    subtract: Callable[[Profile, Profile], Profile] = subtract
    past: Callable[[float], Profile] | None = None
    has_windows: bool = True


def stack_kinds(stacks: StackSource) -> dict[str, Kind]:
    """The profiles that are made of a stack engine, by their names."""
    cpu = partial(stack_counters.cpu_profile, exact_hits=stacks.exact_hits)
    profile = Kind(
        stacks, stack_counters.CPU_TYPES, stacks.snapshot, cpu, stacks.window, stacks.past
    )
    wall = replace(
        profile, sample_types=stack_counters.WALL_TYPES, finish=stack_counters.wall_profile
    )
    return {"profile": profile, "wall": wall}


class Window:
    """A stretch of time that a profile is made of; from `Agent.begin`."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._generation = kind.source.generation  # before the snapshot: it can only be too old
        self._earlier = kind.snapshot()

    def end(self) -> Profile:
        """The profile from the beginning of the window to now. May be called again.

        Raises NotRunningError, also if the agent was stopped and started meanwhile, and for
        stacks in a child that was forked meanwhile; or CaptureError.
        """
        if lost := forks.notice():
            raise NotRunningError(lost)
        later = self._kind.snapshot()
        if self._kind.source.generation != self._generation:
            raise NotRunningError(
                "counting began anew in the middle of this window: the agent was restarted, or "
                "this is a forked child; begin another window"
            )
        return rounded(self._kind.finish(self._kind.subtract(later, self._earlier)))


def look_back(kind: Kind, name: str, seconds: float) -> Profile:
    """The profile of the last so many seconds.

    Raises CaptureError where the source does not keep what was, or NotRunningError.
    """
    if kind.past is None:
        raise CaptureError(
            f"{name} cannot look back; heap, allocs, profile and wall can, with the native engines"
        )
    earlier = kind.past(seconds)
    return rounded(kind.finish(kind.subtract(kind.snapshot(), earlier)))


def check_seconds(seconds: float) -> None:
    """Raises ValueError for what is no length of a window."""
    if not seconds > 0:
        raise ValueError(f"seconds is {seconds!r}; use a positive number")


def check_last(seconds: float, longest: float) -> None:
    """Raises ValueError for what is no time to look back for."""
    if not 0 < seconds <= longest:
        raise ValueError(
            f"last is {seconds!r}; use a positive number up to look_back, which is {longest}"
        )
