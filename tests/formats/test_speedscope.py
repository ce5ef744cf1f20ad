"""Files of speedscope, held against its published format."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pyprof_agent import ProfileError
from pyprof_agent.formats import speedscope
from pyprof_agent.profile import Frame, Label, Sample
from tests.formats.big import big_profile
from tests.support import LEAF, ROOT_FRAME, heap_profile


def written(*samples: Sample, default: str = "inuse_space") -> dict[str, Any]:
    profile = replace(heap_profile(*samples), default_sample_type=default)
    file: dict[str, Any] = json.loads(speedscope.encode(profile, "heap"))
    return file


PROFILE = (
    Sample((LEAF, ROOT_FRAME), (10, 1000, 4, 400)),
    Sample((ROOT_FRAME,), (7, 7000, 0, 0)),
    Sample((LEAF._replace(line=13), ROOT_FRAME), (1, 10, 1, 500), (Label("thread", "a"),)),
)


def test_frames_are_functions_that_all_profiles_share() -> None:
    assert written(*PROFILE)["shared"] == {
        "frames": [
            {"name": "shop.cart.Cart.add", "file": "/srv/shop/cart.py", "line": 10},
            {"name": "shop.main.<module>", "file": "/srv/shop/main.py", "line": 1},
        ]
    }


def test_a_sampled_profile_for_each_sample_type_with_its_unit() -> None:
    file = written(*PROFILE)
    assert file["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert [(each["type"], each["name"], each["unit"]) for each in file["profiles"]] == [
        ("sampled", "alloc_objects", "none"),
        ("sampled", "alloc_space", "bytes"),
        ("sampled", "inuse_objects", "none"),
        ("sampled", "inuse_space", "bytes"),
    ]


def test_stacks_are_root_first_with_their_weights_and_without_zeros() -> None:
    in_use = written(*PROFILE)["profiles"][3]
    assert in_use["samples"] == [[1, 0], [1, 0]]
    assert in_use["weights"] == [500, 400]
    assert (in_use["startValue"], in_use["endValue"]) == (0, 900)


@pytest.mark.parametrize(("default", "index"), [("alloc_objects", 0), ("inuse_space", 3), ("", 3)])
def test_the_default_column_is_shown_first(default: str, index: int) -> None:
    assert written(*PROFILE, default=default)["activeProfileIndex"] == index


def test_a_default_column_that_is_not_there_is_refused() -> None:
    with pytest.raises(ProfileError, match="no sample type 'wall'"):
        written(default="wall")


def test_what_has_shrunk_is_a_profile_of_its_own() -> None:
    file = written(
        Sample((LEAF,), (1, 1, -4, -400)),
        Sample((ROOT_FRAME,), (1, 1, 3, 300)),
        default="inuse_space",
    )
    assert {each["name"]: each["weights"] for each in file["profiles"]} == {
        "alloc_objects": [1, 1],
        "alloc_space": [1, 1],
        "inuse_objects": [3],
        "inuse_objects (shrunk)": [4],
        "inuse_space": [300],
        "inuse_space (shrunk)": [400],
    }
    assert file["profiles"][file["activeProfileIndex"]]["name"] == "inuse_space"


def test_names_are_strings_whatever_is_in_them() -> None:
    hostile = '</script>"\\\n\udc80'
    file = written(Sample((Frame(hostile, "", 0, 0),), (1, 1, 1, 1)))
    assert file["shared"]["frames"] == [{"name": hostile}]


def test_a_large_profile_is_whole() -> None:
    profile = big_profile(2500)
    file = json.loads(speedscope.encode(profile, "heap"))
    in_use = file["profiles"][3]
    assert len(in_use["samples"]) == len(in_use["weights"]) == 2500
    assert sum(in_use["weights"]) == in_use["endValue"] == profile.total("inuse_space")
    frames = len(file["shared"]["frames"])
    assert all(0 <= number < frames for stack in in_use["samples"] for number in stack)
