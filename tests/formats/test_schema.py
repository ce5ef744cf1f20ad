"""The embedded schema: what it says, and that it gets along with every protobuf and neighbour."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from pyprof_agent.formats._schema import FILE_DESCRIPTOR
from tests.support import ROOT, run_python

# What it says

FieldFacts = tuple[str, int, str, bool]  # name, number, type, repeated


def fields_in_text(source: str) -> dict[str, set[FieldFacts]]:
    """The messages of a .proto file, which nests nothing, by name."""
    source = re.sub(r"//.*", "", source)
    return {
        message: {
            (name, int(number), kind, bool(repeated))
            for repeated, kind, name, number in re.findall(
                r"(repeated\s+)?(\w+)\s+(\w+)\s*=\s*(\d+)\s*;", body
            )
        }
        for message, body in re.findall(r"message\s+(\w+)\s*\{([^}]*)\}", source)
    }


def fields_in_descriptor(descriptor: FileDescriptorProto) -> dict[str, set[FieldFacts]]:
    def kind(field: FieldDescriptorProto) -> str:
        if field.type == FieldDescriptorProto.TYPE_MESSAGE:
            return field.type_name.removeprefix(f".{descriptor.package}.")
        return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()

    return {
        message.name: {
            (
                field.name,
                field.number,
                kind(field),
                field.label == FieldDescriptorProto.LABEL_REPEATED,
            )
            for field in message.field
        }
        for message in descriptor.message_type
    }


def test_the_embedded_descriptor_says_what_the_proto_file_says() -> None:
    source = (ROOT / "proto" / "profile.proto").read_text()
    embedded = FileDescriptorProto.FromString(FILE_DESCRIPTOR)
    text = fields_in_text(source)
    assert sum(map(len, text.values())) == len(re.findall(r"= \d+;", source))
    assert fields_in_descriptor(embedded) == text
    assert f"package {embedded.package};" in source
    assert f'syntax = "{embedded.syntax}";' in source


# With whom it gets along

OLDEST = "4.25.0" if sys.version_info < (3, 14) else "5.27.0"
PROTOBUFS = (OLDEST, "5.29.6", "6.33.6", "7.36.2")
"""The oldest that the package allows, and the last of each major version."""

CACHE = ROOT / "build" / "test-packages"


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", *map(str, arguments)]
    command[4:4] = ["--quiet", "--disable-pip-version-check", "--no-deps"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 0, result.stderr


def install(requirement: str) -> Callable[[Path], None]:
    return lambda folder: pip("install", "--target", folder, requirement)


def unpack_zprofile(folder: Path) -> None:
    # Its wheels are for CPython up to 3.11 on Linux; the one file wanted here is pure Python.
    platform = ("--python-version", "3.11", "--platform", "manylinux2014_x86_64")
    pip("download", "--only-binary", ":all:", *platform, "--dest", folder, "zprofile==1.0.13")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    wheel.unlink()


def cached(name: str, fill: Callable[[Path], None]) -> Path:
    """A folder of packages, filled when it is first asked for."""
    folder = CACHE / f"{name}-{sys.implementation.cache_tag}"
    marker = folder / ".finished"
    if marker.exists():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
        content = Path(temporary) / "content"
        fill(content)
        (content / ".finished").touch()
        if not marker.exists():  # nobody else was faster
            shutil.rmtree(folder, ignore_errors=True)
            content.rename(folder)
    return folder


@pytest.fixture(scope="module", params=PROTOBUFS)
def protobuf(request: pytest.FixtureRequest) -> str:
    """A version of protobuf."""
    version: str = request.param
    return version


@pytest.fixture(params=["python", "upb"])
def engine(request: pytest.FixtureRequest) -> str:
    """An implementation of protobuf."""
    name: str = request.param
    return name


@pytest.fixture
def environ(protobuf: str, engine: str) -> dict[str, str]:
    """For a child process with that protobuf, pypprof and zprofile."""
    folders = [
        cached(f"protobuf-{protobuf}", install(f"protobuf=={protobuf}")),
        cached("pypprof", install("pypprof==0.0.1")),
        cached("zprofile", unpack_zprofile),
    ]
    return {
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
        "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": engine,
    }


PRELUDE = """
import importlib, sys, warnings

wanted, engine = sys.argv[1:3]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # old versions of protobuf on newer Pythons
    import google.protobuf
    from google.protobuf import descriptor_pool
    from google.protobuf.internal import api_implementation
assert google.protobuf.__version__ == wanted, google.protobuf.__version__
assert api_implementation.Type() == engine, api_implementation.Type()
default_pool = descriptor_pool.Default()


def fields_in_default_pool():
    try:
        file = default_pool.FindFileByName("profile.proto")
    except KeyError:
        return None
    return set(file.message_types_by_name["Profile"].fields_by_name)


def import_theirs(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they call what has long been deprecated
        try:
            importlib.import_module(f"{name}.profile_pb2")
        except TypeError as error:
            # Code of that age works with the Python implementation only. The C one refuses
            # it, but after the file has been registered.
            assert engine == "upb", error
            assert "Descriptors cannot be created directly" in str(error), error
        else:
            assert engine == "python"
    # Theirs is older than doc_url, by which it is told from ours.
    fields = fields_in_default_pool()
    assert fields is not None and "sample_type" in fields and "doc_url" not in fields, fields


def use_ours():
    before = fields_in_default_pool()
    from pyprof_agent.formats.pprof import decode, encode
    from pyprof_agent.profile import Label, Sample
    from tests.support import LEAF, ROOT_FRAME, heap_profile

    labels = (Label("thread", "main"), Label("size", -5, "bytes"))
    profile = heap_profile(Sample((LEAF, ROOT_FRAME), (1, 10, 2**62, -20), labels))
    assert decode(encode(profile)) == profile
    assert fields_in_default_pool() == before
"""


@pytest.mark.thorough
@pytest.mark.parametrize(
    "order", [("pypprof", "ours", "zprofile"), ("ours", "zprofile", "pypprof")]
)
def test_we_work_with_every_protobuf_before_and_after_pypprof_and_zprofile(
    protobuf: str, engine: str, environ: dict[str, str], order: tuple[str, ...]
) -> None:
    steps = [
        "use_ours()" if name == "ours" else f"import_theirs({name!r})" for name in (*order, "ours")
    ]
    assert_runs = "\n".join([PRELUDE, "assert fields_in_default_pool() is None", *steps])
    run_python(assert_runs, protobuf, engine, env=environ)


@pytest.mark.thorough
def test_a_schema_in_the_default_pool_would_be_noticed(
    protobuf: str, engine: str, environ: dict[str, str]
) -> None:
    # What the private pool is for: the default one takes the second of two such files badly.
    ours_after_theirs = """
import_theirs("pypprof")
from pyprof_agent.formats._schema import FILE_DESCRIPTOR
try:
    default_pool.AddSerializedFile(FILE_DESCRIPTOR)
except TypeError as error:
    print(error)
else:
    assert "doc_url" not in fields_in_default_pool()
    print("ignored")
"""
    output = run_python(PRELUDE + ours_after_theirs, protobuf, engine, env=environ).stdout
    assert ("duplicate file name profile.proto" if engine == "upb" else "ignored") in output
