"""The native stack engine: what only it does. How true it is: tests/bench/oracle."""

from __future__ import annotations

import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import CodeType

import pytest

from pyprof_agent import Agent, CaptureError, Config, NotRunningError
from pyprof_agent.profile import Label, Profile, subtract
from pyprof_agent.sources import stacks_native
from pyprof_agent.sources.naming import FrameNames
from pyprof_agent.sources.native_rows import UNREADABLE
from pyprof_agent.sources.stack_counters import cpu_profile, wall_profile
from pyprof_agent.sources.stacks_native import NativeStacks
from tests.bench.oracle.judge import surprise
from tests.support import burned_between, repeated, run_python, two_waits

if not stacks_native.unusable():
    from pyprof_agent._native import core

pytestmark = [
    pytest.mark.timing,
    pytest.mark.skipif(bool(stacks_native.unusable()), reason=stacks_native.unusable() or "-"),
]


def engine(hz: float = 500, max_frames: int = 128, look_back: int = 600) -> NativeStacks:
    return NativeStacks(
        FrameNames(), hz=hz, max_cpu=0.5, max_frames=max_frames, look_back=look_back
    )


@pytest.fixture
def stacks() -> Iterator[NativeStacks]:
    stacks = engine()
    stacks.start()
    yield stacks
    stacks.stop()


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(1000))


def of_function(profile: Profile, name: str) -> list[float]:
    """The values of all samples with this function in their stack, added up."""
    rows = [
        sample.values
        for sample in profile.samples
        if any(frame.function.rpartition(".")[2] == name for frame in sample.stack)
    ]
    return [sum(column) for column in zip(*rows, strict=True)] or [0.0, 0.0]


def cpu(stacks: NativeStacks) -> Profile:
    return cpu_profile(stacks.snapshot(), exact_hits=True)


@repeated
def test_the_total_is_the_cpu_time_of_the_process_and_work_is_billed_to_its_function() -> None:
    stacks = engine()
    _, profile, burned = burned_between(stacks.start, lambda: burn(0.5), lambda _: cpu(stacks))
    stacks.stop()
    assert burned.admits(profile.total("cpu") / 1e9, rel=0.01)
    assert of_function(profile, "burn")[1] > 0.9e9 * 0.5


def test_a_thread_that_sleeps_has_wall_time_and_no_cpu_time(stacks: NativeStacks) -> None:
    def rest() -> None:
        time.sleep(1)

    thread = threading.Thread(target=rest, name="sleeper")
    thread.start()
    time.sleep(0.5)
    stacks.snapshot()  # which gives it its name
    thread.join()
    counters = stacks.snapshot()
    wall = of_function(wall_profile(counters), "rest")[1]
    assert 0.8e9 < wall < 1.2e9
    assert of_function(cpu_profile(counters, exact_hits=True), "rest")[1] < 0.01e9


def test_a_thread_that_goes_on_unseen_is_looked_at_again() -> None:
    # At 5 Hz nobody looks while it goes from one wait to the other. The snapshot that comes then
    # reads its CPU clock, so that the next look finds no more time on it.
    stacks = engine(hz=5)
    go = threading.Event()
    over = threading.Event()
    thread = two_waits(go, over, between=lambda: burn(0.02))
    stacks.start()
    thread.start()
    time.sleep(1)
    go.set()
    time.sleep(0.03)
    before = stacks.snapshot()
    time.sleep(1)
    burn(0.1)  # by which it sees that somebody has run, and asks those that were idle
    time.sleep(2)
    later = stacks.snapshot()
    over.set()
    thread.join()
    stacks.stop()
    wall = wall_profile(subtract(later, before))
    assert of_function(wall, "second")[1] > 1.5e9 > of_function(wall, "first")[1]


