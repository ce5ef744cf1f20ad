"""The look-back of the native engines, in true time."""

from __future__ import annotations

import pytest

from pyprof_agent.sources import heap_native, stacks_native
from tests.support import run_python


@pytest.mark.skipif(bool(stacks_native.unusable()), reason=stacks_native.unusable() or "-")
def test_slices_of_the_past_of_stacks_add_up() -> None:
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


@pytest.mark.skipif(bool(heap_native.unusable()), reason=heap_native.unusable() or "-")
def test_the_heap_is_known_as_it_was_in_a_slice_in_which_nothing_happened() -> None:
    code = """
    import time
    from tests.sources.heap_child import *
    heap = started()
    kept = [None] * 100
    grow(kept, 30, 1000)
    time.sleep(31)
    grow(kept, 20, 1000)
    kept[:10] = [None] * 10
    def growth(ago):
        window = heap.window(heap.snapshot(), heap.past(ago))
        rows = [s.values for s in window.samples if s.stack[0].function.endswith("block")]
        return [round(sum(column) / 1000) for column in zip(*rows)], window.duration_nanos // 10**10
    for ago in (0, 15, 60):
        print(*growth(ago))
    """
    lines = run_python(code).stdout.splitlines()
    assert lines == ["[0, 20, 0, 10] 0", "[0, 20, 0, 10] 2", "[0, 50, 0, 40] 3"]
