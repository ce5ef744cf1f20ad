"""Names of frames: from code objects, and from the bare lines that tracemalloc gives."""

from __future__ import annotations

import dis
import importlib
import importlib._bootstrap
import importlib._bootstrap_external
import importlib.machinery
import importlib.util
import math
import os
import py_compile
import re
import subprocess
import sys
import textwrap
import time
import types
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

import pytest

from pyprof_agent.profile import Frame
from pyprof_agent.sources import naming
from pyprof_agent.sources.naming import FrameNames
from pyprof_agent.sources.source_lines import CHANGED
from tests.support import run_python

THIS_MODULE = __name__
THIS_FILE = __file__

Importer = Callable[..., ModuleType]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on sys.path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture
def load(folder: Path) -> Iterator[Importer]:
    """Writes a module into the folder and imports it."""
    before = set(sys.modules)

    def load(source: str, name: str = "shop") -> ModuleType:
        path = folder.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield load
    for name in set(sys.modules) - before:
        del sys.modules[name]


def file_of(module: ModuleType) -> str:
    assert module.__file__ is not None
    return module.__file__


def code_objects(code: CodeType) -> Iterator[CodeType]:
    """A code object and all inside it, in the order of their lines."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from code_objects(constant)


def code_named(name: str, code: CodeType, before: float = math.inf) -> CodeType:
    """The last code object of that qualified name that begins before a line."""
    return [
        found
        for found in code_objects(code)
        if found.co_qualname == name and found.co_firstlineno <= before
    ][-1]


# From code objects


def here() -> FrameType:
    """The caller's frame."""
    return sys._getframe(1)


class Shelf:
    """Something with methods."""

    @classmethod
    def of_class(cls) -> FrameType:
        return here()

    @staticmethod
    def static() -> FrameType:
        return here()

    def method(self) -> FrameType:
        def nested() -> FrameType:
            return here()

        return nested()


def generator() -> Iterator[FrameType]:
    yield here()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (Shelf.of_class, "Shelf.of_class"),
        (Shelf.static, "Shelf.static"),
        (Shelf().method, "Shelf.method.<locals>.nested"),
        (lambda: here(), "<lambda>"),
        (lambda: next(generator()), "generator"),
        (lambda: next(here() for _ in "x"), "<lambda>.<locals>.<genexpr>"),
    ],
)
def test_of_code_gives_module_and_qualified_name(make: Callable[[], FrameType], name: str) -> None:
    frame = make()
    named = FrameNames().of_code(frame.f_code, frame.f_lasti)
    assert named == Frame(
        f"{THIS_MODULE}.{name}", THIS_FILE, frame.f_code.co_firstlineno, frame.f_lineno
    )


def test_of_code_gives_the_line_of_the_instruction() -> None:
    frames = []

    def busy() -> None:
        frames.append((sys._getframe(), sys._getframe().f_lasti, sys._getframe().f_lineno))
        frames.append(
            (
                sys._getframe(),
                sys._getframe().f_lasti,
                sys._getframe().f_lineno,
            )
        )

    busy()
    names = FrameNames()
    lines = [names.of_code(frame.f_code, instruction).line for frame, instruction, _ in frames]
    first = busy.__code__.co_firstlineno
    assert lines == [first + 1, first + 5]


def test_of_code_agrees_with_dis_on_every_instruction() -> None:
    code = textwrap.dedent.__code__
    names = FrameNames()
    lines = {
        step.offset: step.positions.lineno
        for step in dis.get_instructions(code)
        if step.positions is not None and step.positions.lineno
    }
    assert len(set(lines.values())) > 10
    assert {at: names.of_code(code, at).line for at in lines} == lines


def test_of_code_before_the_first_instruction_gives_the_first_line() -> None:
    code = Shelf.method.__code__
    assert FrameNames().of_code(code, -1).line == code.co_firstlineno


def test_executed_text_keeps_the_name_of_its_source() -> None:
    namespace: dict[str, Any] = {"here": here}
    exec("def add():\n    return here()\n\nfound = here()", namespace)
    names = FrameNames()
    module, function = namespace["found"], namespace["add"]()
    assert names.of_code(module.f_code, module.f_lasti) == Frame(
        "<string>.<module>", "<string>", module.f_code.co_firstlineno, 4
    )
    assert names.of_code(function.f_code, function.f_lasti) == Frame(
        "<string>.add", "<string>", 1, 2
    )


def test_relative_file_names_are_of_the_folder_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = FrameNames()
    monkeypatch.chdir("/")
    code = compile("1", os.path.join("sub", "..", "shop.py"), "exec")
    assert names.of_code(code, 0).filename == str(tmp_path / "shop.py")
    assert names.of_line("other.py", 1).filename == str(tmp_path / "other.py")


