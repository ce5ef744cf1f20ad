"""The native stack engine's look-back, in true time."""

from __future__ import annotations

import pytest

from pyprof_agent.sources import stacks_native
from tests.support import run_python


@pytest.mark.skipif(bool(stacks_native.unusable()), reason=stacks_native.unusable() or "-")
def test_slices_of_the_past_add_up() -> None:
    code = """
    import time
    from tests.sources.test_stacks_native import burn, engine, of_function
    from pyprof_agent.profile import subtract
    from pyprof_agent.sources.stack_counters import cpu_profile
    stacks = engine(look_back=60)
    stacks.start()
    burn(0.5)  # in the first slice
    time.sleep(10.2)
    stacks.snapshot()
    def later():
        burn(0.5)
    later()
    now = stacks.snapshot()
    for ago, function, there in ((0.3, "later", True), (0.3, "burn", True), (60, "burn", True)):
        profile = cpu_profile(subtract(now, stacks.past(ago)), exact_hits=True)
        print(function, round(of_function(profile, function)[1] / 1e8))
    """
    lines = run_python(code).stdout.splitlines()
    assert lines == ["later 5", "burn 5", "burn 10"]
