"""Frames from code objects, and from the bare (file, line) pairs that tracemalloc gives."""

from __future__ import annotations

import contextlib
import linecache
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from types import CodeType, FrameType, FunctionType, ModuleType
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

    def forget_sources(self) -> None:
        """Let go of the code that `of_line` read from files; it is read again when needed."""
        self._functions = {}

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
        self._code = code
        self._unknown = (unknown, 0)

    @classmethod
    def of_file(cls, filename: str, module: ModuleType | None, since: float) -> _Functions:
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

    def at(self, line: int) -> tuple[str, int]:
        """Qualified name and first line of the function that `line` belongs to."""
        owner = _owner(self._code, line) if self._code is not None else None
        return (owner.co_qualname, owner.co_firstlineno) if owner is not None else self._unknown


def _owner(code: CodeType, line: int) -> CodeType | None:
    """The innermost code object in `code` whose body holds `line`."""
    children = [child for child in _children(code) if child.co_firstlineno <= line]
    # Bodies side by side do not overlap: only the functions that begin last can hold the line.
    # Lambdas and comprehensions may begin later, among the decorators and defaults of one.
    begin = max((child.co_firstlineno for child in children if child.co_name[0] != "<"), default=0)
    for child in reversed(children):
        may_hold = child.co_name[0] == "<" or child.co_firstlineno == begin
        owner = _owner(child, line) if may_hold else None
        if owner is None or (owner is child and _only_defines(child, line)):
            continue
        # A lambda or a comprehension leaves to the function around it what they share.
        shared = child.co_name[0] == "<" and _holds(code, line)
        return code if shared else owner
    return code if _holds(code, line) else None


def _only_defines(code: CodeType, line: int) -> bool:
    """Whether `line` is the `def` line and more lines follow.

    It belongs to whoever executes the definition: of the function itself it holds only the
    prelude, which allocates nothing.
    """
    return (
        line == code.co_firstlineno
        and code.co_name[0] != "<"
        and any(other not in (line, None) for _, _, other in code.co_lines())
    )


def _holds(code: CodeType, line: int) -> bool:
    return any(other == line for _, _, other in code.co_lines())


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
        for function in _live_functions(_namespace(module), module.__name__)
        if function.co_filename == filename
    )


def _live_functions(namespace: Mapping[str, object], module: str) -> Iterator[CodeType]:
    """The code of the functions in a module, and of the methods of the classes it defines."""
    values = list(namespace.values())
    seen = set()
    while values:
        value = values.pop()
        function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if isinstance(function, FunctionType):
            yield function.__code__
        elif isinstance(value, type) and id(value) not in seen:
            seen.add(id(value))
            if value.__dict__.get("__module__") == module:
                values.extend(value.__dict__.values())


def _load_code(filename: str, module: ModuleType | None) -> CodeType | None:
    spec: Any = _namespace(module).get("__spec__") if module is not None else None
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
        with contextlib.suppress(SyntaxError, ValueError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the program has seen them
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
