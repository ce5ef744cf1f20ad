"""The documentation is held against the code: links, code blocks, options, paths, targets."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import pytest

from pyprof_agent import Config
from pyprof_agent._native import NEWEST, OLDEST, unusable
from pyprof_agent.config import NOT_FROM_ENVIRONMENT, PREFIX, AccessSettings, Limits
from pyprof_agent.doctor import examine
from pyprof_agent.http.index import DESCRIPTIONS
from pyprof_agent.http.renderings import FORMATS
from pyprof_agent.process import RECORDING
from pyprof_agent.profile import Frame
from pyprof_agent.sources.heap_native import NativeHeap
from pyprof_agent.sources.heap_tracemalloc import AGENT, TracemallocHeap
from pyprof_agent.sources.naming import TRUNCATED, FrameNames
from pyprof_agent.sources.native_rows import NO_GIL, NO_PYTHON
from pyprof_agent.sources.stack_counters import OVERFLOW
from tests.support import EXAMPLES, ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


@pytest.fixture(params=PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def page(request: pytest.FixtureRequest) -> Path:
    """Every page."""
    path: Path = request.param
    return path


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """What `#...` may name in a page, by GitHub's rule."""
    headings = [re.sub(r"[^\w\- ]", "", found.lower()) for found in HEADING.findall(prose(page))]
    return {heading.strip().replace(" ", "-") for heading in headings}


def code(page: Path) -> Iterator[str]:
    """What a page writes as code: fenced blocks, indented lines and words in backticks."""
    for _, _, block in FENCE.findall(page.read_text()):
        yield block
    rest = prose(page)
    yield from re.findall(r"^    .*$", rest, re.MULTILINE)
    yield from re.findall(r"`([^`\n]+)`", rest)


def test_there_are_the_pages_that_are_promised() -> None:
    assert [page.name for page in PAGES] == [
        "README.md",
        "accuracy.md",
        "alerts.md",
        "architecture.md",
        "configuration.md",
        "endpoints.md",
        "files.md",
        "how-it-works.md",
        "leaks.md",
        "overhead.md",
        "security.md",
        "start.md",
        "story.md",
    ]


def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_python_blocks_compile(page: Path) -> None:
    for _, language, block in FENCE.findall(page.read_text()):
        if language == "python":
            compile(textwrap.dedent(block), str(page), "exec")


def test_fences_are_closed_and_say_what_is_in_them(page: Path) -> None:
    blocks = FENCE.findall(page.read_text())
    assert page.read_text().count("```") == 2 * len(blocks)
    assert {language for _, language, _ in blocks} <= {"python", "console", "text"}


OPTIONS = (*fields(Config), *fields(Limits))


@pytest.mark.parametrize("option", OPTIONS, ids=lambda field: field.name)
def test_every_option_is_in_the_table_with_its_default(option: Field[Any]) -> None:
    name, default = option.name, option.default
    text = (DOCS / "configuration.md").read_text()
    variable = f"`{PREFIX}{name.upper()}`" if name not in NOT_FROM_ENVIRONMENT else ""
    row = f"| [`{name}`](#{name}) | {variable} | `{default!r}` |".replace("|  |", "| |")
    assert row in text
    assert f"\n### {name}\n" in text


def test_every_variable_that_is_named_exists() -> None:
    known = {PREFIX + option.name.upper() for option in OPTIONS}
    known |= {AccessSettings.variable(field.name) for field in fields(AccessSettings)}
    known |= {"PYPROF_AGENT_RUN_OUTPUT", "PYPROF_AGENT_RUN_PROCESS"}
    for page in PAGES:
        assert set(re.findall(rf"{PREFIX}\w+", page.read_text())) <= known


@pytest.mark.parametrize("path", DESCRIPTIONS)
def test_every_path_is_in_the_endpoints(path: str) -> None:
    text = (DOCS / "endpoints.md").read_text()
    assert f"[`/debug/pprof/{path}`](#" in text
    assert re.search(rf"^    curl .*/debug/pprof/{path}\b", text, re.MULTILINE)


@pytest.mark.parametrize("wanted", FORMATS)
def test_every_format_is_in_the_endpoints(wanted: str) -> None:
    text = (DOCS / "endpoints.md").read_text()
    kind = FORMATS[wanted]
    shown = "shown" if kind.inline else "saved"
    assert re.search(
        rf"^\| `{wanted}` \| .* \| `{re.escape(kind.media_type)}` \| "
        rf"`heap{re.escape(kind.ending)}`, {shown} \|$",
        text,
        re.MULTILINE,
    )


@pytest.mark.skipif(bool(unusable()), reason=unusable())
def test_every_number_of_the_native_heap_engine_is_explained() -> None:
    text = (DOCS / "how-it-works.md").read_text()
    stats = NativeHeap(FrameNames(), sample_bytes=524288, max_frames=128, look_back=600).stats()
    assert [key for key in stats if f"\n| `{key}` | " not in text] == []


def test_every_number_of_tracemalloc_is_in_the_endpoints() -> None:
    text = (DOCS / "endpoints.md").read_text()
    stats = TracemallocHeap(FrameNames(), max_frames=128).stats()
    assert [key for key in stats if f"heap: {key.replace('_', ' ')} " not in text] == []


@pytest.mark.parametrize("frame", [NO_GIL, NO_PYTHON, TRUNCATED, OVERFLOW, AGENT])
def test_every_special_frame_of_the_heap_is_in_the_table(frame: Frame) -> None:
    assert f"\n| `{frame.function}` | " in (DOCS / "how-it-works.md").read_text()


def test_the_versions_the_extension_knows_are_those_named() -> None:
    versions = f"CPython {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
    for page in ("README.md", "docs/how-it-works.md", "docs/configuration.md", "docs/start.md"):
        assert versions in (ROOT / page).read_text()


def test_what_the_doctor_says_is_in_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYPROF_AGENT_HEAP_ENGINE", "tracemalloc")
    text = (DOCS / "configuration.md").read_text()
    _, (_, *lines) = examine()
    assert [line for line in lines if f"\n{line}\n" not in text] == []


def test_the_rate_of_record_is_in_the_configuration() -> None:
    text = (DOCS / "configuration.md").read_text()
    assert f"`heap_sample_bytes` {RECORDING['heap_sample_bytes']}" in text


def test_every_module_has_its_line_in_the_architecture() -> None:
    text = (DOCS / "architecture.md").read_text()
    modules = [path for path in (ROOT / "pyprof_agent").rglob("*.py") if path.stem != "__init__"]
    missing = [
        path.name
        for path in modules
        if not re.search(rf"^ +\S*\b{path.name} ", text, re.MULTILINE) and path.stem[:2] != "__"
    ]
    assert missing == []


def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for text in code(page) for target in re.findall(r"(?:^|\s)make ([\w-]+)", text)}
    assert named <= targets


def test_the_reader_of_make_targets_finds_some() -> None:
    readme = "\n".join(code(ROOT / "README.md"))
    assert {"demo", "test"} <= set(re.findall(r"(?:^|\s)make ([\w-]+)", readme))


@pytest.mark.parametrize("example", sorted(EXAMPLES.rglob("*.py")), ids=lambda path: path.name)
def test_every_example_is_mentioned(example: Path) -> None:
    assert any(str(example.relative_to(ROOT)) in page.read_text() for page in PAGES)
