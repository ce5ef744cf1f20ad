"""The line of an instruction, as C reads it, against what CPython says."""

from __future__ import annotations

import ast
import ctypes
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType

import pytest

from tests.support import ROOT, compile_c

SHIM = """
#include "code_lines.h"

int
line_of(int first_line, int instruction, const unsigned char *table, int count, int piece)
{
    struct code_lines lines = code_lines_of(first_line, instruction);
    for (int done = 0; done < count; done += piece) {
        int length = count - done < piece ? count - done : piece;
        if (code_lines_read(&lines, table + done, (size_t)length)) {
            break;
        }
    }
    return code_lines_found(&lines);
}
"""

SHAPES = (
    """
def several_lines(a,
                  b=1):
    try:
        return [
            x
            for x in a
            if x
        ]
    except (ValueError,
            TypeError): raise
    finally:

        del b
def far():
"""
    + "\n" * 5000
    + """
    return lambda: (yield)
class Long:
    value = ["""
    + ",".join(map(str, range(3000)))
    + """]
match 1:
    case 1: pass
with open(__file__) as a, open(
    __file__
) as b: a, b
"""
)


@pytest.fixture(scope="module")
def line_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[CodeType, int, int], int]:
    folder = tmp_path_factory.mktemp("lines")
    shim = folder / "shim.c"
    shim.write_text(SHIM)
    native = ROOT / "pyprof_agent" / "_native"
    library = compile_c(
        folder / "lines.so",
        shim,
        native / "code_lines.c",
        flags=["-shared", "-fPIC", f"-I{native}", "-Wall", "-Wextra", "-Werror"],
    )
    read = ctypes.CDLL(str(library)).line_of

    def line(code: CodeType, instruction: int, piece: int = 1 << 20) -> int:
        table = code.co_linetable
        return int(read(code.co_firstlineno, instruction, table, len(table), piece))

    return line


def codes_in(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes_in(constant)


def shown(code: CodeType) -> dict[int, int]:
    """Lines by instruction; 0 for those that have none."""
    return {
        instruction: line or 0
        for start, end, line in code.co_lines()
        for instruction in range(start, end, 2)
    }


def modules() -> list[Path]:
    """Some of the standard library's, and this one."""
    library = Path(ast.__file__).parent
    return [library / name for name in ("ast.py", "typing.py", "decimal.py", "dis.py")] + [
        library / "asyncio" / "base_events.py",
        Path(__file__),
    ]


def test_every_instruction_has_the_line_that_cpython_gives_it(
    line_of: Callable[..., int],
) -> None:
    sources = [path.read_text() for path in modules()] + [SHAPES]
    seen = 0
    for source in sources:
        for code in codes_in(compile(source, "<source>", "exec")):
            lines = shown(code)
            step = max(len(lines) // 200, 1)
            for instruction in list(lines)[::step] + list(lines)[-3:]:
                assert line_of(code, instruction) == lines[instruction], (code, instruction)
                seen += 1
    assert seen > 5000


def test_it_does_not_matter_in_which_pieces_they_are_read(line_of: Callable[..., int]) -> None:
    for code in codes_in(compile(SHAPES, "<source>", "exec")):
        for instruction, line in list(shown(code).items())[:300]:
            for piece in (1, 2, 3, 7):
                assert line_of(code, instruction, piece) == line, (code, instruction, piece)


def test_an_instruction_without_a_line_has_none(line_of: Callable[..., int]) -> None:
    def function() -> None: ...

    code = function.__code__.replace(co_linetable=bytes([0xF8 | 7] * 100))
    assert line_of(code, 0) == 0
    assert line_of(code, len(code.co_code) + 10_000) == 0
    assert line_of(code.replace(co_linetable=b""), 0) == 0


def test_bytes_that_are_no_table_give_some_line_or_none(line_of: Callable[..., int]) -> None:
    dice = random.Random(1)
    for _ in range(2000):
        table = dice.randbytes(dice.randrange(200))
        code = compile("1", "", "exec").replace(co_linetable=table)
        assert line_of(code, dice.randrange(0, 2000, 2)) >= 0
