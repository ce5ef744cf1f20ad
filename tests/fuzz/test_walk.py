"""The walk of a thread's frames over memory that holds anything: `make fuzz`, for a moment."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from pyprof_agent.sources import stacks_native
from tests.fuzz import record
from tests.fuzz.build import (
    SANITIZE,
    compile_fuzzer,
    corpus,
    unpack_recordings,
)
from tests.fuzz.threads import THREADS
from tests.support import compile_c

pytestmark = pytest.mark.skipif(
    bool(stacks_native.unusable()), reason=stacks_native.unusable() or "-"
)

INPUTS = 20_000


def has_sanitizers(folder: Path) -> bool:
    """Return whether the compiler can link the sanitizers; some systems package them apart."""
    source = folder / "nothing.c"
    source.write_text("int main(void) { return 0; }\n")
    try:
        compile_c(folder / "nothing", source, flags=SANITIZE)
    except AssertionError:
        return False
    return True


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The program, under sanitizers if there are any, and the recordings."""
    folder = tmp_path_factory.mktemp("fuzz")
    flags = SANITIZE if has_sanitizers(folder) else ()
    return compile_fuzzer(folder / "fuzz", [*flags, "-DALONE"]), unpack_recordings(folder)


def run(fuzzer: tuple[Path, Path], inputs: int) -> tuple[str, str, int]:
    """Its first two lines, and how many functions were named."""
    program, recordings = fuzzer
    words = [program, recordings, corpus(), 60, inputs, 1]
    result = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=110, check=False
    )
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    first, second, *_, last = result.stdout.splitlines()
    return first, second, int(last.split()[0])


@pytest.mark.thorough
def test_no_memory_makes_the_walk_fail(fuzzer: tuple[Path, Path]) -> None:
    first, second, named = run(fuzzer, INPUTS)
    kept = len(corpus().read_text().split())
    assert first == (
        f"{INPUTS} inputs of {first.split()[3]} recordings, and {kept} of the corpus: no report"
    )
    assert kept > 100
    # Some of it is refused, some is not, and some has more frames than there is room for.
    ends = re.findall(r"(\d+)(?: walks whole| of them| torn| gone)", second)
    whole, cut, torn, gone = map(int, ends)
    assert min(whole, cut, torn, gone) > 10, second
    assert named > 1000


def test_there_are_recordings_of_every_kind_of_thread(fuzzer: tuple[Path, Path]) -> None:
    # The program itself has checked that a walk of a thread that waited finds what was found then.
    first, *_ = run(fuzzer, 0)
    assert int(first.split()[3]) >= 2 * len(THREADS)


@pytest.mark.thorough
def test_a_recording_made_now_reads_as_it_did(fuzzer: tuple[Path, Path], tmp_path: Path) -> None:
    made = tmp_path / "made.bin"
    made.write_bytes(record.record())
    assert run((fuzzer[0], made), 1000)[0].startswith("1000 inputs")
