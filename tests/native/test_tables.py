"""The C tables of the samplers against simple models, in a program of their own."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.support import ROOT, compile_c


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test program of the tables."""
    native = ROOT / "pyprof_agent" / "_native"
    return compile_c(
        tmp_path_factory.mktemp("tables") / "tables",
        Path(__file__).with_suffix(".c"),
        native / "live_set.c",
        native / "function_table.c",
        native / "stack_table.c",
        native / "look_back.c",
        native / "number_index.c",
        flags=[f"-I{native}", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion"],
    )


def test_the_table_of_code_objects_takes_nothing_for_one_that_is_none(tmp_path: Path) -> None:
    native = ROOT / "pyprof_agent" / "_native"
    program = compile_c(
        tmp_path / "code_table",
        Path(__file__).with_name("test_code_table.c"),
        native / "code_table.c",
        native / "number_index.c",
        native / "guarded.c",
        flags=[f"-I{native}", "-isystem", sysconfig.get_path("include"), "-Wall", "-Wextra"],
    )
    result = subprocess.run([program], capture_output=True, text=True, timeout=60, check=False)
    assert (result.stdout, result.stderr) == ("done\n", "")


def test_the_book_of_the_heap_goes_on_in_a_child_that_was_forked_in_a_change(
    tmp_path: Path,
) -> None:
    native = ROOT / "pyprof_agent" / "_native"
    names = ("live_set", "stack_table", "stack_move", "look_back", "number_index", "function_table")
    tables = [native / f"{name}.c" for name in (*names, "function_source", "code_lines")]
    program = compile_c(
        tmp_path / "fork_lock",
        Path(__file__).with_name("test_fork_lock.c"),
        *tables,
        flags=[f"-I{native}", "-isystem", sysconfig.get_path("include")],
    )
    result = subprocess.run([program], capture_output=True, text=True, timeout=60, check=False)
    assert (result.stdout, result.stderr) == ("done\n", "")


@pytest.mark.parametrize("seed", range(5))
def test_the_tables_do_as_their_models(program: Path, seed: int) -> None:
    result = subprocess.run(
        [program, str(seed)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.stdout, result.stderr) == ("done\n", "")


@pytest.fixture(scope="module")
def book_of_stacks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test program of the book of stacks; what looks at frames is left out."""
    native = ROOT / "pyprof_agent" / "_native"
    names = ("stack_table", "stack_move", "look_back", "number_index", "function_table")
    read = ("function_source", "code_lines", "code_table", "guarded")
    return compile_c(
        tmp_path_factory.mktemp("book") / "stack_book",
        Path(__file__).with_name("test_stack_book.c"),
        *[native / f"{name}.c" for name in (*names, *read)],
        flags=[
            f"-I{native}",
            "-isystem",
            sysconfig.get_path("include"),
            *("-Wall", "-Wextra", "-Wshadow", "-Wconversion"),
            *("-ffunction-sections", "-Wl,--gc-sections"),
        ],
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_book_of_stacks_loses_nothing_while_threads_come_and_room_is_made(
    book_of_stacks: Path, seed: int
) -> None:
    result = subprocess.run(
        [book_of_stacks, str(seed)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.stdout, result.stderr) == ("done\n", "")
