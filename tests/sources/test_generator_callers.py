"""Generators and coroutines that are resumed from here and there: each has the callers it had.

Their frames are not on the data stack, they are left and resumed in half a microsecond, and their
memory is that of another one's soon after.
"""

from __future__ import annotations

import pytest

from pyprof_agent.sources import stacks_native
from tests.support import run_python

pytestmark = [
    pytest.mark.timing,
    pytest.mark.skipif(bool(stacks_native.unusable()), reason=stacks_native.unusable() or "-"),
]

TWO = """
import sys, time
import pyprof_agent

def run(coroutine):
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value

def loop_1(): return [leaf_1() for _ in range(50)]
def loop_2(): return [leaf_2() for _ in range(50)]
"""

KINDS = {
    "generators": """
def leaf_1(): return 1
def leaf_2(): return 2
def generator_1():
    for _ in range(20): yield leaf_1()
def generator_2():
    for _ in range(20): yield leaf_2()
def top_1(): return sum(generator_1())
def top_2(): return sum(generator_2())
CALLERS = {"leaf": {"loop", "<listcomp>", "generator"}, "generator": {"top"}, "top": {"main"}}
def work():
    top_1(); top_2(); loop_1(); loop_2()
""",
    "coroutines": """
async def leaf_1(): return 1
async def leaf_2(): return 2
async def middle_1():
    for _ in range(20): await leaf_1()
async def middle_2():
    for _ in range(20): await leaf_2()
def top_1(): run(middle_1())
def top_2(): run(middle_2())
CALLERS = {"leaf": {"middle"}, "middle": {"run"}, "run": {"top"}, "top": {"main"}}
def work():
    top_1(); top_2()
""",
    "async generators": """
def leaf_1(): return 1
def leaf_2(): return 2
async def generator_1():
    for _ in range(20): yield leaf_1()
async def generator_2():
    for _ in range(20): yield leaf_2()
async def middle_1():
    async for _ in generator_1(): pass
async def middle_2():
    async for _ in generator_2(): pass
def top_1(): run(middle_1())
def top_2(): run(middle_2())
CALLERS = {
    "leaf": {"generator"}, "generator": {"middle"}, "middle": {"run"}, "run": {"top"},
    "top": {"main"},
}
def work():
    top_1(); top_2()
""",
    "functions of coroutines that are made anew": """
def leaf_1(): return 1
def leaf_2(): return 2
async def middle_1(): leaf_1()
async def middle_2(): leaf_2()
CALLERS = {"leaf": {"middle"}, "middle": {"run"}, "run": {"main"}}
def work():
    for _ in range(20):
        run(middle_1())
        run(middle_2())
""",
    "generators resumed by C from one depth": """
def one():
    while True: yield
def two():
    while True: yield
ones, twos = one(), two()
def first():
    for _ in range(20):
        ones.send(None)
        second()
def second(): twos.send(None)
CALLERS = {"one": {"first"}, "two": {"second"}, "second": {"first"}, "first": {"main"}}
def work():
    first()
next(ones), next(twos)
""",
}

JUDGE = """
def main(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        for _ in range(10):
            work()

def is_possible(names):
    numbers = {name[-1] for name in names if name[-2:-1] == "_"}
    kinds = [name.rstrip("12").rstrip("_") for name in names if name != "work"]
    return len(numbers) < 2 and all(
        caller in CALLERS.get(callee, {caller}) for callee, caller in zip(kinds, kinds[1:])
    )

agent = pyprof_agent.start(heap=False, stack_hz=1000.0, stack_max_cpu=1.0, leak_window=0)
window = agent.begin("profile")
main(float(sys.argv[1]))
profile = window.end()
seen = impossible = unreadable = 0
for sample in profile.samples:
    names = [frame.function.rpartition(".")[2] for frame in sample.stack]
    hits = sample.values[0]
    if "main" in names and not is_possible(names):
        impossible += hits
        print(hits, names, file=sys.stderr)
    seen += hits
    unreadable += hits if names == ["<unreadable stack>"] else 0
print(seen, impossible, unreadable)
print(agent.stats()["stacks"], file=sys.stderr)
"""

SECONDS = 4.0


@pytest.mark.parametrize("kind", KINDS)
def test_their_callers_are_possible(kind: str) -> None:
    result = run_python(TWO + KINDS[kind] + JUDGE, str(SECONDS))
    seen, impossible, unreadable = map(int, result.stdout.split())
    print(result.stderr)
    assert seen > 100 * SECONDS
    assert impossible <= max(2, 0.001 * seen), result.stderr
    assert unreadable <= 0.02 * seen


