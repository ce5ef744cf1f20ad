"""A child process of tests: garbage where the stack sampler looks, in this process's own memory.

python -m tests.native.poking LIBRARY walk     the words one by one, looked at at once
python -m tests.native.poking LIBRARY hold HZ  beside the sampling thread
python -m tests.native.poking LIBRARY dealloc  other code hooks what frees code objects
"""

from __future__ import annotations

import ctypes
import gc
import sys
import time

from pyprof_agent import Agent, Config
from pyprof_agent._native import core

WORD = 2**64
HEADER = 80
"""Bytes of a frame's header, or nearly, on every version."""

JUST_BELOW_THE_END = tuple(range(-8, -96, -8))
THIRTEEN = (1, 0x1238, -4096, -1, 0x7FFF_FFFF_FFE8, *JUST_BELOW_THE_END[:8])
EDGES = (
    *(0, 1, 7, 8, HEADER, 0x1000, 0x4000, 2**31, 2**32 - 8),
    *(2**47 - 8, 2**47, 2**63 - 8, 2**63, 2**63 + 8),
    *(-1, -7, -4096, -4096 - HEADER, -16384, -16384 - HEADER, *JUST_BELOW_THE_END),
)
"""Where sums and differences of addresses wrap, or an address space ends."""

STEPS = (-16384, -4096, -1024, -HEADER, -8, -1, 1, 4, 8, HEADER, 1024, 4096, 16384)


def value(address: int) -> int:
    """The word that is there now."""
    return ctypes.c_uint64.from_address(address).value


def load(path: str) -> ctypes.PyDLL:
    """The library, with the types of its functions."""
    library = ctypes.PyDLL(path)
    library.poke_place.argtypes = [ctypes.c_int, ctypes.c_void_p]
    library.poke_place.restype = ctypes.c_void_p
    library.poke_call.argtypes = [ctypes.c_uint64, ctypes.c_uint64, *[ctypes.py_object] * 2]
    library.poke_call.restype = ctypes.py_object
    library.poke_hold.argtypes = [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_double]
    library.poke_hold.restype = None
    return library


def walk(library: ctypes.PyDLL) -> None:
    """Edges, and what is a little off from what is there and elsewhere."""
    found: list[int] = []
    name = ctypes.c_char_p()
    # Here and not in a function: its frame would be gone when it is poked.
    while address := library.poke_place(len(found), ctypes.byref(name)):
        found.append(address)
    values = {*EDGES, id(EDGES), id(walk.__code__), id(walk), id(b""), id("")}
    values |= {value(address) + step for address in found for step in (0, *STEPS)}
    read = failed = 0
    for address in found:
        for garbage in values:
            if library.poke_call(address, garbage % WORD, core.own_stack_walked, 100):
                read += 1
            else:
                failed += 1
    print(f"{read + failed} walks")
    assert min(read, failed) > 1000, (read, failed)  # or it was not looked at


def hold(library: ctypes.PyDLL, hz: float) -> None:
    """The thirteen values that were tried when it was seen to crash, and more for other words."""
    agent = Agent(Config(heap=False, stack_engine="native", stack_hz=hz))
    agent.start()
    name = ctypes.c_char_p()
    top = library.poke_place(0, ctypes.byref(name))
    assert name.value == b"current_frame"
    for garbage in THIRTEEN:
        library.poke_hold(top, garbage % WORD, max(0.1, 10 / hz))
    print("13 values for current_frame survived")
    number = 1
    while address := library.poke_place(number, ctypes.byref(name)):
        number += 1
        for garbage in (1, 0x1238, -8, -HEADER, 2**47 - 8, value(address) + 8):
            library.poke_hold(address, garbage % WORD, max(0.005, 1 / hz))
    window = agent.begin("cpu")
    end = time.thread_time() + 0.3
    while time.thread_time() < end:
        sum(range(1000))
    seen = sum(
        sample.values[1]
        for sample in window.end().samples
        if any(frame.function.endswith(".hold") for frame in sample.stack)
    )
    assert agent.stats()["stacks"]["unreadable"] > 0
    agent.stop()
    assert seen > 0.1e9, seen
    print("and it samples as before")


def dealloc(library: ctypes.PyDLL) -> None:
    """Starts and stops below another hook, and code that dies all the while."""
    for turn in range(3):
        agent = Agent(Config(heap=False, stack_engine="native", stack_hz=1000))
        agent.start()
        for number in range(2000):
            exec(f"sum(range({number}))")
        agent.capture("cpu")
        if turn == 0:
            library.poke_dealloc()
        agent.stop()
        for number in range(100):
            exec(f"sum(range({number}))")
    print("done")


def main() -> None:
    """Poke as the arguments say."""
    gc.disable()
    library = load(sys.argv[1])
    if sys.argv[2] == "walk":
        walk(library)
    elif sys.argv[2] == "dealloc":
        dealloc(library)
    else:
        hold(library, float(sys.argv[3]))


if __name__ == "__main__":
    main()
