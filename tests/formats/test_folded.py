"""Folded stacks against golden text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pyprof_agent import ProfileError
from pyprof_agent.formats import folded
from pyprof_agent.profile import Frame, Label, Sample
from tests.support import LEAF, ROOT_FRAME, heap_profile

OTHER_LINE = LEAF._replace(line=13)


def test_a_line_for_each_stack_root_first_and_largest_first() -> None:
    profile = heap_profile(
        Sample((ROOT_FRAME,), (7, 7000, 1, 100)),
        Sample((LEAF, ROOT_FRAME), (10, 1000, 4, 400)),
    )
    assert folded.encode(profile).decode() == (
        "shop.main.<module>;shop.cart.Cart.add 400\nshop.main.<module> 100\n"
    )


def test_the_column_is_the_default_one_or_the_last() -> None:
    profile = heap_profile(Sample((LEAF,), (7, 7000, 1, 100)))
    objects = replace(profile, default_sample_type="alloc_objects")
    assert folded.encode(objects) == b"shop.cart.Cart.add 7\n"
    assert folded.encode(replace(profile, default_sample_type="")) == b"shop.cart.Cart.add 100\n"
    with pytest.raises(ProfileError, match="no sample type 'wall'"):
        folded.encode(replace(profile, default_sample_type="wall"))


def test_lines_and_labels_do_not_tell_stacks_apart() -> None:
    profile = heap_profile(
        Sample((LEAF,), (1, 1, 1, 1.4)),
        Sample((OTHER_LINE,), (1, 1, 1, 2)),
        Sample((LEAF,), (1, 1, 1, 3), (Label("thread", "a"),)),
    )
    assert folded.encode(profile) == b"shop.cart.Cart.add 6\n"


def test_what_is_0_is_left_out_and_what_has_shrunk_is_below_0() -> None:
    profile = heap_profile(
        Sample((LEAF,), (5, 5, 0, 0)),
        Sample((ROOT_FRAME,), (0, 0, -1, -8)),
        Sample((LEAF, ROOT_FRAME), (1, 1, 1, 3)),
        Sample((OTHER_LINE, ROOT_FRAME), (1, 1, -1, -3)),
    )
    assert folded.encode(profile) == b"shop.main.<module> -8\n"
    assert folded.encode(heap_profile()) == b""


def test_no_name_can_add_a_frame_or_a_line() -> None:
    hostile = Frame("a;b\n\r\u2028c 7\x1b[2J\udc80\0é", "/x.py", 1, 1)
    text = folded.encode(heap_profile(Sample((hostile, ROOT_FRAME), (1, 1, 1, 1)))).decode()
    expected = r"a:b\n\r\u2028c 7\x1b[2J\udc80\x00é"
    assert text == f"shop.main.<module>;{expected} 1\n"
    assert len(text.splitlines()) == 1


def test_a_stack_without_frames_has_a_name() -> None:
    assert folded.encode(heap_profile(Sample((), (1, 1, 1, 5)))) == b"<no stack> 5\n"