def test_waiting_and_running_are_told_apart(stacks: NativeStacks) -> None:
    burn(0.3)
    time.sleep(0.3)
    states = {"running": 0.0, "waiting": 0.0}
    for sample in wall_profile(stacks.snapshot()).samples:
        if Label("thread", "MainThread") in sample.labels:
            states[str(sample.labels[-1].value)] += sample.values[1]
    assert states["running"] > 0.2e9
    assert states["waiting"] > 0.2e9


def test_threads_have_their_names_and_numbers() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="idler")
    thread.start()
    stacks = engine()
    stacks.start()
    time.sleep(0.05)
    profile = stacks.snapshot()
    stacks.stop()
    stop.set()
    thread.join()
    assert thread.native_id is not None
    wanted = (Label("thread", "idler"), Label("thread_id", thread.native_id))
    assert wanted in {sample.labels for sample in profile.samples}


def test_deep_stacks_are_cut_at_the_root() -> None:
    def down(depth: int) -> None:
        if depth:
            down(depth - 1)
        else:
            burn(0.2)

    stacks = engine(max_frames=5)
    stacks.start()
    down(500)
    profile = cpu(stacks)
    stacks.stop()
    deep = [s for s in profile.samples if any(f.function.endswith(".down") for f in s.stack)]
    assert deep
    assert {len(sample.stack) for sample in deep} == {6}
    assert {sample.stack[-1].function for sample in deep} == {"<deeper frames cut off>"}


def test_stacks_of_several_chunks_are_whole(stacks: NativeStacks) -> None:
    stacks.stop()
    deep = engine(max_frames=1024)
    deep.start()

    def down(depth: int) -> None:
        if depth:
            down(depth - 1)
        else:
            burn(0.3)

    down(700)
    profile = cpu(deep)
    deep.stop()
    whole = sum(
        sample.values[0]
        for sample in profile.samples
        if sum(frame.function.endswith(".down") for frame in sample.stack) == 701
    )
    assert whole > 0.95 * of_function(profile, "burn")[0] > 10


def test_codes_that_die_before_anybody_asks_have_their_names(stacks: NativeStacks) -> None:
    namespace: dict[str, object] = {"burn": burn}
    for number in range(20):
        exec(f"def made{number}():\n    burn(0.02)\nmade{number}()", namespace)
        del namespace[f"made{number}"]
    filler = [compile(f"x{n} = {n}", "filler", "exec") for n in range(2000)]
    profile = cpu(stacks)
    assert len(filler) == 2000
    seen = [of_function(profile, f"made{number}")[1] > 0 for number in range(20)]
    assert sum(seen) >= 18
    assert not any(sample.stack[0].filename == "filler" for sample in profile.samples)


def test_one_looks_back_at_what_has_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Agent(Config(heap=False, stack_engine="native", look_back=20))
    agent.start()
    try:
        burn(0.2)
        profile = agent.capture("cpu", last=15)  # its beginning: it does not run for as long
        assert of_function(profile, "burn")[1] > 0.15e9
        assert 0.2e9 <= profile.duration_nanos < 10e9
        with pytest.raises(ValueError, match="last is 21; use a positive number up to look_back"):
            agent.capture("cpu", last=21)
        with pytest.raises(ValueError, match="use one of them"):
            agent.capture("cpu", 1, last=2)
        with pytest.raises(CaptureError, match="goroutine cannot look back"):
            agent.capture("goroutine", last=2)
    finally:
        agent.stop()


def test_one_looks_back_to_before_the_machine_was_started(stacks: NativeStacks) -> None:
    burn(0.2)
    for seconds in (600, time.monotonic() + 600):
        window = subtract(cpu(stacks), cpu_profile(stacks.past(seconds), exact_hits=True))
        assert of_function(window, "burn")[1] > 0.15e9


def test_nothing_is_kept_where_nobody_wants_to_look_back() -> None:
    stacks = engine(look_back=0)
    stacks.start()
    with pytest.raises(CaptureError, match="look_back is 0"):
        stacks.past(1)
    stacks.stop()
    with pytest.raises(NotRunningError):
        stacks.snapshot()


