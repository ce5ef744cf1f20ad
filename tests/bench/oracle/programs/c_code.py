"""Calls of C code: the first three hold the GIL, the others give it up."""

from __future__ import annotations

import hashlib
import time
import zlib

from tests.bench.oracle.ledger import Spent
from tests.bench.oracle.programs.program import TURNS, Program, take_turns

_ODD = (1 << 25_000) // 7
_NUMBERS = [number * 7919 % 10_007 for number in range(2_000)]
_LARGE = bytes(range(256)) * 1024
_TEXT = b"".join(b"%d, " % number for number in _NUMBERS)


def big_integers(units: int) -> int:
    number = _ODD
    for _ in range(units):
        number = _ODD * _ODD % (number | 1)
    return number


def sorting(units: int) -> None:
    for _ in range(units):
        sorted(_NUMBERS)


def small_hashes(units: int) -> bytes:
    digest = b""
    for _ in range(units):
        digest = hashlib.sha256(digest).digest()
    return digest


def large_hashes(units: int) -> None:
    for _ in range(units):
        hashlib.sha256(_LARGE).digest()


def compressing(units: int) -> None:
    for _ in range(units):
        zlib.compress(_TEXT)


def sleeping(units: int) -> None:
    for _ in range(units):
        time.sleep(0.001)


def c_code(until: float) -> Spent:
    """Calls of C code, some of which hold the GIL (`big_integers`, `sorting`, `small_hashes`)
    while others give it up; and `time.sleep`, which takes wall time and no CPU.
    """
    return take_turns(
        until,
        {
            big_integers: (4, 40),
            sorting: (4, 120),
            small_hashes: (4, 27_000),
            large_hashes: (4, 48),
            compressing: (4, 30),
            sleeping: (3, 6),
        },
    )


_BRANCHES = (
    "big_integers",
    "sorting",
    "small_hashes",
    "large_hashes",
    "compressing",
    "sleeping",
)

PROGRAM = Program(
    "c_code", "C code", c_code, _BRANCHES, f"c_code ({TURNS}(({'|'.join(_BRANCHES)}) )?)?"
)
