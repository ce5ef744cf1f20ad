"""The process survives any content of the memory that the sampling thread reads."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from pyprof_agent.sources import stacks_native
from tests.support import ROOT, compile_c

pytestmark = pytest.mark.skipif(
    bool(stacks_native.unusable()), reason=stacks_native.unusable() or "-"
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that changes words of memory."""
    return compile_c(
        tmp_path_factory.mktemp("poke") / "poke.so",
        Path(__file__).with_name("poke.c"),
        flags=[
            *("-shared", "-fPIC", f"-I{ROOT / 'pyprof_agent' / '_native'}"),
            *("-isystem", sysconfig.get_path("include")),
        ],
    )


def poke(library: Path, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.native.poking", library, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=ROOT,
        check=False,
    )
    assert result.returncode == 0, f"{result.returncode}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def test_no_word_of_a_thread_or_its_frames_can_make_a_walk_crash(library: Path) -> None:
    assert int(poke(library, "walk").split()[0]) > 10_000


@pytest.mark.parametrize("hz", [pytest.param(100, marks=pytest.mark.thorough), 1000])
def test_the_sampling_thread_survives_garbage_and_goes_on_sampling(library: Path, hz: int) -> None:
    output = poke(library, "hold", str(hz))
    assert output == "13 values for current_frame survived\nand it samples as before\n"


def test_other_code_may_hook_what_frees_code_objects_on_top_of_ours(library: Path) -> None:
    assert poke(library, "dealloc") == "done\n"
