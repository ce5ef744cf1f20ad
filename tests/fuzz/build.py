"""Building the fuzzer of the walk, and the library that records for it."""

from __future__ import annotations

import gzip
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from tests.support import ROOT, compile_c

FOLDER = Path(__file__).parent
NATIVE = ROOT / "pyprof_agent" / "_native"

INCLUDE = (f"-I{NATIVE}", "-isystem", sysconfig.get_path("include"))
_WALK = ("thread_walk", "thread_list", "code_table", "number_index")
_NAMES = ("function_source", "function_table", "code_lines")
_BOOK = ("stack_book", "stack_move", "stack_table", "look_back")
WALK = tuple(NATIVE / f"{name}.c" for name in (*_WALK, *_NAMES))
BOOK = tuple(NATIVE / f"{name}.c" for name in _BOOK)

SANITIZE = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def name_of_version() -> str:
    """As in names of files here."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def compile_library(target: Path) -> Path:
    """The recorder."""
    return compile_c(
        target, FOLDER / "record.c", *WALK, flags=["-shared", "-fPIC", "-D_GNU_SOURCE", *INCLUDE]
    )


def compile_fuzzer(target: Path, flags: Sequence[str] = SANITIZE) -> Path:
    """The fuzzer, as a program of its own unless the flags say otherwise."""
    return compile_c(target, FOLDER / "walk.c", *WALK, *BOOK, flags=[*flags, *INCLUDE])


def unpack_recordings(folder: Path) -> Path:
    """The recordings of this version, as the fuzzer reads them."""
    target = folder / "recordings.bin"
    packed = FOLDER / "recordings" / f"{name_of_version()}.bin.gz"
    target.write_bytes(gzip.decompress(packed.read_bytes()))
    return target


def corpus() -> Path:
    """The inputs that were found to lead somewhere on this version, a line of digits each."""
    return FOLDER / "corpus" / f"{name_of_version()}.txt"
