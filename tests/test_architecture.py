"""The house rules, read from the imports of the package itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.support import ROOT, run_python

PACKAGE = ROOT / "pyprof_agent"
LONGEST_MODULE = 350

# What a room may import of ours. A room is a module, or a folder with all that is in it.
BELOW_THE_AGENT = {
    "access",
    "awaited",
    "batches",
    "borrowed",
    "collector",
    "config",
    "errors",
    "fork_warning",
    "forks",
    "formats",
    "http",
    "hidden_thread",
    "leaks",
    "own_process",
    "pauses",
    "profile",
    "profile_rules",
    "sinks",
    "sources",
    "windows",
    "worker",
    "_native",
}
IMPORTS: dict[str, set[str]] = {
    "errors": set(),
    "_native": set(),
    "awaited": set(),
    "borrowed": {"_native"},
    "collector": {"_native", "pauses"},
    "pauses": {"_native"},
    "batches": {"pauses"},
    "profile": {"batches", "errors"},
    "profile_rules": {"batches", "errors", "profile"},
    "config": {"errors"},
    "access": {"config", "errors"},
    "sources": {
        "awaited",
        "batches",
        "borrowed",
        "profile",
        "errors",
        "forks",
        "hidden_thread",
        "own_process",
        "pauses",
        "_native",
    },
    "formats": {"batches", "profile", "profile_rules", "errors"},
    "forks": {"_native", "fork_warning", "hidden_thread", "pauses"},
    "fork_warning": {"own_process", "pauses"},
    "worker": {"borrowed", "errors", "hidden_thread", "own_process", "pauses"},
    "hidden_thread": {"collector", "pauses"},
    "own_process": {"_native", "hidden_thread", "pauses"},
    "files": {"hidden_thread", "config", "errors", "profile", "sinks"},
    "watch": {
        "batches",
        "config",
        "engines",
        "errors",
        "hidden_thread",
        "leaks",
        "own_process",
        "profile",
    },
    "leaks": {"batches", "profile", "errors"},
    "http": {
        "awaited",
        "collector",
        "formats",
        "forks",
        "leaks",
        "own_process",
        "pauses",
        "profile",
        "errors",
        "config",
        "access",
    },
    "sinks": {"formats", "profile", "errors", "config"},
    "engines": BELOW_THE_AGENT - {"http"},
    "windows": {"engines", "forks", "profile", "errors", "sources"},
    "thread_names": set(),
    "agent": {"engines", "files", "thread_names", "watch", "windows"} | BELOW_THE_AGENT - {"http"},
    "process": {"agent"} | BELOW_THE_AGENT - {"http"},
    "metrics": {"process", "agent", "leaks", "own_process", "errors"},
    "run": {"process", "config", "errors"},
    "doctor": {"agent", "config"},
    "pytest_plugin": {"agent", "config", "leaks"},
    "gate": {"leaks", "formats", "profile", "errors"},
    "cli": {"run", "doctor", "gate", "errors"},
    "__main__": {"cli"},
    "__init__": {"agent", "process", "windows"} | BELOW_THE_AGENT - {"http"},
    "_run": set(),
}

# What it may import besides, but only when a function is called.
DEFERRED: dict[str, set[str]] = {
    "profile": {"formats"},
    "process": {"http"},
    "_run": {"run"},
}


@dataclass(frozen=True)
class Import:
    """An import of a module, or of a name that may be one."""

    name: str
    line: int
    when: str  # "import", "call" or "type checking"


class _Imports(ast.NodeVisitor):
    def __init__(self, package: str) -> None:
        self.package = package
        self.found: list[Import] = []
        self._when = "import"

    def visit_Import(self, node: ast.Import) -> None:
        self.found += [Import(alias.name, node.lineno, self._when) for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        parts = self.package.split(".")[: -node.level + 1 or None] if node.level else []
        base = ".".join([*parts, *filter(None, [node.module])])
        for alias in node.names:
            self.found.append(Import(f"{base}.{alias.name}", node.lineno, self._when))

    def visit_If(self, node: ast.If) -> None:
        typing = ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        self._within("type checking" if typing else self._when, node.body)
        self._within(self._when, node.orelse)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._within("type checking" if self._when == "type checking" else "call", node.body)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._within("type checking" if self._when == "type checking" else "call", node.body)

    def _within(self, when: str, nodes: list[ast.stmt]) -> None:
        before, self._when = self._when, when
        for node in nodes:
            self.visit(node)
        self._when = before


@cache
def syntax(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(path: Path) -> list[Import]:
    folders = path.relative_to(ROOT).parts[:-1]
    visitor = _Imports(".".join(folders))
    visitor.visit(syntax(path))
    return visitor.found


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def room_imported(name: str) -> str | None:
    """The room of ours that an import reaches; None if it is not ours."""
    package, _, rest = name.partition(".")
    if package != "pyprof_agent":
        return None
    room = rest.partition(".")[0]
    return room if room in IMPORTS else "__init__"


def is_module(name: str, wanted: str) -> bool:
    return name == wanted or name.startswith(f"{wanted}.")


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.fixture(params=MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def module(request: pytest.FixtureRequest) -> Path:
    """Every module of the package."""
    path: Path = request.param
    return path


def test_the_reader_of_imports_sees_them_all() -> None:
    visitor = _Imports("pyprof_agent.http")
    visitor.visit(
        ast.parse(
            """