def test_modules_of_a_package_have_the_name_they_were_imported_by(
    folder: Path, load: Importer
) -> None:
    (folder / "warehouse").mkdir()
    (folder / "warehouse" / "__init__.py").write_text("def add(): pass\n")
    shelf = load("def add(): pass", "warehouse.shelf")
    names = FrameNames()
    package = sys.modules["warehouse"]
    assert names.of_code(shelf.add.__code__, 0).function == "warehouse.shelf.add"
    assert names.of_code(package.add.__code__, 0).function == "warehouse.add"


def test_code_of_no_module_is_named_by_its_place_on_the_path(folder: Path) -> None:
    names = FrameNames()
    expected = {
        folder / "tools" / "clean.py": "tools.clean.<module>",
        folder / "tools" / "__init__.py": "tools.<module>",
        Path("/nowhere/on/the/path/script.py"): "script.<module>",
    }
    for path, name in expected.items():
        assert names.of_code(compile("1", str(path), "exec"), 0).function == name


def import_as(name: str, path: Path) -> None:
    """Import a file under a name that its path does not tell."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def test_a_module_imported_later_is_found(folder: Path, load: Importer) -> None:
    names = FrameNames()
    names.of_code(Shelf.method.__code__, 0)
    path = folder / "plugin.py"
    path.write_text("def add(): pass\n")
    import_as("plugins.registered", path)
    assert names.of_line(str(path), 1).function == "plugins.registered.add"


def test_a_module_first_seen_before_it_was_imported_gets_its_name_later(
    folder: Path, load: Importer
) -> None:
    names = FrameNames()
    path = folder / "plugin.py"
    path.write_text("def add(): pass\n")
    assert names.of_line(str(path), 1).function == "plugin.add"
    import_as("plugins.registered", path)
    names.of_line(str(folder / "other.py"), 1)  # the next unknown file makes it look again
    code = compile("1", str(path), "exec")
    assert names.of_code(code, 0).function == "plugins.registered.<module>"


def test_the_script_is_called_main(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            from pyprof_agent.sources.naming import FrameNames

            def work():
                return [1]

            print(FrameNames().of_code(work.__code__, 0))
            print(FrameNames().of_line(__file__, 5))
            """
        )
    )
    code = "import runpy, sys; runpy.run_path(sys.argv[1], None, '__main__')"
    output = run_python(code, str(script))
    assert output.stdout.splitlines() == [
        str(Frame("__main__.work", str(script), 4, 4)),
        str(Frame("__main__.work", str(script), 4, 5)),
    ]


def test_equal_code_at_a_reused_address_is_not_confused() -> None:
    # Code objects that come and go get the same id again.
    names = FrameNames()
    for number in range(50):
        code = compile(f"def f{number}(): pass", "<string>", "exec")
        function = code_named(f"f{number}", code)
        assert names.of_code(function, 0).function == f"<string>.f{number}"
        del code, function


# From lines

SOURCE = '''
import functools

def same(*_, **__):
    return lambda function: function

def plain(
    first,
    second=[1],                    # default argument
):
    """Text."""
    found = [first]                # plain

    # a comment
    return found                   # end of plain

def outer():
    before = []                    # before nested
    def nested(key):
        return [before]            # nested
    after = [nested]               # after nested
    return after

class Shelf:
    size = [10]                    # class body

    def add(self):
        return [self]              # method

    @property
    def full(self):
        return [self]              # property

    class Inner:
        depth = [1]                # nested class

        def deep(self):
            return [self]          # method of nested class

    after = [2]                    # class body again

def one_line(): return [1]         # one-line def

@same([1])                         # decorator
def decorated():
    return [1]                     # decorated

@same("first")
@same(key=lambda row: [row])
def decorated_with_lambda(
    value,
):
    return [value]                 # decorated with lambda

def lambda_default(
    value,
    key=lambda row: row,
    more=[n for n in "ab"],
):
    return [value]                 # lambda as default

def comprehending(rows):
    return [                       # comprehension begins
        (row,                      # comprehension body
         row)
        for row in rows
    ]

def squares(rows):
    return [row * row for row in rows]     # comprehension on the line

key = lambda row: [row]            # lambda on the line
longer = (
    lambda row:
        [row]                      # lambda of its own
)

def generating():
    yield [1]                      # generator

async def waiting():
    return [1]                     # coroutine

table = {                          # module level
    "a": [1],                      # inside an expression of the module
}

if table:
    def conditional():
        return [1]                 # conditional

async def last():
    try:
        return [1]
    finally:
        table.clear()              # finally
'''