@repeated
def test_it_looks_less_often_rather_than_cost_more_than_it_may() -> None:
    stacks = NativeStacks(FrameNames(), hz=1000, max_cpu=0.001, max_frames=64, look_back=0)
    stacks.start()
    burn(1)
    stats, profile = stacks.stats(), stacks.snapshot()
    stacks.stop()
    assert stats["ticks"] < 300
    assert stats["cpu_seconds"] < 0.02
    assert any("as more would cost more than" in comment for comment in profile.comments)


def test_two_engines_share_the_sampler() -> None:
    first, second = engine(), engine()
    first.start()
    second.start()
    burn(0.1)
    first.stop()
    assert of_function(cpu(second), "burn")[1] > 0.05e9
    second.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="CPUs are chosen for Linux")
def test_on_one_cpu_work_is_billed_to_its_function_too(stacks: NativeStacks) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        burn(0.5)
        profile = cpu(stacks)
    finally:
        os.sched_setaffinity(0, before)
    assert of_function(profile, "burn")[1] > 0.45e9


def test_calls_without_end_are_read_as_they_are(stacks: NativeStacks) -> None:
    # Each has one caller that it can have, and the two that call are of one size.
    def leaf() -> None:
        return

    def left() -> None:
        leaf()
        leaf()

    def right() -> None:
        twig()
        leaf()

    def twig() -> None:
        return

    end = time.thread_time() + 1
    while time.thread_time() < end:
        for _ in range(100):
            left()
            right()
    stacks_seen = [
        ([frame.function.rpartition(".")[2] for frame in sample.stack], sample.values[0])
        for sample in cpu(stacks).samples
    ]
    total = sum(count for _, count in stacks_seen)
    wrong = sum(count for names, count in stacks_seen if names[:2] == ["twig", "left"])
    unreadable = sum(count for names, count in stacks_seen if names == [UNREADABLE.function])
    assert total > 100
    assert wrong <= 2
    assert unreadable < 0.05 * total


def test_forks_threads_and_starts_in_rounds_leave_nothing_behind() -> None:
    code = """
    import os, threading, time, warnings
    from tests.sources.test_stacks_native import engine
    import pyprof_agent
    def children():
        return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))
    warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside the thread
    before = children()
    for round in range(100):
        agent = pyprof_agent.start(heap=False, stack_hz=1000)
        thread = threading.Thread(target=sum, args=(range(20000),))
        thread.start()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                agent.capture("cpu")
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        agent.capture("wall")
        thread.join()
        pyprof_agent.stop()
    end = time.monotonic() + 10  # the kernel lists a thread that was joined for a moment more
    while children() != before and time.monotonic() < end:
        time.sleep(0.01)
    assert children() == before, (children(), before)
    print("done")
    """
    assert run_python(code).stdout == "done\n"


def test_functions_that_c_calls_have_their_callers(stacks: NativeStacks) -> None:
    def key(number: int) -> int:
        burn(0.05)
        return number

    def sort() -> None:
        sorted(range(6), key=key)

    sort()
    profile = cpu(stacks)
    chains = [
        [frame.function.rpartition(".")[2] for frame in sample.stack] for sample in profile.samples
    ]
    in_key = [names for names in chains if "key" in names]
    assert in_key
    assert all("sort" in names for names in in_key)
    assert of_function(profile, "key")[1] > 0.2e9


def test_a_thread_that_begins_is_not_taken_for_the_one_that_made_it() -> None:
    stacks = engine(hz=1000)
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait) for _ in range(300)]

    def begin_them() -> None:
        for thread in threads:
            thread.start()
            burn(0.002)

    _, profile, burned = burned_between(stacks.start, begin_them, lambda _: cpu(stacks))
    stacks.stop()
    stop.set()
    for thread in threads:
        thread.join()
    assert burned.admits(profile.total("cpu") / 1e9, rel=0.01)
    waiting = of_function(profile, "wait")[1]
    assert waiting < 0.2e9