import os.path, json as j
from pyprof_agent.formats import pprof, text as t
from . import answers
from ..profile import Frame
if TYPE_CHECKING:
    import uvicorn
else:
    import asyncio
try:
    import zstandard
except ImportError:
    import zlib
class A:
    import gzip
    async def f(self):
        with x:
            from pyprof_agent.run import begin
def g():
    def h():
        import gc
"""
        )
    )
    assert [(found.name, found.when) for found in visitor.found] == [
        ("os.path", "import"),
        ("json", "import"),
        ("pyprof_agent.formats.pprof", "import"),
        ("pyprof_agent.formats.text", "import"),
        ("pyprof_agent.http.answers", "import"),
        ("pyprof_agent.profile.Frame", "import"),
        ("uvicorn", "type checking"),
        ("asyncio", "import"),
        ("zstandard", "import"),
        ("zlib", "import"),
        ("gzip", "import"),
        ("pyprof_agent.run.begin", "call"),
        ("gc", "call"),
    ]


def test_every_module_has_its_place_in_the_table(module: Path) -> None:
    assert room_of(module) in IMPORTS, f"add {room_of(module)} to the table, here and in the docs"


def test_a_room_imports_only_what_the_table_allows(module: Path) -> None:
    room = room_of(module)
    breaches = []
    for found in imports(module):
        reached = room_imported(found.name)
        allowed = IMPORTS[room] | (DEFERRED.get(room, set()) if found.when != "import" else set())
        if reached is not None and reached not in {room, *allowed}:
            breaches.append(f"line {found.line}: {found.name} (at {found.when})")
    assert breaches == []


def test_nothing_that_may_be_deferred_is_imported_by_accident() -> None:
    # The exceptions of the table are in use; one that is not should go.
    for room, deferred in DEFERRED.items():
        paths = [path for path in MODULES if room_of(path) == room]
        reached = {
            room_imported(found.name)
            for path in paths
            for found in imports(path)
            if found.when == "call"
        }
        assert deferred <= reached


def test_profile_defers_the_encoder_only() -> None:
    deferred = [found.name for found in imports(PACKAGE / "profile.py") if found.when == "call"]
    ours = {name.rpartition(".")[0] for name in deferred if room_imported(name)}
    assert ours == {"pyprof_agent.formats.pprof"}


def test_only_the_encoder_imports_the_schema() -> None:
    schema = "pyprof_agent.formats._schema"
    importers = [
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if any(is_module(found.name, schema) for found in imports(path))
    ]
    assert importers == ["formats/pprof.py"]


@pytest.mark.parametrize("library", ["starlette", "uvicorn"])
def test_only_http_imports_the_web_libraries(library: str) -> None:
    importers = {
        room_of(path)
        for path in MODULES
        for found in imports(path)
        if is_module(found.name, library) and found.when != "type checking"
    }
    assert importers == {"http"}


def test_only_metrics_imports_the_library_for_them() -> None:
    importers = [
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if any(is_module(found.name, "prometheus_client") for found in imports(path))
    ]
    assert importers == ["metrics.py"]


def environment_readers(path: Path) -> Iterator[int]:
    """The lines on which a module reaches for the environment."""
    names = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    for node in ast.walk(syntax(path)):
        match node:
            case ast.Attribute(value=ast.Name(id="os"), attr=name) if name in names:
                yield node.lineno
            case ast.ImportFrom(module="os") if names & {alias.name for alias in node.names}:
                yield node.lineno


def test_only_config_reads_the_environment() -> None:
    # The command passes it on to the program that it becomes.
    readers = {str(path.relative_to(PACKAGE)) for path in MODULES if any(environment_readers(path))}
    assert readers == {"config.py", "cli.py"}


def test_no_tuple_is_made_of_a_generator(module: Path) -> None:
    # CPython shows it to gc.get_objects() half filled, and fails to make it if a thread asks then.
    made = [
        node.lineno
        for node in ast.walk(syntax(module))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "tuple"
        and any(isinstance(argument, ast.GeneratorExp) for argument in node.args)
    ]
    assert made == [], "use tuple([...])"


def test_a_module_is_short_and_says_what_it_is_for(module: Path) -> None:
    docstring = ast.get_docstring(syntax(module))
    assert docstring, "the first line says the one job of a module"
    length = len(module.read_text().splitlines())
    assert length <= LONGEST_MODULE, f"{length} lines: too many jobs for one module"


def test_importing_the_package_starts_and_loads_nothing() -> None:
    code = """
        import random, sys, threading, tracemalloc
        before = set(sys.modules)  # random loads OpenSSL where CPython is built without its hashes
        import pyprof_agent

        assert pyprof_agent.__all__
        print(threading.active_count(), tracemalloc.is_tracing())
        others = ("asyncio", "starlette", "uvicorn", "zstandard", "prometheus_client", "_hashlib")
        print([name for name in others if name in sys.modules and name not in before])
        print(sys.getprofile(), sys.gettrace())
    """
    assert run_python(code).stdout.splitlines() == ["1 False", "[]", "None None"]


NATIVE = PACKAGE / "_native"
READERS_OF_OTHERS = ("thread_walk", "thread_list", "guarded")
"""C files that read the memory of running threads and never use an address as a number. The table
of code objects is left out: it hashes addresses."""


def c_code(name: str) -> str:
    """A file of the C part, without its comments."""
    return re.sub(r"/\*.*?\*/", "", (NATIVE / name).read_text(), flags=re.DOTALL)


def test_only_one_file_reckons_with_addresses_that_were_read() -> None:
    files = {path.name for path in NATIVE.glob("*.[ch]")}
    assert {name for name in files if re.search(r"\bunchecked\b", c_code(name))} == {"address.h"}
    numbers = {name for name in files if re.search(r"\bu?intptr_t\b", c_code(name))}
    assert not numbers & {f"{reader}.{kind}" for reader in READERS_OF_OTHERS for kind in "ch"}


def test_no_address_that_was_read_becomes_a_pointer_but_to_be_handed_on() -> None:
    uses = {
        (path.name, line.strip())
        for path in NATIVE.glob("*.[ch]")
        for line in c_code(path.name).splitlines()
        if "address_pointer(" in line
    }
    assert uses == {
        ("address.h", "address_pointer(struct address address)"),
        # To the system, which checks it:
        (
            "guarded.c",
            "from[asked] = (struct iovec){(void *)address_pointer(range->from), range->bytes};",
        ),
        # As the name of a code object, in a table:
        ("code_table.c", "const PyObject *code = address_pointer(address);"),
        # Of an object that lives, with the GIL held:
        ("function_source.c", "memcpy(to, address_pointer(from), bytes);"),
        (
            "stack_sampler.c",
            "(PyObject *)address_pointer(frame->code), frame->instruction};",
        ),
    }