STAYING = """
import contextlib, functools, itertools, sys, time
import pyprof_agent

def stay():
    end = time.thread_time() + 0.15
    while time.thread_time() < end:
        sum(range(100))

def run(coroutine):
    try:
        while True:
            coroutine.send(None)
    except StopIteration as end:
        return end.value

class Once:
    def __await__(self):
        yield

def generator():
    stay()
    yield 1

def case_for():
    for _ in generator(): pass

def case_sum(): sum(generator())

def case_next(): next(generator())

def case_expression(): sum(stay() or 1 for _ in range(1))

def case_yield_from():
    def outer():
        yield from generator()
    def outermost():
        yield from outer()
    list(outermost())

def nested(depth):
    async def link(depth):
        if depth: await link(depth - 1)
        else: stay()
    return link(depth)

def case_one_coroutine(): run(nested(0))
def case_four_coroutines(): run(nested(3))
def case_seven_coroutines(): run(nested(6))
def case_fifty_coroutines(): run(nested(49))

def case_resumed_coroutine():
    async def after():
        await Once()
        stay()
    async def outer():
        await after()
    run(outer())

def case_async_generator():
    async def values():
        yield 1
        stay()
        yield 2
    async def reader():
        async for _ in values(): pass
    run(reader())

def deeper(depth, leaf):
    return deeper(depth - 1, leaf) if depth else leaf()

def case_generator_over_many_functions():
    async def outer():
        deeper(60, case_expression)
    run(outer())

def case_functions_over_a_generator():
    def values():
        deeper(30, stay)
        yield
    deeper(60, lambda: list(values()))

def case_generator_in_generator():
    def inner(): yield sum(generator())
    def outer(): yield sum(inner())
    sum(outer())

def case_throw():
    def values():
        try: yield
        except ValueError: stay()
        yield
    def outer(): yield from values()
    it = outer()
    next(it)
    it.throw(ValueError())

def case_throw_into_coroutines():
    async def inner():
        try: await Once()
        except ValueError: stay()
    async def middle(): await inner()
    async def outer(): await middle()
    coroutine = outer()
    coroutine.send(None)
    with contextlib.suppress(StopIteration): coroutine.throw(ValueError())

def case_close():
    def values():
        try: yield
        finally: stay()
    it = values()
    next(it)
    it.close()

def case_close_chain():
    def values():
        try: yield
        finally: stay()
    def outer(): yield from values()
    it = outer()
    next(it)
    it.close()

def case_dropped():
    def values():
        try: yield
        finally: stay()
    it = values()
    next(it)
    del it

def case_context_manager():
    @contextlib.contextmanager
    def manager():
        stay()
        yield
    with manager(): pass

def case_decorated():
    @functools.lru_cache
    def cached(): return list(generator())
    cached()

def case_chained(): list(itertools.chain(generator(), ()))

def case_sorted(): sorted(generator())

def case_key(): max([1, 2], key=lambda _: sum(generator()))

def case_class():
    class Made:
        def __init__(self): list(generator())
    Made()

def case_iterator():
    class Iterator:
        def __iter__(self): yield from generator()
    list(Iterator())

def case_traced():
    def values(): yield 1
    def trace(frame, event, _):
        if event == "return" and frame.f_code.co_name == "values": stay()
        return trace
    sys.settrace(trace)
    try: next(values())
    finally: sys.settrace(None)

def case_profiled():
    def values(): yield 1
    def tell(frame, event, _):
        if event == "return" and frame.f_code.co_name == "values": stay()
    sys.setprofile(tell)
    try: next(values())
    finally: sys.setprofile(None)

def case_monitored():
    def values(): yield 1
    if sys.version_info < (3, 12): return stay()
    monitoring = sys.monitoring
    monitoring.use_tool_id(3, "test")
    monitoring.register_callback(3, monitoring.events.PY_YIELD, lambda *_: stay())
    monitoring.set_local_events(3, values.__code__, monitoring.events.PY_YIELD)
    try: next(values())
    finally: monitoring.free_tool_id(3)

def case_frame_kept():
    def values():
        kept.append(sys._getframe())
        stay()
        yield
    kept = []
    next(values())

agent = pyprof_agent.start(heap=False, stack_hz=1000.0, stack_max_cpu=1.0, leak_window=0)
for name, case in list(globals().items()):
    if not name.startswith("case_"):
        continue
    window = agent.begin("profile")
    begin = time.thread_time()
    case()
    profile = window.end()
    seen = right = 0
    for sample in profile.samples:
        if sample.label("thread") != "MainThread":
            continue
        names = [frame.function.rpartition(".")[2] for frame in sample.stack]
        seen += sample.values[0]
        if "stay" in names and name in names and names[-1] == "<module>":
            right += sample.values[0]
    print(name, seen, right)
print("done")
"""


def test_a_thread_that_stays_in_one_is_read() -> None:
    *cases, last = run_python(STAYING).stdout.splitlines()
    assert last == "done"
    assert len(cases) > 25
    for case in cases:
        name, seen, right = case.split()
        assert int(right) > 10, case
        assert int(right) > 0.9 * int(seen), case