# A filter for seccomp(2): load the number of the system call; that of process_vm_readv ends the
# process, or fails; all others are allowed. It is for all threads.
FILTER = """
import ctypes, os, platform, struct, sys, time
import pyprof_agent
kind, when, memory = sys.argv[1:]
numbers = {"x86_64": (310, 317, 257), "aarch64": (270, 277, 56)}[platform.machine()]
refused = [numbers[0]] + [numbers[2]] * (memory == "refused")  # openat, too
action = {"kill": 0x80000000, "refuse": 0x00050001}[kind]

def install():
    checks = [(0x15, len(refused) - n, 0, call) for n, call in enumerate(refused)]
    steps = [(0x20, 0, 0, 0), *checks]
    steps += [(0x06, 0, 0, 0x7fff0000), (0x06, 0, 0, action)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.syscall(numbers[1], 1, 1, program) == 0

def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))

def early():
    spin(0.3)

def late():
    spin(1)

if when == "before":
    install()
agent = pyprof_agent.start(heap=False)
early()
if when == "after":
    install()
window = agent.begin("wall")
late()
profile = window.end()
wall = {"early": 0.0, "late": 0.0, "<unreadable stack>": 0.0}
for sample in profile.samples:
    for name in {frame.function.rpartition(".")[2] for frame in sample.stack} & set(wall):
        wall[name] += sample.values[1] / 1e9
told = any("process_vm_readv is refused" in comment for comment in profile.comments)
print(agent.engines["stacks"], told, max(wall, key=wall.get), wall["early"] < 0.2)
"""


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64"), reason="the numbers of system calls"
)
@pytest.mark.parametrize("action", ["kill", "refuse"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_where_a_filter_forbids_to_read_at_once_it_reads_one_by_one(action: str, when: str) -> None:
    assert run_python(FILTER, action, when, "allowed").stdout == "native True late True\n"


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64"), reason="the numbers of system calls"
)
def test_where_a_filter_forbids_all_reading_no_stale_stack_is_shown() -> None:
    assert run_python(FILTER, "refuse", "after", "refused").stdout == (
        "native True <unreadable stack> True\n"
    )


BY_FILE = (
    FILTER.partition('if when == "before":')[0]
    + """
import os, resource
from pyprof_agent import Agent, Config

def wall(agent):
    profile = agent.capture("wall", 1)
    seconds = {}
    for sample in profile.samples:
        for frame in sample.stack:
            name = frame.function.rpartition(".")[2]
            seconds[name] = seconds.get(name, 0) + sample.values[1] / 1e9
    return seconds
"""
)

FORKED = (
    BY_FILE
    + """
import threading
install()
agent = Agent(Config(heap=False, leak_window=0))  # which has opened its own memory to try
assert agent.engines["stacks"] == "native"

def in_parent(child):
    assert os.waitpid(child, 0)[1] == 0

def in_child():
    agent.start()
    threading.Thread(target=spin, args=(3,), daemon=True).start()
    seconds = wall(agent)
    os._exit(not (seconds.get("spin", 0) > 0.5 and "in_parent" not in seconds))

child = os.fork()
in_parent(child) if child else in_child()
print("done")
"""
)

DESCRIPTORS = (
    BY_FILE
    + """
import threading
agent = Agent(Config(heap=False, leak_window=0))
agent.start()
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, most))
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
install()
spin(0.3)
for each in held:
    os.close(each)
threading.Thread(target=spin, args=(3,), daemon=True).start()
assert wall(agent).get("spin", 0) > 0.5
print("done")
"""
)


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64"), reason="the numbers of system calls"
)
@pytest.mark.parametrize("program", [FORKED, DESCRIPTORS])
def test_where_it_reads_a_file_that_is_its_own_memory_and_opened_again(program: str) -> None:
    assert run_python(program, "refuse", "after", "allowed").stdout == "done\n"


