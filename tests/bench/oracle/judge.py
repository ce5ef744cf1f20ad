"""How far a profile is from the truth; pure functions."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.oracle import programs
from tests.bench.oracle.ledger import REST
from tests.bench.oracle.programs import Program

PROGRAM_FILES = "/oracle/programs/"
"""What is in the path of every file whose functions are the program's own."""

_FILE_NAMES = frozenset(path.name for path in Path(programs.__file__).parent.glob("*.py"))

STANDARD_ERRORS = 3
"""So many are told beside each share."""

POINTS = 1.0
"""How far beyond them, in percentage points, a share may be from the truth."""


@dataclass(frozen=True)
class Row:
    """A stack of a profile.

    chain: the program's own functions in it, outermost first; empty if there are none
    leaf: its innermost function, whosever it is
    samples: how often it was seen
    weight: seconds, or what else the profile is of
    """

    chain: tuple[str, ...]
    leaf: str
    samples: float
    weight: float


@dataclass(frozen=True)
class Share:
    """A branch's share of the program's time, from 0 to 1.

    width: so many standard errors of `seen`, if each sample were a throw of a dice; infinite
        for a profiler that counts no samples
    """

    branch: str
    true: float
    seen: float
    width: float

    @property
    def sampled(self) -> bool:
        """Whether it is an estimate from samples."""
        return math.isfinite(self.width)

    @property
    def error(self) -> float:
        """In percentage points."""
        return 100 * (self.seen - self.true)

    @property
    def chance(self) -> float:
        """The part of the error that may be chance, in percentage points; 0 where none is."""
        return 100 * self.width if self.sampled else 0.0

    @property
    def wrong(self) -> bool:
        """Whether it is farther from the truth than chance and `POINTS` explain."""
        return abs(self.error) > self.chance + POINTS


@dataclass(frozen=True)
class Verdict:
    """What is to be said of a profile.

    samples: how often a stack of the program was seen
    shares: by branch; empty if none was seen
    impossible: how many of the samples are of stacks that the program cannot have
    examples: some of these stacks
    elsewhere: the share of the whole profile that is in no stack of the program, from 0 to 1
    total: the sum of the whole profile
    """

    samples: float
    shares: tuple[Share, ...]
    impossible: float
    examples: tuple[str, ...]
    elsewhere: float
    total: float

    @property
    def worst(self) -> Share | None:
        """The share that is farthest beyond its chance if any is wrong, else that with the largest
        error: a large error of few samples must not hide a small one of many."""
        wrong = [share for share in self.shares if share.wrong]
        if wrong:
            return max(wrong, key=lambda share: abs(share.error) - share.chance)
        return max(self.shares, key=lambda share: abs(share.error), default=None)

    @property
    def impossible_share(self) -> float:
        """Of the samples, from 0 to 1."""
        return self.impossible / self.samples if self.samples else 0.0


def row(frames: Sequence[tuple[str, str]], samples: float, weight: float) -> Row:
    """A row from (function, file name), outermost first; functions may be qualified."""
    own = [plain(function) for function, file in frames if is_own(file)]
    return Row(tuple(own), frames[-1][0] if frames else "", samples, weight)


def is_own(file: str) -> bool:
    """Whether a file is a program's. Some profilers tell no more than its base name."""
    return PROGRAM_FILES in file or file in _FILE_NAMES


def plain(function: str) -> str:
    """The name of a function without module, class and the function around it."""
    return function.rpartition(".")[2]


def judge(program: Program, true_seconds: Mapping[str, float], rows: Iterable[Row]) -> Verdict:
    """Compare a profile with the truth.

    true_seconds: by branch, of whatever the profile is of: CPU or wall time
    """
    seen: dict[str, float] = {}
    impossible: dict[str, float] = {}
    allowed = re.compile(program.chains)
    total = samples = 0.0
    for found in rows:
        total += found.weight
        if not found.chain:
            continue
        samples += found.samples
        branch = branch_of(program, found.chain)
        seen[branch] = seen.get(branch, 0) + found.weight
        text = "".join(f"{function} " for function in found.chain)
        if not allowed.fullmatch(text):
            impossible[text] = impossible.get(text, 0) + found.samples
    billed = sum(seen.values())
    return Verdict(
        samples=samples,
        shares=_shares(true_seconds, seen, samples) if billed > 0 else (),
        impossible=sum(impossible.values()),
        examples=tuple(sorted(impossible, key=lambda text: -impossible[text])[:5]),
        elsewhere=1 - billed / total if total else 0.0,
        total=total,
    )


def branch_of(program: Program, chain: Sequence[str]) -> str:
    """The branch that a stack is billed to: the innermost there is."""
    return next((name for name in reversed(chain) if name in program.branches), REST)


def _shares(
    true: Mapping[str, float], seen: Mapping[str, float], samples: float
) -> tuple[Share, ...]:
    whole, billed = sum(true.values()), sum(seen.values())
    return tuple(
        Share(
            branch,
            part := true.get(branch, 0) / whole,
            seen.get(branch, 0) / billed,
            STANDARD_ERRORS * standard_error(part, samples),
        )
        for branch in sorted(true.keys() | seen.keys())
    )


def standard_error(share: float, samples: float) -> float:
    """Of a share that is estimated from so many independent samples (binomial)."""
    inside = min(max(share, 0.0), 1.0)
    return math.sqrt(inside * (1 - inside) / samples) if samples else math.inf


def surprise(seen: float, true: float, samples: float, bias: float = 0.0) -> float:
    """How little chance explains a share: it is as far off at most once in e ** surprise.

    The bound of Chernoff for `samples` independent ones, on the side on which `seen` is. It
    holds for rare things too, where a number of standard errors does not.

    bias: an error that is allowed besides, from 0 to 1
    """
    low, high = max(true - bias, 0.0), min(true + bias, 1.0)
    expected = min(max(seen, low), high)
    return samples * (_divergence(seen, expected) + _divergence(1 - seen, 1 - expected))


def _divergence(seen: float, expected: float) -> float:
    if seen <= 0:
        return 0.0
    return seen * math.log(seen / expected) if expected > 0 else math.inf


def slowdown(
    on: tuple[Mapping[str, float], Mapping[str, float]],
    off: tuple[Mapping[str, float], Mapping[str, float]],
) -> float:
    """How much CPU time the same work takes, as a ratio: 1.00 is as much as without a profiler.

    on, off: seconds and units of work by branch; each branch counts for the time that it took
    with the profiler off
    """
    (on_seconds, on_units), (off_seconds, off_units) = on, off
    both = [branch for branch in off_units if off_units[branch] and on_units.get(branch)]
    before = sum(off_seconds[branch] for branch in both)
    after = sum(on_seconds[branch] / on_units[branch] * off_units[branch] for branch in both)
    return after / before if before else math.nan