COMPREHENSION = (
    "comprehending" if sys.version_info >= (3, 12) else "comprehending.<locals>.<listcomp>"
)
"""From 3.12 on they are part of the function around them (PEP 709)."""

OWNERS = {
    "default argument": "<module>",
    "plain": "plain",
    "end of plain": "plain",
    "before nested": "outer",
    "nested": "outer.<locals>.nested",
    "after nested": "outer",
    "class body": "Shelf",
    "method": "Shelf.add",
    "property": "Shelf.full",
    "nested class": "Shelf.Inner",
    "method of nested class": "Shelf.Inner.deep",
    "class body again": "Shelf",
    "one-line def": "one_line",
    "decorator": "<module>",
    "decorated": "decorated",
    "decorated with lambda": "decorated_with_lambda",
    "lambda as default": "lambda_default",
    "comprehension begins": "comprehending",
    "comprehension body": COMPREHENSION,
    "comprehension on the line": "squares",
    "lambda on the line": "<module>",
    "lambda of its own": "<lambda>",
    "generator": "generating",
    "coroutine": "waiting",
    "module level": "<module>",
    "inside an expression of the module": "<module>",
    "conditional": "conditional",
    "finally": "last",
}


def line_of(mark: str, source: str = SOURCE) -> int:
    (line,) = (
        number for number, text in enumerate(source.splitlines(), 1) if text.endswith(f"# {mark}")
    )
    return line


def first_line_of(name: str, line: int) -> int:
    return code_named(name, compile(SOURCE, "shop.py", "exec"), before=line).co_firstlineno


def test_every_mark_of_the_source_has_an_owner() -> None:
    marks = re.findall(r"\S +# (.*)$", SOURCE, re.MULTILINE)
    assert set(marks) == set(OWNERS)


@pytest.mark.parametrize(("mark", "owner"), OWNERS.items())
def test_of_line_gives_the_function_that_owns_a_line(load: Importer, mark: str, owner: str) -> None:
    module = load(SOURCE)
    line = line_of(mark)
    assert FrameNames().of_line(file_of(module), line) == Frame(
        f"shop.{owner}", file_of(module), first_line_of(owner, line), line
    )


