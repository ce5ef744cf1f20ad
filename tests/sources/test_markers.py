"""All frames that stand for no function are known, so that `symbol` has a name for each."""

from __future__ import annotations

import importlib
import pkgutil

from pyprof_agent import sources
from pyprof_agent.profile import Frame
from pyprof_agent.sources.contention import snapshot
from pyprof_agent.sources.markers import MARKERS


def test_every_marker_of_every_source_is_in_the_list() -> None:
    found = {
        value
        for module in pkgutil.iter_modules(sources.__path__, f"{sources.__name__}.")
        for value in vars(importlib.import_module(module.name)).values()
        if isinstance(value, Frame)
    }
    assert found == set(MARKERS)
    assert len(found) > 5


def test_contention_is_empty_and_says_why() -> None:
    profile = snapshot()
    assert profile.samples == ()
    assert "always empty" in profile.comments[0]
