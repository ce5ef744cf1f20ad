"""Frames from code objects, and from the bare (file, line) pairs that tracemalloc gives."""

from __future__ import annotations

import bisect
import contextlib
import linecache
import os
import sys
import time
from array import array
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from pyprof_agent.profile import Frame

MAX_FRAMES_REMEMBERED = 200_000
"""Past this many the cache starts afresh: generated code has no end of lines."""

TRUNCATED = Frame("<deeper frames cut off>", "", 0, 0)
"""Root of the stacks that were deeper than `max_frames`."""

CHANGED = "<source changed>"
"""Stands for the function where the file is no longer what was imported."""


class FrameNames:
    """Turns code positions into frames and remembers them. Shared by all engines.

    Threads may call it at the same time: what two of them write for a key is equal.
    """

    def __init__(self) -> None:
        self._directory = os.getcwd()
        self._frames: dict[tuple[int, int], tuple[CodeType, Frame]] = {}
        self._lines: dict[tuple[str, int], Frame] = {}
        self._modules: dict[str, str] = {}
        self._modules_seen = 0
        self._functions: dict[str, _Functions] = {}
        self._since = time.time()

    def of_code(self, code: CodeType, instruction: int) -> Frame:
        """The frame of `code` at the byte offset `instruction` (`frame.f_lasti`)."""
        # The code object is kept beside the frame, so that its id cannot be used again.
        key = (id(code), instruction)
        known = self._frames.get(key)
        if known is None:
            filename = self._path(code.co_filename)
            frame = Frame(
                f"{self._module(filename)}.{code.co_qualname}",
                filename,
                code.co_firstlineno,
                _line(code, instruction),
            )
            if len(self._frames) >= MAX_FRAMES_REMEMBERED:
                self._frames = {}
            self._frames[key] = known = (code, frame)
        return known[1]

    def of_line(self, filename: str, line: int) -> Frame:
        """The frame of a source line, in the innermost function whose body holds that line.

        Where a lambda or a comprehension shares its line with the function around it, the
        line is the function's: nothing tells them apart.
        """
        key = (filename, line)
        frame = self._lines.get(key)
        if frame is None:
            path = self._path(filename)
            module = self._module(path)
            functions = self._functions.get(filename)
            if functions is None:
                functions = _Functions.of_file(filename, sys.modules.get(module), self._since)
                self._functions[filename] = functions
            function, first_line = functions.at(line)
            frame = Frame(f"{module}.{function}", path, first_line, line)
            if len(self._lines) >= MAX_FRAMES_REMEMBERED:
                self._lines = {}
            self._lines[key] = frame
        return frame

    def known(self) -> Iterator[Frame]:
        """Every frame named so far, some of them twice."""
        for _, frame in list(self._frames.values()):
            yield frame
        yield from list(self._lines.values())

    def _path(self, filename: str) -> str:
        if filename.startswith("<") or os.path.isabs(filename):
            return filename
        return os.path.normpath(os.path.join(self._directory, filename))

    def _module(self, path: str) -> str:
        name = self._modules.get(path)
        if name is None:
            if len(sys.modules) != self._modules_seen:
                self._index_modules()
            name = self._modules.get(path) or _module_from_path(path)
            self._modules[path] = name
        return name

    def _index_modules(self) -> None:
        # These come before what is known: a file seen while its module was being imported
        # may have been named from its path.
        names: dict[str, str] = {}
        for name, module in list(sys.modules.items()):
            file = _module_file(module)
            if file is not None:
                names.setdefault(self._path(file), name)
        self._modules = {**self._modules, **names}
        self._modules_seen = len(sys.modules)


