"""Which function each line of a source file belongs to: all that tracemalloc tells is a line."""

from __future__ import annotations

import bisect
import contextlib
import linecache
import os
import sys
from collections.abc import Iterator, Mapping
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

CHANGED = "<source changed>"
"""Stands for the function where the file is no longer what was imported."""

UNKNOWN = "?"
"""Stands for the function where there is no source."""


class SourceLines:
    """The functions of one file by line.

    The look-up works on code objects, each read at most once and only as far as it is asked
    for. It runs while tracemalloc traces, which makes every object it allocates dear.
    """

    def __init__(self, code: CodeType | None, unknown: str = UNKNOWN) -> None:
        self._module = code
        self._unknown = (unknown, 0)
        self._bodies: dict[int, _Body] = {}

    @classmethod
    def of_file(cls, filename: str, module: ModuleType | None, since: float) -> SourceLines:
        """From the loader of the module the file belongs to, which reads the cached bytecode.

        A file that changed after `since` (Unix time) and no longer fits the module in
        memory would give wrong names: it gives `CHANGED` instead.
        """
        code = _load_code(filename, module)
        if code is not None and module is not None:
            with contextlib.suppress(OSError):
                if os.stat(filename).st_mtime > since and not _fits(code, module, filename):
                    return cls(None, CHANGED)
        return cls(code)

    def owner(self, line: int) -> tuple[str, int]:
        """Qualified name and first line of the innermost function whose body holds `line`."""
        code = self._find(self._module, line) if self._module is not None else None
        return (code.co_qualname, code.co_firstlineno) if code is not None else self._unknown

    def _find(self, code: CodeType, line: int) -> CodeType | None:
        body = self._bodies.get(id(code))
        if body is None:
            body = self._bodies[id(code)] = _Body(code)
        # Bodies side by side do not overlap: only the functions that begin last can hold it.
        last = bisect.bisect_right(body.begins, line)
        first = bisect.bisect_left(body.begins, body.begins[last - 1]) if last else 0
        candidates = body.functions[first:last]
        if line in body.lines:
            for function in candidates:
                if function.co_firstlineno == line and _is_one_line(function):
                    return function
            # The `def` line of a longer function is its definer's: of the function itself it
            # holds the prelude only, which allocates nothing.
            return code
        for function in (*body.expressions, *reversed(candidates)):
            found = self._find(function, line)
            if found is not None:
                return found
        return None


class _Body:
    """The lines of one code object, and the code objects in it.

    lines: its own
    functions: functions and classes, by first line
    begins: the first line of each of them
    expressions: lambdas, comprehensions and the like
    """

    __slots__ = ("begins", "expressions", "functions", "lines")

    def __init__(self, code: CodeType) -> None:
        self.lines = frozenset(line for _, _, line in code.co_lines())
        self.functions: list[CodeType] = []
        self.expressions: list[CodeType] = []
        for child in _children(code):
            (self.expressions if child.co_name[0] == "<" else self.functions).append(child)
        self.functions.sort(key=_first_line)
        self.begins = [function.co_firstlineno for function in self.functions]


def _first_line(code: CodeType) -> int:
    return code.co_firstlineno


def _is_one_line(code: CodeType) -> bool:
    return all(line in (code.co_firstlineno, None) for _, _, line in code.co_lines())


def _children(code: CodeType) -> Iterator[CodeType]:
    return (constant for constant in code.co_consts if isinstance(constant, CodeType))


def _fits(code: CodeType, module: ModuleType, filename: str) -> bool:
    """Whether the functions and methods of the module in memory are all in `code`."""
    known = set()
    waiting = [code]
    while waiting:
        known_code = waiting.pop()
        known.add(known_code)
        waiting.extend(_children(known_code))
    return all(
        function in known
        for function in _live_functions(namespace(module), module.__name__)
        if function.co_filename == filename
    )


def _live_functions(held: Mapping[str, object], module: str) -> Iterator[CodeType]:
    """The code of the functions in a module, and of the methods of the classes it defines."""
    values: list[Any] = list(held.values())
    seen = set()
    while values:
        value = values.pop()
        # By type(), as isinstance() asks a lazy proxy for its __class__ and so evaluates it.
        kind = type(value)
        if kind is classmethod or kind is staticmethod:
            value = value.__func__
            kind = type(value)
        if kind is FunctionType:
            yield value.__code__
        elif issubclass(kind, type) and id(value) not in seen:
            seen.add(id(value))
            if type.__dict__["__dict__"].__get__(value).get("__module__") == module:
                values.extend(type.__dict__["__dict__"].__get__(value).values())


def _load_code(filename: str, module: ModuleType | None) -> CodeType | None:
    spec: Any = namespace(module).get("__spec__") if module is not None else None
    if hasattr(getattr(spec, "loader", None), "get_code"):
        with contextlib.suppress(Exception):  # a foreign loader may raise anything
            code = spec.loader.get_code(spec.name)
            if isinstance(code, CodeType):
                return code
    # A script has no loader. As long as it runs its code is on a stack.
    for frame in sys._current_frames().values():
        step: FrameType | None = frame
        while step is not None:
            if step.f_code.co_filename == filename and step.f_code.co_name == "<module>":
                return step.f_code
            step = step.f_back
    source = "".join(linecache.getlines(filename))
    if source:
        # This may repeat a SyntaxWarning of that file. warnings.catch_warnings() would be worse:
        # it is not safe beside other threads, and may leave the program without warnings.
        with contextlib.suppress(SyntaxError, ValueError):
            return compile(source, filename, "exec", dont_inherit=True)
    return None


def namespace(module: ModuleType) -> dict[str, object]:
    """What a module holds, without its own `__getattribute__`: that may import it, if lazy."""
    held: dict[str, object] = object.__getattribute__(module, "__dict__")
    return held
