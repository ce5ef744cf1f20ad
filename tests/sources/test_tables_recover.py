"""Full tables of the stack engines: after a burst, and with more threads than labels."""

from __future__ import annotations

import pytest

from pyprof_agent.sources import stacks_native
from tests.support import run_python

ENGINES = [
    pytest.param(
        "native",
        marks=pytest.mark.skipif(
            bool(stacks_native.unusable()), reason=stacks_native.unusable() or "-"
        ),
    ),
    "python",
]
ONE_ENGINE = [ENGINES[0], pytest.param("python", marks=pytest.mark.thorough)]

COMMON = """
import random, sys, threading, time
import pyprof_agent
from pyprof_agent.sources import stack_rows, stacks_native, stacks_python

stacks_python.MAX_CPU_SHARE = 0.5
threading.stack_size(256 * 1024)

def begin(threads=0, **settings):
    waiting = [threading.Thread(target=time.sleep, args=(600,)) for _ in range(threads)]
    for thread in waiting:
        thread.daemon = True
        thread.start()
    return pyprof_agent.start(heap=False, stack_engine=sys.argv[1], **settings)

def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(1000))

def cpu_by_thread(profile):
    found = {}
    for sample in profile.samples:
        name = sample.label("thread")
        found[name] = found.get(name, 0) + sample.values[1] / 1e9
    return found

def raw(agent):
    # Counters of the engine: profiles leave out what is less than nothing.
    return agent._kinds["profile"].source

def check_counters(agent, first):
    later = raw(agent).snapshot()
    window = raw(agent).window(later, first)
    def totals(profile):
        return [sum(column) for column in zip(*[s.values for s in profile.samples])]
    for found, after, before in zip(totals(window), totals(later), totals(first)):
        assert found == after - before, (found, after, before)
    for sample in window.samples:
        # What is left of the process's time for threads without Python is a difference.
        if sample.stack[0].function != "<threads without Python>":
            # Threads that ran when they were seen last have a hit there, and no tick.
            ticks, wall, hits, asleep, cpu = sample.values
            assert min(ticks, wall, hits, cpu) >= 0, sample
"""

BURST = """
stack_rows.MAX_ROWS = 300  # of the Python engine, which would take minutes to fill its table
names = [f"f{i}" for i in range(40)]
space = {"burn": burn}
for name in names:
    exec(f"def {name}(way, depth): "
         f"functions[way % 40](way // 40, depth - 1) if depth else burn(0.0004)", space)
space["functions"] = functions = [space[name] for name in names]

agent = begin(stack_hz=1000.0, stack_max_cpu=1.0, max_frames=128)
idler = threading.Thread(target=time.sleep, args=(600,), daemon=True)
idler.start()
time.sleep(0.5)
first, whole, began = raw(agent).snapshot(), agent.begin("profile"), time.process_time()
wall, wall_began = agent.begin("wall"), time.monotonic()
idler.name = "renamed"
end = time.monotonic() + 90
while not agent.stats()["stacks"]["folded"] and time.monotonic() < end:
    for _ in range(50):  # to ask gives up the GIL: the Python engine would see little else
        functions[0](random.randrange(1 << 600), 70)
print("folded" if agent.stats()["stacks"]["folded"] else agent.stats())

def an_endpoint_added_today():
    burn(1.0)

window = agent.begin("profile")
an_endpoint_added_today()
profile = window.end()
own = sum(
    sample.values[1] / 1e9
    for sample in profile.samples
    if any(frame.function.endswith("an_endpoint_added_today") for frame in sample.stack)
)
print("its own name" if own > 0.8 else cpu_by_thread(profile))
profile, used = whole.end(), time.process_time() - began
seen = sum(cpu_by_thread(profile).values())
print("all of it" if abs(seen - used) < 0.1 * used else (seen, used))
waits, elapsed = wall.end(), time.monotonic() - wall_began
waited = sum(
    s.values[1] / 1e9 for s in waits.samples if s.label("thread_id") == idler.native_id
)
print("all of its wait" if abs(waited - elapsed) < 0.1 * elapsed else (waited, elapsed))
check_counters(agent, first)
folded = {s.stack[0].function for s in profile.samples if s.label("thread") == "MainThread"}
print("<too many stacks>" in folded, any("lost their rows" in text for text in profile.comments))
"""

