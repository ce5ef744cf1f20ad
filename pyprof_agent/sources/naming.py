"""Frames from code objects, and from the bare (file, line) pairs that tracemalloc gives."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.machinery import SourceFileLoader
from types import CodeType, ModuleType

from pyprof_agent._native import unusable as extension_unusable
from pyprof_agent.profile import Frame
from pyprof_agent.sources.code_notes import CodeNotes
from pyprof_agent.sources.source_lines import SourceLines, namespace

if not extension_unusable():
    from pyprof_agent._native import core

MAX_FRAMES_REMEMBERED = 50_000
"""Past this many the cache starts afresh: generated code has no end of lines."""

MAX_CODES_REMEMBERED = 20_000
"""The same for code objects that Python looks up."""

MAX_PATHS_REMEMBERED = 1_000
"""Files whose module's name is remembered, beside those of the modules that are imported."""

CODE_BYTES = 500
"""Memory of the table of a code object's frames, for five instructions."""

TRUNCATED = Frame("<deeper frames cut off>", "", 0, 0)
"""Root of the stacks that were deeper than `max_frames`."""


class FrameNames:
    """Turns code positions into frames and remembers them. Shared by all engines.

    Threads may call it at the same time: what two of them write for a key is equal.
    """

    def __init__(self) -> None:
        try:
            self._directory = os.getcwd()
        except OSError:  # it has been removed
            self._directory = ""
        self._frames: dict[tuple[str, str, int, int], Frame] = {}
        self._codes: CodeNotes[dict[int, Frame]] = CodeNotes(MAX_CODES_REMEMBERED)
        self._lines: dict[tuple[str, int], Frame] = {}
        self._modules: dict[str, str] = {}
        self._modules_seen = 0
        self._modules_room = MAX_PATHS_REMEMBERED
        self._sources: dict[str, SourceLines] = {}
        self._since = time.time()
        self._bytes = 0  # of what `_frames` and `_lines` hold

    def of_code(self, code: CodeType, instruction: int) -> Frame:
        """The frame of `code` at the byte offset `instruction` (`frame.f_lasti`)."""
        frames = self._codes.get(code)
        if frames is None:
            self._codes.sweep()
            frames = {}
            self._codes.put(code, frames)
        frame = frames.get(instruction)
        if frame is None:
            line = _line(code, instruction)
            frame = self.of_function(code.co_qualname, code.co_filename, code.co_firstlineno, line)
            frames[instruction] = frame
        return frame

    def named(self, name: str, file: str) -> tuple[str, str]:
        """The name of a function in profiles, `module.qualname`, and the path of its file.

        name, file: `co_qualname` and `co_filename` of its code
        """
        path = self._path(file)
        return f"{self._module(path)}.{name}", path

    def of_function(self, name: str, file: str, first_line: int, line: int) -> Frame:
        """The frame of a line of a function, given as its code object has it."""
        key = (name, file, first_line, line)
        frame = self._frames.get(key)
        if frame is None:
            frame = Frame(*self.named(name, file), first_line, line)
            if len(self._frames) >= MAX_FRAMES_REMEMBERED:
                self._forget_frames()
            self._frames[key] = frame
            self._bytes += _bytes_of(key, frame)
        return frame

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
            source = self._sources.get(filename)
            if source is None:
                source = SourceLines.of_file(filename, sys.modules.get(module), self._since)
                self._sources[filename] = source
            function, first_line = source.owner(line)
            frame = Frame(f"{module}.{function}", path, first_line, line)
            if len(self._lines) >= MAX_FRAMES_REMEMBERED:
                self._forget_frames()
            self._lines[key] = frame
            self._bytes += _bytes_of(key, frame)
        return frame

    def of_lines(self, positions: Sequence[tuple[str, int]]) -> tuple[Frame, ...]:
        """`of_line` for each (file, line); what is known costs no allocation."""
        known = self._lines.get
        return tuple([known(position) or self.of_line(*position) for position in positions])

    def forget_sources(self) -> None:
        """Let go of the code that `of_line` read from files; it is read again when needed."""
        self._sources = {}

    def stats(self) -> dict[str, float]:
        """How many frames have names, and `own_bytes`: the memory of these."""
        tables = (self._frames, self._lines, self._modules)
        own_bytes = self._bytes + sum(map(sys.getsizeof, tables))
        own_bytes += self._codes.own_bytes + CODE_BYTES * len(self._codes)
        return {"frames": len(self._frames) + len(self._lines), "own_bytes": own_bytes}

    def _forget_frames(self) -> None:
        self._frames, self._lines, self._bytes = {}, {}, 0

    def known(self) -> Iterator[Frame]:
        """Every frame named so far."""
        yield from list(self._frames.values())
        yield from list(self._lines.values())

    def _path(self, filename: str) -> str:
        if filename.startswith("<") or os.path.isabs(filename):
            return filename
        return os.path.normpath(os.path.join(self._directory, filename))

    def _module(self, path: str) -> str:
        name = self._modules.get(path)
        if name is None:
            if len(sys.modules) != self._modules_seen or len(self._modules) > self._modules_room:
                self._index_modules()
            name = self._modules.get(path) or self._main(path) or _module_from_path(path)
            if not path.startswith("<"):  # there is no end of these, and their name is in them
                self._modules[path] = name
        return name

    def _main(self, path: str) -> str | None:
        # It is there before it has a file, and may have none any more when the program ends.
        main = sys.modules.get("__main__")
        file = _module_file(main)
        if file is None and isinstance(main, ModuleType):
            loader = namespace(main).get("__loader__")
            file = loader.path if isinstance(loader, SourceFileLoader) else None
        return "__main__" if file is not None and self._path(file) == path else None

    def _index_modules(self) -> None:
        # These come before what is known: a file seen while its module was being imported
        # may have been named from its path.
        names: dict[str, str] = {}
        for name, file in _module_files():
            names.setdefault(self._path(file), name)
        known = self._modules if len(self._modules) <= self._modules_room else {}
        self._modules = {**known, **names}
        self._modules_seen = len(sys.modules)
        self._modules_room = len(names) + MAX_PATHS_REMEMBERED


def _bytes_of(key: tuple[object, ...], frame: Frame) -> int:
    """Numbers, key and frame have in common; so have all frames of a file its name."""
    return sum(map(sys.getsizeof, (key, frame, frame.function, frame.first_line, frame.line)))


def _module_files() -> list[tuple[str, str]]:
    """Names and files of all modules."""
    if not extension_unusable() and type(sys.modules) is dict:
        return core.module_files(sys.modules)
    files = [(name, _module_file(module)) for name, module in list(sys.modules.items())]
    return [(name, file) for name, file in files if file is not None]


def _module_file(module: object) -> str | None:
    if not isinstance(module, ModuleType):
        return None
    file = namespace(module).get("__file__")
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
