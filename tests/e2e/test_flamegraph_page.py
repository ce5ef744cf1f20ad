"""The flame graph page in a real browser: it is drawn, searched, zoomed, and runs nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pyprof_agent.formats import flamegraph
from pyprof_agent.profile import Frame, Profile, Sample
from tests.chromium import Page, browser, executable
from tests.formats.big import big_profile
from tests.support import LEAF, ROOT_FRAME, heap_profile

CHROMIUM = executable()
HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on PATH")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Page]:
    assert CHROMIUM is not None
    with browser(CHROMIUM) as page:
        yield page


@pytest.fixture
def page(chromium: Page) -> Page:
    chromium.complaints.clear()
    return chromium


def show(page: Page, profile: Profile, tmp_path: Path, *, width: int = 1200) -> None:
    """Open the page of a profile, as it was saved, and wait until it is drawn."""
    path = tmp_path / "page.html"
    path.write_bytes(flamegraph.page(profile, "heap"))
    page.open(path.as_uri(), width=width)
    drawn(page)


def drawn(page: Page) -> None:
    page.run("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")


LABELS = (
    "[...document.querySelectorAll('.d3-flame-graph-label')]"
    ".filter(label => label.style.display !== 'none').map(label => label.textContent).join(' ')"
)
"""The names on the frames that are wide enough."""


def text(page: Page, name: str) -> str:
    found: str = page.run(f"document.getElementById('{name}').textContent")
    return found


def fill(page: Page, term: str) -> None:
    page.run(
        f"document.getElementById('search').value = {term!r}; "
        "document.getElementById('search').dispatchEvent(new Event('input'))"
    )


PROFILE = heap_profile(
    Sample((LEAF, ROOT_FRAME), (10, 1000, 4, 3 << 20)),
    Sample((Frame("shop.db.query", "/srv/shop/db.py", 5, 6), ROOT_FRAME), (7, 7000, 1, 1 << 20)),
)


def test_it_is_drawn_without_a_complaint_and_without_a_request(page: Page, tmp_path: Path) -> None:
    show(page, PROFILE, tmp_path)
    page.wait_for(f"{LABELS} === 'all shop.main.<module> shop.cart.Cart.add shop.db.query'")
    assert text(page, "details").startswith("inuse_space: 4 MB in all, 2023-11-14T22:13:20")
    assert text(page, "hidden") == ""
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith("file:")] == []


def test_search_zoom_and_choice_of_the_sample_type(page: Page, tmp_path: Path) -> None:
    show(page, PROFILE, tmp_path)
    fill(page, "CART")
    page.wait_for("document.getElementById('details').textContent.includes('match')")
    assert text(page, "details") == "1 frames match, 3 MB, 75 %"
    fill(page, "(")  # no pattern, just what it is
    page.wait_for("document.getElementById('details').textContent.startsWith('0 frames')")
    fill(page, "")
    page.run(
        "[...document.querySelectorAll('g')].find(g => g.getAttribute('name').endsWith('query'))"
        ".dispatchEvent(new Event('click'))"
    )
    page.wait_for("document.querySelectorAll('g').length === 3")
    assert (
        text(page, "details")
        == "shop.db.query — 1 MB, 25 %, 25 % of its caller — /srv/shop/db.py:5"
    )
    page.run("document.getElementById('reset').click()")
    page.wait_for("document.querySelectorAll('g').length === 4")
    page.run(
        "document.getElementById('part').selectedIndex = 0; "
        "document.getElementById('part').dispatchEvent(new Event('change'))"
    )
    assert text(page, "details").startswith("alloc_objects: 17 in all")
    assert page.complaints == []


def test_a_name_is_text_whatever_is_in_it(page: Page, tmp_path: Path) -> None:
    frame = Frame(HOSTILE, f"/{HOSTILE}.py", 1, 1)
    profile = replace(heap_profile(Sample((frame,), (1, 1, 1, 1))), comments=(HOSTILE,))
    show(page, profile, tmp_path)
    fill(page, "script")
    page.wait_for("document.getElementById('details').textContent.startsWith('1 frames')")
    assert page.run("document.title") == "heap: flame graph"
    assert page.run("document.querySelectorAll('img').length") == 0
    assert page.run("document.querySelectorAll('script').length") == 4
    assert page.run("document.querySelector('#comments li').textContent") == HOSTILE
    assert page.complaints == []


def test_scripts_that_are_not_the_packages_do_not_run(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    content = flamegraph.page(PROFILE, "heap")
    path.write_bytes(content.replace(b"</body>", b"<script>document.title='owned'</script>"))
    page.open(path.as_uri())
    assert page.run("document.title") == "heap: flame graph"
    assert "Content Security Policy" in " ".join(page.complaints)


def test_nothing_in_a_profile_is_said_and_not_drawn(page: Page, tmp_path: Path) -> None:
    show(page, heap_profile(Sample((LEAF,), (1, 1, 0, 0))), tmp_path)
    assert text(page, "chart") == "There is no inuse_space in this profile."
    assert page.complaints == []


def test_a_profile_of_20000_stacks_is_drawn_soon_and_says_what_it_hides(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flamegraph, "MAX_NODES", 20_000)
    show(page, big_profile(), tmp_path)
    page.wait_for("document.querySelectorAll('g').length > 1000")
    assert "stacks under 0.0" in text(page, "hidden")
    assert page.run("performance.now()") < 20_000  # 400 ms where nothing else runs
    assert page.complaints == []


@pytest.mark.parametrize("width", [390, 1200])
def test_it_is_not_wider_than_the_screen(page: Page, tmp_path: Path, width: int) -> None:
    show(page, PROFILE, tmp_path, width=width)
    assert page.run("document.documentElement.scrollWidth") <= width