@pytest.mark.parametrize("read", [lambda limit: [], lambda limit: core.own_stack(limit)[:2]])
def test_an_engine_that_reads_too_little_is_not_used(
    monkeypatch: pytest.MonkeyPatch, read: Callable[[int], list[tuple[CodeType, int]]]
) -> None:
    monkeypatch.setattr(core, "own_stack_walked", read)
    assert "does not read" in stacks_native.unusable()


def test_an_agent_may_be_made_deep_in_a_recursion() -> None:
    def made_at(depth: int) -> str:
        return made_at(depth - 1) if depth else stacks_native.unusable()

    assert "so deep a recursion" in made_at(sys.getrecursionlimit() - 150)


def test_threads_that_ended_unseen_have_their_own_cpu_time_each(stacks: NativeStacks) -> None:
    # Divided among all of them by samples, that of the lazy one would be a matter of luck.
    def busy() -> None:
        burn(0.6)

    def lazy() -> None:
        for _ in range(600):
            time.sleep(0.001)

    threads = [threading.Thread(target=work) for work in (busy, lazy)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    profile = cpu(stacks)
    seen = []
    for thread in threads:
        assert thread.native_id is not None
        label = Label("thread_id", thread.native_id)
        rows = [sample.values[1] for sample in profile.samples if label in sample.labels]
        assert rows
        seen.append(sum(rows) / 1e9)
    assert 0.3 < seen[0] < 0.7
    assert seen[1] < 0.1


def test_ten_overlapping_captures_are_as_right_as_a_lone_one() -> None:
    def often() -> None:
        burn(0.02)

    def seldom() -> None:
        burn(0.01)

    agent = Agent(Config(heap=False, stack_engine="native", stack_hz=500, stack_max_cpu=0.5))
    agent.start()
    profiles: list[Profile] = []

    def capture(wait: float, seconds: float) -> None:
        time.sleep(wait)
        profiles.append(agent.capture("cpu", seconds))

    spans = [(0.07 * number, 0.5 + 0.2 * (number * 7 % 10)) for number in range(10)]
    threads = [threading.Thread(target=capture, args=span) for span in spans]
    for thread in threads:
        thread.start()
    begin, in_often, longest = time.thread_time(), 0.0, 0.0
    while any(thread.is_alive() for thread in threads):
        before = time.thread_time()
        often()
        in_often += time.thread_time() - before
        longest = max(longest, time.thread_time() - before)
        seldom()
    truth = in_often / (time.thread_time() - begin)
    agent.stop()
    assert len(profiles) == 10
    for profile in profiles:
        of_both = of_function(profile, "often"), of_function(profile, "seldom")
        samples = sum(values[0] for values in of_both)
        share = of_both[0][1] / sum(values[1] for values in of_both)
        assert samples > 20
        # A window may have a turn more of one than of the other.
        turn = longest * 1e9 / sum(values[1] for values in of_both)
        assert surprise(share, truth, samples, bias=turn) < 18


# Each thread that begins has the list of all threads read anew.
CHURN = """
import sys, threading, time
import pyprof_agent

threading.stack_size(65536)
over = threading.Event()
for _ in range(int(sys.argv[1])):
    threading.Thread(target=over.wait, daemon=True).start()
agent = pyprof_agent.start(heap=False, stack_max_cpu=0.5, leak_window=0)

def looks():
    stats = agent.stats()["stacks"]
    return stats["ticks"], stats["cpu_seconds"]

ticks, cpu = looks()
while looks()[0] < ticks + 30:
    thread = threading.Thread(target=time.time)
    thread.start()
    thread.join()
    time.sleep(0.001)
end = looks()
print((end[1] - cpu) / (end[0] - ticks))
over.set()
"""


@repeated
def test_the_cost_of_a_look_grows_as_the_threads_do() -> None:
    few, many = (float(run_python(CHURN, str(threads)).stdout) for threads in (200, 1600))
    assert many / few < 8 * 2.5  # a list searched for each thread would make it 64