def executed(work: Callable[[], object], filename: str) -> set[tuple[str, int]]:
    """The qualified names and lines of a file that Python goes through."""
    seen = set()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename != filename:
            return None
        if event == "line":
            seen.add((frame.f_code.co_qualname, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return seen


def test_of_line_agrees_with_what_python_executes() -> None:
    # A module of the standard library as it comes: classes, decorators, nested functions.
    import dataclasses

    def work() -> None:
        row = dataclasses.make_dataclass("Row", ["a", ("b", int, dataclasses.field(default=1))])
        dataclasses.asdict(dataclasses.replace(row(1), b=2))

    filename = file_of(dataclasses)
    seen = executed(work, filename)
    assert len(seen) > 100
    names = FrameNames()
    for name, line in seen:
        if "<" not in name.replace("<locals>", ""):
            assert names.of_line(filename, line).function == f"dataclasses.{name}"


def line_in(code: CodeType) -> int:
    """A line of a function that is not its first."""
    return max(line for _, _, line in code.co_lines() if line)


@pytest.mark.parametrize(
    ("module", "function"),
    [
        (importlib._bootstrap, "_find_and_load"),
        (importlib._bootstrap_external, "cache_from_source"),
    ],
)
def test_of_line_names_functions_of_frozen_modules(module: ModuleType, function: str) -> None:
    code = getattr(module, function).__code__
    assert code.co_filename.startswith("<frozen ")
    assert FrameNames().of_line(code.co_filename, line_in(code)) == Frame(
        f"{module.__name__}.{function}",
        code.co_filename,
        code.co_firstlineno,
        line_in(code),
    )


def test_of_line_names_functions_of_modules_in_a_zip_file(
    folder: Path, load: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(folder / "lib.zip", "w") as archive:
        archive.writestr("zipped_shop.py", "def first():\n    pass\n\ndef add():\n    return [1]\n")
    monkeypatch.syspath_prepend(str(folder / "lib.zip"))
    module = importlib.import_module("zipped_shop")
    filename = module.add.__code__.co_filename
    assert not os.path.exists(filename)
    assert FrameNames().of_line(filename, 5) == Frame("zipped_shop.add", filename, 4, 5)


def test_of_line_names_functions_of_a_module_without_source(folder: Path, load: Importer) -> None:
    source = folder / "bare_shop.py"
    source.write_text("def first():\n    pass\n\ndef add():\n    return [1]\n")
    py_compile.compile(str(source), cfile=str(folder / "bare_shop.pyc"), doraise=True)
    source.unlink()
    importlib.invalidate_caches()
    module = importlib.import_module("bare_shop")
    assert file_of(module).endswith(".pyc")
    filename = module.add.__code__.co_filename
    assert FrameNames().of_line(filename, 5) == Frame("bare_shop.add", filename, 4, 5)


def test_of_line_reads_a_file_that_is_no_module(folder: Path) -> None:
    path = folder / "script.py"
    path.write_text("def add():\n    return [1]\n")
    assert FrameNames().of_line(str(path), 2) == Frame("script.add", str(path), 1, 2)


@pytest.mark.parametrize("filename", ["/no/such/folder/gone.py", "<generated>"])
def test_of_line_of_what_cannot_be_read_has_no_function(filename: str) -> None:
    module = "gone" if filename.endswith(".py") else filename
    assert FrameNames().of_line(filename, 7) == Frame(f"{module}.?", filename, 0, 7)


def test_of_line_of_a_file_that_is_no_python_has_no_function(folder: Path) -> None:
    path = folder / "page.tpl"
    path.write_text("<h1>{{ title }}</h1>\n")
    assert FrameNames().of_line(str(path), 1).function == "page.?"


# A source that changed


def change(module: ModuleType, source: str) -> None:
    """Replace the source of an imported module, at a time after all that went before."""
    path = Path(file_of(module))
    path.write_text(textwrap.dedent(source))
    later = time.time() + 100
    os.utime(path, (later, later))


FUNCTIONS = """\
def first():
    return [1]

def second():
    return [2]
"""


@pytest.mark.parametrize(
    "changed",
    [
        "import os\nimport sys\n\n" + FUNCTIONS,
        "def second():\n    return [2]\n",
        FUNCTIONS.replace("second", "third"),
        "",
    ],
    ids=["moved", "removed", "renamed", "empty"],
)
def test_a_module_whose_functions_moved_gets_no_wrong_name(load: Importer, changed: str) -> None:
    module = load(FUNCTIONS)
    names = FrameNames()
    change(module, changed)
    assert names.of_line(file_of(module), 5) == Frame(f"shop.{CHANGED}", file_of(module), 0, 5)


def test_a_half_written_source_gets_no_wrong_name(load: Importer) -> None:
    module = load(FUNCTIONS)
    names = FrameNames()
    change(module, "def first(:\n")
    function = names.of_line(file_of(module), 5).function
    assert function in (f"shop.{CHANGED}", "shop.?")


def test_methods_that_moved_get_no_wrong_name(load: Importer) -> None:
    module = load("class Shelf:\n    def add(self):\n        return [1]\n")
    names = FrameNames()
    change(
        module,
        """\
        class Shelf:
            def new(self):
                return [0]

            def add(self):
                return [1]
        """,
    )
    assert names.of_line(file_of(module), 3).function == f"shop.{CHANGED}"


def test_a_body_that_another_function_took_over_gets_no_wrong_name(load: Importer) -> None:
    module = load("def first():\n    a = [1]\n    b = [2]\n    return a\n\ndef second(): pass\n")
    names = FrameNames()
    change(module, "def first():\n    a = [1]\ndef new():\n    return []\n\ndef second(): pass\n")
    assert names.of_line(file_of(module), 4).function in (f"shop.{CHANGED}", "shop.first")


@pytest.mark.parametrize("changed", [FUNCTIONS, FUNCTIONS + "\ndef third():\n    pass\n"])
def test_a_module_whose_functions_are_where_they_were_keeps_its_names(
    load: Importer, changed: str
) -> None:
    module = load(FUNCTIONS)
    names = FrameNames()
    change(module, changed)
    assert names.of_line(file_of(module), 5).function == "shop.second"


def test_a_source_that_is_gone_gets_no_wrong_name(load: Importer) -> None:
    module = load(FUNCTIONS)
    names = FrameNames()
    Path(file_of(module)).unlink()
    assert names.of_line(file_of(module), 5).function in ("shop.?", "shop.second")


# What is remembered


def test_a_frame_is_made_once() -> None:
    names = FrameNames()
    code = Shelf.method.__code__
    assert names.of_code(code, 0) is names.of_code(code, 0)
    assert names.of_line(THIS_FILE, 1) is names.of_line(THIS_FILE, 1)


def test_known_gives_every_frame_so_far() -> None:
    names = FrameNames()
    frames = {names.of_code(Shelf.method.__code__, 0), names.of_line(THIS_FILE, 1)}
    assert set(names.known()) == frames


def test_generated_code_without_end_does_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(naming, "MAX_FRAMES_REMEMBERED", 5)
    names = FrameNames()
    for number in range(1, 50):
        code = compile(f"def f{number}(): pass", "<template>", "exec")
        function = code_named(f"f{number}", code)
        assert names.of_code(function, 0).function == f"<template>.f{number}"
        assert names.of_line("<template>", number).line == number
        assert 2 <= len(list(names.known())) <= 2 * 5


def test_files_without_end_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naming, "MAX_PATHS_REMEMBERED", 5)
    names = FrameNames()
    names.named("f", THIS_FILE)
    size = names.stats()["own_bytes"]
    for number in range(5_000):
        assert names.named("f", f"/srv/f{number}.py") == (f"f{number}.f", f"/srv/f{number}.py")
        assert names.named("f", f"<cell {number}>") == (f"<cell {number}>.f", f"<cell {number}>")
    assert names.named("f", THIS_FILE) == (f"{__name__}.f", THIS_FILE)
    assert names.stats()["own_bytes"] <= 2 * size


# Looking changes nothing


def test_looking_does_not_import_a_lazily_loaded_module(folder: Path, load: Importer) -> None:
    load("def add():\n    return [1]\n", "other_shop")
    path = folder / "lazy_shop.py"
    path.write_text("VALUE = 1\n\ndef add():\n    return [VALUE]\n")
    spec = importlib.util.spec_from_file_location("lazy_shop", path)
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    lazy = importlib.util.module_from_spec(spec)
    sys.modules["lazy_shop"] = lazy
    spec.loader.exec_module(lazy)
    names = FrameNames()
    frames = [
        names.of_line(str(path), 4),
        names.of_line(str(folder / "other_shop.py"), 2),
        names.of_code(compile("1", str(path), "exec"), 0),
    ]
    assert type(lazy) is not types.ModuleType, "it was imported by looking"
    assert [frame.function for frame in frames] == [
        "lazy_shop.add",
        "other_shop.add",
        "lazy_shop.<module>",
    ]
    assert lazy.VALUE == 1
    assert type(lazy) is types.ModuleType


def test_strange_entries_of_sys_modules_do_no_harm(
    load: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hostile(ModuleType):
        def __getattribute__(self, name: str) -> object:
            raise RuntimeError(f"nobody asks for {name}")

    odd = ModuleType("odd")
    odd.__file__ = None
    for name, entry in {"hostile": Hostile("hostile"), "odd": odd, "number": 7}.items():
        monkeypatch.setitem(sys.modules, name, entry)
    module = load("def add(): return [1]")
    assert FrameNames().of_code(module.add.__code__, 0).function == "shop.add"


def test_naming_a_running_script_repeats_no_warning_of_the_compiler(folder: Path) -> None:
    # Python warned when it compiled the script; the host's log needs no second warning.
    path = folder / "warns.py"
    path.write_text(
        "from pyprof_agent.sources.naming import FrameNames\n"
        'def add():\n    return ["\\d"]\n'
        "print(FrameNames().of_line(__file__, 3).function)\n"
    )
    result = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True)
    assert result.stdout == "__main__.add\n"
    assert result.stderr.count("invalid escape sequence") <= 1


def test_naming_leaves_the_filters_of_warnings_alone(folder: Path) -> None:
    # catch_warnings() in one thread may undo what another one does.
    path = folder / "loaderless.py"
    path.write_text("def add():\n    return [1]\n")
    before = warnings.filters
    assert FrameNames().of_line(str(path), 2).function.endswith("add")
    assert warnings.filters is before


def test_a_main_module_that_gets_its_file_later_is_named_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = FrameNames()
    names.of_code(test_a_main_module_that_gets_its_file_later_is_named_so.__code__, 0)
    script = tmp_path / "script.py"
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(script), raising=False)
    code = compile("pass", str(script), "exec")
    assert names.of_code(code, 0).function == "__main__.<module>"


def test_a_main_module_that_has_its_file_no_more_is_known_by_its_loader(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = FrameNames()
    script = tmp_path / "script.py"
    main = sys.modules["__main__"]
    monkeypatch.delattr(main, "__file__", raising=False)
    loader = importlib.machinery.SourceFileLoader("__main__", str(script))
    monkeypatch.setattr(main, "__loader__", loader)
    code = compile("pass", str(script), "exec")
    assert names.of_code(code, 0).function == "__main__.<module>"