class _Functions:
    """Which function each line of a file belongs to."""

    def __init__(self, code: CodeType | None, unknown: str = "?") -> None:
        owners: dict[int, tuple[str, int]] = {}
        if code is not None:
            _claim_lines(code, owners)
        # Runs of lines with one owner, found by bisection: far less memory than a dict.
        self._starts = array("L")
        self._owners: list[tuple[str, int]] = []
        for line in sorted(owners):
            if not self._owners or owners[line] != self._owners[-1]:
                self._starts.append(line)
                self._owners.append(owners[line])
        self._unknown = (unknown, 0)

    @classmethod
    def of_file(cls, filename: str, module: ModuleType | None, since: float) -> _Functions:
        """From the loader of the module the file belongs to, which reads the cached bytecode.

        A file that changed after `since` (Unix time) and no longer fits the module in
        memory would give wrong names: it gives `CHANGED` instead.
        """
        code = _load_code(filename, module)
        functions = cls(code)
        with contextlib.suppress(OSError):
            changed = os.stat(filename).st_mtime > since
            if changed and module is not None and not functions.fits(module, filename):
                return cls(None, CHANGED)
        return functions

    def at(self, line: int) -> tuple[str, int]:
        """Qualified name and first line of the function that `line` belongs to."""
        index = bisect.bisect_right(self._starts, line) - 1
        return self._owners[index] if index >= 0 else self._unknown

    def fits(self, module: ModuleType, filename: str) -> bool:
        """Whether the module's functions are where this index has them."""
        known = set(self._owners)
        for value in list(_namespace(module).values()):
            if not isinstance(value, FunctionType) or value.__code__.co_filename != filename:
                continue
            code = value.__code__
            if code.co_name != "<lambda>" and (code.co_qualname, code.co_firstlineno) not in known:
                return False
        return True


def _claim_lines(code: CodeType, owners: dict[int, tuple[str, int]]) -> None:
    lines = {line for _, _, line in code.co_lines() if line}
    if code.co_name.startswith("<") and code.co_name != "<module>":
        # A lambda or a comprehension: leave to the function around it what they share.
        lines -= owners.keys()
    elif len(lines) > 1:
        # The `def` line belongs to whoever executes the definition; of the function itself
        # it holds only the prelude, which allocates nothing.
        lines.discard(code.co_firstlineno)
    owner = (code.co_qualname, code.co_firstlineno)
    for line in lines:
        owners[line] = owner
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            _claim_lines(constant, owners)


def _load_code(filename: str, module: ModuleType | None) -> CodeType | None:
    spec: Any = _namespace(module).get("__spec__") if module is not None else None
    if hasattr(getattr(spec, "loader", None), "get_code"):
        with contextlib.suppress(Exception):  # a foreign loader may raise anything
            code = spec.loader.get_code(spec.name)
            if isinstance(code, CodeType):
                return code
    source = "".join(linecache.getlines(filename))
    if source:
        with contextlib.suppress(SyntaxError, ValueError):
            return compile(source, filename, "exec", dont_inherit=True)
    return None


def _namespace(module: ModuleType) -> dict[str, object]:
    # Around the module's own __getattribute__: asking a lazily loaded module for an
    # attribute would import it.
    namespace: dict[str, object] = object.__getattribute__(module, "__dict__")
    return namespace


def _module_file(module: object) -> str | None:
    if not isinstance(module, ModuleType):
        return None
    file = _namespace(module).get("__file__")
    return file if isinstance(file, str) else None


def _module_from_path(path: str) -> str:
    """A name for code of no imported module: its place on sys.path, else the file's name."""
    if path.startswith("<frozen "):
        return path.removeprefix("<frozen ").removesuffix(">")
    if path.startswith("<"):
        return path
    stem = os.path.splitext(path)[0]
    roots = [root for root in sys.path if root and path.startswith(os.path.join(root, ""))]
    if roots:
        stem = os.path.relpath(stem, max(roots, key=len))
        return stem.replace(os.sep, ".").removesuffix(".__init__")
    return os.path.basename(stem)


def _line(code: CodeType, instruction: int) -> int:
    for start, end, line in code.co_lines():
        if start <= instruction < end:
            return line or code.co_firstlineno
    return code.co_firstlineno