MANY_SHORT = """
def job():
    time.sleep(0.5)  # so long that it has got a place
    burn(0.003)
    time.sleep(0.5)

def short_ones(count):
    threads = [threading.Thread(target=job) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

def burned(name, seconds):
    thread = threading.Thread(target=burn, args=(seconds,), name=name)
    thread.start()
    thread.join()

agent = begin(stack_max_cpu=0.5)
first, window, began = raw(agent).snapshot(), agent.begin("profile"), time.process_time()
burned("first", 1.0)
for _ in range(2):
    short_ones(300)
burned("payments-worker", 1.0)
time.sleep(1.0)  # names are looked up; nobody has asked for a profile
print(len(stacks_native._labels) < 300)
profile, used = window.end(), time.process_time() - began
found = cpu_by_thread(profile)
print("payments-worker" if found.get("payments-worker", 0) > 0.6 else found)
print(found.get("first", 0) > 0.7)  # it has ended, and what came since has burned less
seen = sum(found.values())
print("all of it" if abs(seen - used) < 0.1 * used else (seen, used))
print(found.get("<other threads>", 0) > 0.8)  # jobs whose places others have
check_counters(agent, first)
"""

MANY_IDLE = """
agent = begin(threads=300)
go = threading.Event()
for number in range(400):
    threading.Thread(target=go.wait, daemon=True, name=f"feeder-{number}").start()
time.sleep(1.0)
window = agent.begin("profile")
# Each asks for a place when it has burned a little: the second not for that of the first.
for name, seconds in [("encoder", 1.5), ("mailer", 0.8)]:
    thread = threading.Thread(target=burn, args=(seconds,), name=name)
    thread.start()
    thread.join()
profile = window.end()
found = cpu_by_thread(profile)
print("encoder" if found.get("encoder", 0) > 0.9 else found)
print("mailer" if found.get("mailer", 0) > 0.4 else found)
labels = {sample.label("thread") for sample in agent.capture("wall").samples}
print(len(labels) < 270, "<other threads>" in labels)
samplers = {"pyprof-stacks", "pyprof-agent-stacks"} & found.keys()
print(agent.stats()["stacks"]["cpu_seconds"] > 0, len(samplers))
go.set()
"""

UNSEEN = """
agent = begin()
thread = threading.Thread(target=burn, args=(1.0,), name="import-job")
thread.start()
thread.join()  # nobody has asked for a profile while it was there
found = cpu_by_thread(agent.capture("profile"))
print("import-job" if found.get("import-job", 0) > 0.5 else found)
"""


def output(engine: str, program: str) -> list[str]:
    result = run_python(COMMON + program, engine, timeout=150)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.mark.parametrize("engine", ONE_ENGINE)
def test_after_a_burst_of_stacks_what_is_new_has_its_own_name(engine: str) -> None:
    assert output(engine, BURST) == [
        "folded",
        "its own name",
        "all of it",
        "all of its wait",
        "True True",
    ]


@pytest.mark.parametrize("engine", ONE_ENGINE)
def test_threads_that_have_ended_leave_their_labels_to_others(engine: str) -> None:
    assert output(engine, MANY_SHORT) == [
        "True",
        "payments-worker",
        "True",
        "all of it",
        "True",
    ]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_busy_thread_has_labels_though_idle_ones_were_there_before(engine: str) -> None:
    assert output(engine, MANY_IDLE) == [
        "encoder",
        "mailer",
        "True True",
        "True 1",
    ]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_thread_that_has_ended_before_anybody_asks_has_its_name(engine: str) -> None:
    assert output(engine, UNSEEN) == ["import-job"]
