"""The flame graph page: what is in it, what is left out, and that no name can become markup."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from importlib.resources import files
from typing import Any

import pytest

from pyprof_agent import ProfileError
from pyprof_agent.formats import flamegraph
from pyprof_agent.formats.call_tree import CallTree, call_tree
from pyprof_agent.formats.columns import parts
from pyprof_agent.formats.numbering import Numbering
from pyprof_agent.formats.speedscope import identity
from pyprof_agent.profile import Frame, Profile, Sample
from tests.formats.big import big_profile
from tests.support import LEAF, ROOT_FRAME, heap_profile

BLOCK = re.compile(r'<script type="application/json" id="profile">(.*?)</script>', re.DOTALL)
PROFILE = heap_profile(
    Sample((LEAF, ROOT_FRAME), (10, 1000, 4, 400)),
    Sample((ROOT_FRAME,), (7, 7000, 1, 100)),
    Sample((LEAF._replace(line=13), ROOT_FRAME), (1, 10, 1, 500)),
)


def data(profile: Profile) -> dict[str, Any]:
    """What the page's script reads."""
    match = BLOCK.search(flamegraph.page(profile, "heap").decode())
    assert match is not None
    fields: dict[str, Any] = json.loads(match[1])
    return fields


def tree(profile: Profile, most: int) -> CallTree:
    return call_tree(profile, parts(profile), Numbering(identity), most)


def test_nodes_are_functions_with_what_they_have_together_with_their_callees() -> None:
    fields = data(PROFILE)
    assert fields["functions"] == [
        ["shop.cart.Cart.add", 0, 10],
        ["shop.main.<module>", 1, 1],
    ]
    assert fields["files"] == ["/srv/shop/cart.py", "/srv/shop/main.py"]
    assert fields["parents"] == [0, 0, 1]
    assert fields["function"] == [0, 1, 0]
    assert fields["values"] == [[18, 18, 11], [8010, 8010, 1010], [6, 6, 5], [1000, 1000, 900]]
    assert fields["comments"] == ["made by a test"]


def test_there_is_a_view_for_each_sample_type_and_the_default_one_is_first() -> None:
    fields = data(PROFILE)
    assert [(part["name"], part["unit"]) for part in fields["parts"]] == [
        ("alloc_objects", "count"),
        ("alloc_space", "bytes"),
        ("inuse_objects", "count"),
        ("inuse_space", "bytes"),
    ]
    assert fields["shown"] == 3
    assert data(replace(PROFILE, default_sample_type="alloc_objects"))["shown"] == 0
    with pytest.raises(ProfileError, match="no sample type 'wall'"):
        flamegraph.page(replace(PROFILE, default_sample_type="wall"), "heap")


def test_what_has_shrunk_is_a_view_of_its_own() -> None:
    fields = data(
        heap_profile(
            Sample((LEAF, ROOT_FRAME), (1, 1, -4, -400)), Sample((ROOT_FRAME,), (1, 1, 3, 300))
        )
    )
    names = [part["name"] for part in fields["parts"]]
    assert names[fields["shown"]] == "inuse_space"
    assert names[-1] == "inuse_space (shrunk)"
    assert fields["values"][-2:] == [[300, 300, 0], [400, 400, 400]]


def test_a_profile_of_usual_size_is_whole() -> None:
    fields = data(big_profile(2000))
    assert fields["below"] == 0
    assert [part["hidden"] for part in fields["parts"]] == [{"stacks": 0, "value": 0}] * 4


def test_what_is_hidden_is_small_and_counted() -> None:
    profile = big_profile(2000)
    whole, cut = tree(profile, 10**6), tree(profile, 1000)
    assert len(whole.parents) > 3000
    assert 700 < len(cut.parents) <= 1000
    shares = [
        max(column[node] / column[0] for column in whole.values)
        for node in range(len(whole.parents))
    ]
    assert len(cut.parents) == sum(share >= cut.below for share in shares)
    total, leaves = profile.total("inuse_space"), len(profile.samples)
    assert cut.values[3][0] == total
    shown_alone = total - cut.hidden[3].value
    assert 0 < shown_alone < total
    assert 0 < cut.hidden[3].stacks < leaves
    # What nodes that are there have beyond those they call is what is shown, and what is hidden.
    own = list(cut.values[3])
    for node in range(1, len(own)):
        own[cut.parents[node]] -= cut.values[3][node]
    assert sum(own) == total


def test_equal_stacks_are_never_more_than_there_is_room_for() -> None:
    frames = [Frame(f"f{number}", "/f.py", number + 1, number + 1) for number in range(500)]
    profile = heap_profile(*(Sample((frame,), (1, 1, 1, 1)) for frame in frames))
    assert len(tree(profile, 501).parents) == 501
    cut = tree(profile, 500)
    assert cut.parents == [0]
    assert [(hidden.stacks, hidden.value) for hidden in cut.hidden] == [(500, 500)] * 4
    assert cut.below > 1 / 500


@pytest.mark.parametrize("profile", [heap_profile(), heap_profile(Sample((), (1, 1, 1, 1)))])
def test_a_profile_without_frames_has_the_node_of_all(profile: Profile) -> None:
    assert data(profile)["parents"] == [0]


HOSTILE = "</script><script>alert(1)</script><!--\"'&amp;\u2028\udc80"


def test_no_name_can_end_the_block_it_is_in() -> None:
    frame = Frame(HOSTILE, f"/{HOSTILE}.py", 1, 1)
    profile = replace(heap_profile(Sample((frame,), (1, 1, 1, 1))), comments=(HOSTILE,))
    page = flamegraph.page(profile, HOSTILE.replace("\udc80", "")).decode()
    assert "alert(1)<" not in page
    assert "<script>alert" not in page
    assert page.count("</script>") == 4
    fields = data(profile)
    assert fields["functions"] == [[HOSTILE, 0, 1]]
    assert fields["files"] == [f"/{HOSTILE}.py"]
    assert fields["comments"] == [HOSTILE]


def test_the_policy_allows_nothing_but_this_packages_scripts_and_styles() -> None:
    policy = flamegraph.policy()
    assert "unsafe" not in policy
    assert "http" not in policy
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert directives["default-src"] == "'none'"
    assert len(directives["script-src"].split()) == 3
    page = flamegraph.page(PROFILE, "heap").decode()
    assert f'content="{policy.replace(chr(39), "&#x27;")}"' in page
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:)?//""", BLOCK.sub("", page)[:2000])


def test_the_libraries_are_those_of_the_table() -> None:
    folder = files("pyprof_agent.formats") / "assets" / "vendor"
    text = (folder / "README.md").read_text()
    sums = re.findall(r"^    ([0-9a-f]{64})  (\S+)$", text, re.MULTILINE)
    assert len(sums) == 2
    for wanted, name in sums:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == wanted
        assert (folder / name.partition("/")[0] / "LICENSE").read_text()
        assert f"`{name}`" in text


def test_no_asset_can_end_its_script() -> None:
    folder = files("pyprof_agent.formats") / "assets"
    for name in ("flamegraph.js", "vendor/d3/d3.min.js"):
        text = (folder / name).read_text().lower()
        assert "</script" not in text
        assert "<!--" not in text
